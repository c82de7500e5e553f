// NAME URL switched|default warm|cold: a GET if warm, then a DELETE.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Agent } from 'node:http';

const [name, url, mode, start] = process.argv.slice(2);
const switched = mode === 'switched';
const headers = { Authorization: 'HMAC-SHA256 one' };
const from = createRequire(process.cwd() + '/');
const load = async (module) => import(pathToFileURL(from.resolve(module)));
const clients = {
  async fetch(method) {
    await (await fetch(url, { method, headers })).text();
  },
  async got(method) {
    const { default: got } = await load('got');
    await got(url, { method, headers, agent: { http: agent }, ...(switched && { retry: { limit: 0 } }) });
  },
  async ky(method) {
    const { default: ky } = await load('ky');
    await ky(url, { method, headers, ...(switched && { retry: 0 }) }).text();
  },
  async axios(method) {
    const { default: axios } = await load('axios');
    await axios({ url, method, headers, httpAgent: agent });
  },
};
const agent = new Agent({ keepAlive: true });
if (start === 'warm') await clients[name]('GET');
await clients[name]('DELETE').catch(() => {});
process.exit(0);
