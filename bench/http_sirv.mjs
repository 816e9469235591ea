/**
 * Serves files with sirv under node:http in Node.js, and the header fields of the package's servers.
 *
 *   node http_sirv.mjs DIR PATH
 *
 * PATH is the path of sirv's main file. sirv lists the directory once, when it starts.
 */
import { createServer } from "node:http";
import process from "node:process";
import { fields, hostname, pad } from "./fields.mjs";

const [directory, path] = process.argv.slice(2);
const { default: sirv } = await import(path);

function setHeaders(response) {
  for (const [name, value] of Object.entries({ ...fields, ...pad })) response.setHeader(name, value);
}

const server = createServer(sirv(directory, { etag: true, setHeaders }));
server.keepAliveTimeout = 0; // no `Keep-Alive: timeout=…`, which the other servers do not send
server.listen(0, hostname, () => console.log(server.address().port));
