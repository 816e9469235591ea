// A file as the body of every response: deno run -A (or bun) examples/node_http.ts FILE [PORT]
//
// In Deno, later writes wait for the transfer. In Bun nothing else may write to the response until it resolves.
import { sendfile } from "@zerocopy/sendfile";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";

const [file, port = "9000"] = process.argv.slice(2);

const server = createServer(async (request, response) => {
  try {
    if (!response.socket) await once(response, "socket"); // pipelined: the earlier response is still being sent
    const { size } = await stat(file);
    response.writeHead(200, { "Content-Length": size, "Content-Type": "application/octet-stream" });
    response.flushHeaders();
    const count = request.method === "HEAD" ? 0 : size;
    const sent = count > 0 ? await sendfile(response.socket!, file, { count }) : 0;
    if (sent < count) throw new Error("the file became shorter than the head says");
    response.end();
    console.log(`${sent} bytes`);
  } catch (error) {
    console.error((error as Error).message);
    if (response.headersSent) response.destroy();
    else response.writeHead(500).end();
  }
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
