/**
 * Serves files with `sendFile` under node:http.
 *
 *   deno run -A http_sendfile.ts DIR
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { sendFile } from "../http/node.ts";
import { hostname, pad } from "./fields.mjs";

const directory = process.argv[2];
// No Cache-Control, which the other servers do not send.
const options = { cacheControl: false, headers: Object.entries(pad).map((field) => field.join(": ")) };

const server = createServer((request, response) => {
  void sendFile(request, response, directory + request.url, options);
});
// No `Keep-Alive: timeout=…` either.
server.keepAliveTimeout = 0;
server.listen(0, hostname, () => console.log((server.address() as AddressInfo).port));
