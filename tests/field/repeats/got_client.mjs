// got with its defaults: retry.limit 2, a second before the first. Reads "target<TAB>header" lines, prints "status request-id-of-the-first".
import {createRequire} from 'node:module';
import {readFileSync} from 'node:fs';
import {Agent} from 'node:http';
import {pathToFileURL} from 'node:url';

const [base, modules, atOnce] = process.argv.slice(2);
const {default: got} = await import(pathToFileURL(createRequire(modules + '/').resolve('got')));
const agent = {http: new Agent({keepAlive: true})};
const lines = readFileSync(0, 'utf8').trim().split('\n').map(line => line.split('\t'));
const said = [];
let next = 0;

async function work() {
	while (next < lines.length) {
		const at = next++;
		const [target, authorization] = lines[at];
		try {
			const {statusCode, headers} = await got.delete(base + target, {headers: {authorization}, agent, throwHttpErrors: false});
			said[at] = `${statusCode} ${headers['x-saltgate-repeat-of'] ?? '-'}`;
		} catch (error) {
			said[at] = `0 ${error.code}`;
		}
	}
}

await Promise.all(Array.from({length: Number(atOnce)}, work));
console.log(said.join('\n'));
