// A download with a progress bar, at the sender's terminal: deno run -A (or bun) examples/progress_bar.ts FILE [PORT]
//
// Open the URL in a browser or with curl -O. The program ends once somebody has the whole file.
import { progress } from "@clack/prompts";
import { sendfile } from "@zerocopy/sendfile";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { basename } from "node:path";
import process from "node:process";

const [path, port = "9000"] = process.argv.slice(2);
const name = basename(path);

async function send(response: ServerResponse): Promise<void> {
  if (!response.socket) await once(response, "socket"); // pipelined: the response before it is still under way
  const file = await open(path);
  try {
    const { size } = await file.stat();
    response.writeHead(200, {
      "Content-Length": size,
      "Content-Type": "application/octet-stream",
      "Connection": "close",
    });
    response.flushHeaders();
    const bar = progress({ max: Math.max(size, 1) });
    bar.start(`0 of ${size} bytes`);
    let shown = 0;
    try {
      const sent = size === 0 ? 0 : await sendfile(response.socket!, file, {
        count: size,
        timeout: 60_000,
        onProgress(sent) {
          bar.advance(sent - shown, `${sent} of ${size} bytes`);
          shown = sent;
        },
      });
      if (sent < size) throw new Error("the file became shorter");
      response.end();
      bar.stop(`all ${size} bytes sent`);
    } catch (error) {
      bar.error(`broke off after ${shown} bytes`);
      throw error;
    }
  } finally {
    await file.close();
  }
}

let isBusy = false;

const server = createServer(async (request, response) => {
  if (request.method !== "GET") return void response.writeHead(405, { Allow: "GET" }).end();
  if (isBusy) return void response.writeHead(503, { "Retry-After": "10" }).end("one download at a time\n");
  isBusy = true;
  try {
    await send(response);
    server.close();
  } catch (error) {
    console.error((error as Error).message); // the client left, or there is no such file
    if (response.headersSent) response.destroy();
    else response.writeHead(500).end();
  } finally {
    isBusy = false;
  }
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/${encodeURIComponent(name)}`);
});
