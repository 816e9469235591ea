/**
 * Uses the installed package as a program does, and prints what came of it as JSON. Run by Node.js (which takes the
 * types off), by Bun, by what Bun bundles and compiles, and by Deno.
 */
import { sendfile, SendfileRegion, sendfileStats, whyNotSendfile } from "@zerocopy/sendfile";
import { serveDir } from "@zerocopy/sendfile/http";
import { serveStatic } from "@zerocopy/sendfile/node";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, get } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const directory = mkdtempSync(join(tmpdir(), "consumer-"));
const bytes = new Uint8Array(300_000).map((_, index) => (index * 7 + (index >> 8)) % 251);
writeFileSync(join(directory, "file.bin"), bytes);

function hash(...parts: Uint8Array[]): string {
  return parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");
}

function same(name: string, actual: string, expected: string): string {
  if (actual !== expected) throw new Error(`${name}: other bytes than the file's`);
  return "same bytes";
}

/** What a client gets from a node:net server that sends the file. */
async function throughSocket(): Promise<string> {
  const via: string[] = [];
  const server = createServer((socket: Socket) => {
    sendfile(socket, new SendfileRegion(join(directory, "file.bin"), 10), {
      header: bytes.subarray(0, 10),
      onStart: (start) => via.push(start.via),
    }).finally(() => socket.end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const chunks: Uint8Array[] = [];
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  for await (const chunk of client) chunks.push(chunk);
  await new Promise((resolve) => server.close(resolve));
  return `${same("socket", hash(...chunks), hash(bytes))} by ${via}`;
}

/** What `serveDir` answers. */
async function throughHandler(): Promise<string> {
  const request = new Request("http://localhost/file.bin", { headers: { range: "bytes=5-70000" } });
  const response = await serveDir(request, { fsRoot: directory, quiet: true });
  if (response.status !== 206) throw new Error(`serveDir: status ${response.status}`);
  const body = new Uint8Array(await response.arrayBuffer());
  return same("serveDir", hash(body), hash(bytes.subarray(5, 70_001)));
}

/** What a client gets from a node:http server with `serveStatic`. */
async function throughNode(): Promise<string> {
  const server = createHttpServer(serveStatic(directory));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const chunks = await new Promise<Uint8Array[]>((resolve, reject) => {
    get({ host: "127.0.0.1", port, path: "/file.bin", agent: false }, async (response) => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of response) chunks.push(chunk);
      resolve(chunks);
    }).on("error", reject);
  });
  await new Promise((resolve) => server.close(resolve));
  return same("serveStatic", hash(...chunks), hash(bytes));
}

try {
  console.log(JSON.stringify({
    off: whyNotSendfile(),
    socket: await throughSocket(),
    handler: await throughHandler(),
    node: await throughNode(),
    native: sendfileStats().sendfile.bytes,
  }));
} finally {
  rmSync(directory, { recursive: true });
}
process.exit(0); // what keeps a client's connection open is not ours to wait for
