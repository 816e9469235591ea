/**
 * One transfer in a process of its own, over a connection to itself; what came of it is printed as JSON. The file
 * is the first argument; where there is a C library the socket's buffer is small, so that the transfer must wait.
 */
import * as net from "node:net";
import * as fs from "node:fs";
import process from "node:process";
import type { SendfileStart } from "../../mod.ts";

// The package under test: these sources, or a copy of them in another shape.
const root = process.argv[3] ?? new URL("../..", import.meta.url).href;
const extension = process.argv[4] ?? ".ts";
const { canUseSendfile, sendfile, sendfileStats, whyNotSendfile } = await import(`${root}mod${extension}`);
const { libc } = await import(`${root}ffi/load${extension}`);
const { findConnection } = await import(`${root}ffi/find${extension}`);

function shrink(socket: net.Socket): void {
  const c = libc();
  if (typeof c === "string") return;
  const local = c.parseEndpoint(socket.localAddress!, socket.localPort!);
  const remote = c.parseEndpoint(socket.remoteAddress!, socket.remotePort!);
  c.setOption(findConnection(c, { local, remote }), 1, 7, 32768);
}

const path = process.argv[2];
const starts: SendfileStart[] = [];
const server = net.createServer(async (socket) => {
  shrink(socket);
  const sent = await sendfile(socket, path, { onStart: (start: SendfileStart) => starts.push(start) });
  socket.end();
  server.close();
  console.log(JSON.stringify({
    arch: process.arch,
    can: canUseSendfile(),
    why: whyNotSendfile() ?? null,
    sent,
    starts,
    stats: sendfileStats(),
  }));
});
server.listen(0, "127.0.0.1", () => {
  const expected = fs.readFileSync(path);
  const client = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  let at = 0;
  client.on("data", (chunk: Uint8Array) => {
    if (expected.compare(chunk, 0, chunk.length, at, at + chunk.length) !== 0) {
      throw new Error(`wrong bytes at ${at}`);
    }
    at += chunk.length;
  });
  client.on("end", () => {
    if (at !== expected.length) throw new Error(`${at} bytes, expected ${expected.length}`);
    client.end();
  });
});
// Nothing here ends the process: it must end by itself.
