// The service for Node, with its defaults. Each deletion takes 10 ms.
import {createServer} from 'node:http';

const body = '{"deleted":true}';
const server = createServer((request, response) => {
	request.resume();
	setTimeout(() => response.writeHead(200, {'content-type': 'application/json', 'content-length': body.length}).end(body), 10);
});
server.listen(Number(process.argv[2]), '127.0.0.1');
