/** `--unix`: the static server on a unix socket. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { join } from "@std/path";
import * as fs from "node:fs";
import * as net from "node:net";
import process from "node:process";
import { isBun, test } from "../support/harness.ts";
import { assertSame, request } from "../support/http_client.ts";
import { MIB, Server, Site } from "../support/site.ts";

/** All that comes for a request on the socket at `path`. */
function receive(path: string, text: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path });
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("error", reject);
    socket.once("end", () => resolve(Buffer.concat(chunks)));
    socket.write(text);
  });
}

const CLOSE = "Connection: close\r\n";

async function onSocket(
  body: (path: string, site: Site, start: (...args: string[]) => Promise<Server>) => Promise<void>,
): Promise<void> {
  const site = new Site();
  const servers: Server[] = [];
  const path = join(site.base, "http.sock");
  const start = async (...args: string[]) => {
    const server = new Server({ args: ["--unix", path, ...args, site.root] });
    servers.push(server);
    await server.line(/^zero-copy: /);
    return server;
  };
  try {
    await body(path, site, start);
  } finally {
    for (const server of servers) await server.stop();
    fs.rmSync(site.base, { recursive: true });
  }
}

test("serve --unix sends every file on a unix socket, and removes the socket behind it", () =>
  onSocket(async (path, site, start) => {
    const server = await start();
    assertEquals(server.lines[1], `unix:${path}`);
    for (const [target, content] of site.files) {
      const reply = await receive(path, request(target, { fields: CLOSE }));
      assertSame(reply.subarray(reply.indexOf("\r\n\r\n") + 4), content, target);
    }
    const way = isBun ? "sendfile" : "copy (Deno does not expose the descriptor of a unix socket)";
    assertEquals(server.lines[2], isBun ? "zero-copy: on" : `zero-copy: off (${way.slice(6, -1)})`);
    const line = await server.line(new RegExp(`GET /${20 * MIB}\\.bin`));
    assert(line.endsWith(` - GET /${20 * MIB}.bin 200 ${20 * MIB} ${way}`), line);
    process.kill(server.child.pid!, "SIGTERM");
    assertEquals(await server.exit(), 0);
    assertEquals(fs.existsSync(path), false);
    assertEquals(server.errors, "");
  }));

test("serve --unix takes the place of a socket that a killed server has left", () =>
  onSocket(async (path, site, start) => {
    await (await start()).stop();
    assert(fs.lstatSync(path).isSocket());
    await start();
    const reply = await receive(path, request("/4096.bin", { fields: CLOSE }));
    assertSame(reply.subarray(reply.indexOf("\r\n\r\n") + 4), site.files.get("/4096.bin")!, "the body");
  }));

test("serve --unix does not replace the socket of a running server, or anything but a socket", () =>
  onSocket(async (path, site, start) => {
    await start();
    const second = new Server({ args: ["--unix", path, site.root] });
    try {
      assertEquals(await second.exit(), 1);
      assertEquals(second.errors, `error: cannot listen on ${path}: another server listens there\n`);
    } finally {
      await second.stop();
    }
    assert((await receive(path, request("/1.bin", { fields: CLOSE }))).includes("200 OK"));
    const file = site.path("4096.bin");
    const third = new Server({ args: ["--unix", file, site.root] });
    try {
      assertEquals(await third.exit(), 1);
      assertEquals(third.errors, `error: cannot listen on ${file}: another file has this name\n`);
    } finally {
      await third.stop();
    }
    assertSame(fs.readFileSync(file), site.files.get("/4096.bin")!, "the file");
  }));

test("serve --unix does not remove the socket of its successor", () =>
  onSocket(async (path, _site, start) => {
    const first = await start();
    fs.renameSync(path, `${path}.old`);
    await start();
    process.kill(first.child.pid!, "SIGTERM");
    assertEquals(await first.exit(), 0);
    assert((await receive(path, request("/1.bin", { fields: CLOSE }))).includes("200 OK"));
  }));

test("serve refuses --unix beside flags that are about a port", async () => {
  for (
    const args of [["-p", "1"], ["--host", "::"], ["--workers", "2"], ["--tls-cert", "x", "--tls-key", "x"]]
  ) {
    const server = new Server({ args: ["--unix", "/tmp/none", ...args] });
    try {
      assertEquals(await server.exit(), 2);
      assert(/^error: --unix cannot be used with --[a-z-]+\n$/.test(server.errors), server.errors);
    } finally {
      await server.stop();
    }
  }
});
