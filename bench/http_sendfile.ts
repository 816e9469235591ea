/**
 * Files by `sendFile`, under node:http.
 *
 *   deno run -A http_sendfile.ts DIR
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { sendFile } from "../http/node.ts";

const directory = process.argv[2];

const server = createServer((request, response) => void sendFile(request, response, directory + request.url));
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
