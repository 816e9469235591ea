/** What tests/node.test.ts runs on Node.js: a server of the folder that is its argument. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { serveStatic } from "../../http/node.ts";

const server = createServer(serveStatic(process.argv[2], { onSent: ({ way }) => console.log(`way ${way}`) }));
server.listen(0, "127.0.0.1", () => console.log(`port ${(server.address() as AddressInfo).port}`));
