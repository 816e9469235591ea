/** How many descriptors a process holds for clients that take nothing of a large file. */
import { assert, assertEquals } from "@std/assert";
import { join, resolve } from "@std/path";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import { isBun, test } from "../support/harness.ts";
import { request } from "../support/http_client.ts";
import { CLI, MIB, noProc, until } from "../support/site.ts";

/** More than the sockets between two processes hold. */
const SIZE = 24 * MIB;

/** Stalled downloads whose descriptors are counted. */
const STALLED = 8;

/** Milliseconds between two counts, and how many must agree. */
const LOOK = 50;
const AGREEING = 6;

/** Runs `args` on this runtime; resolves to the child and its port. */
async function start(args: string[]): Promise<{ child: ChildProcess; port: number; ended(): boolean }> {
  const runtime = isBun ? [] : ["run", "-A", "--no-check", "--node-modules-dir=none", "--no-prompt"];
  const child = spawn(process.execPath, [...runtime, ...args], {
    cwd: resolve(import.meta.dirname!, "../.."),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let ended = false;
  for (const stream of [child.stdout!, child.stderr!]) stream.on("data", (text) => output += text);
  child.once("close", () => ended = true);
  const port = await until(() => {
    assert(!ended, `it has ended: ${output}`);
    return Number(/(?:port |127\.0\.0\.1:)(\d+)/.exec(output)?.[1] ?? 0) || undefined;
  }, `the port in ${output}`);
  return { child, port, ended: () => ended };
}

/** A client that has got the first bytes and takes no more. */
function stall(port: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("error", reject);
    socket.once("data", () => {
      socket.pause();
      resolve(socket);
    });
    socket.write(request("/file.bin"));
  });
}

/** Descriptors of a process, once their number does not change any more. */
async function settled({ pid }: ChildProcess): Promise<number> {
  let count = -1;
  for (let agreed = 0; agreed < AGREEING;) {
    const now = fs.readdirSync(`/proc/${pid}/fd`).length;
    agreed = now === count ? agreed + 1 : 0;
    count = now;
    await new Promise((resolve) => setTimeout(resolve, LOOK));
  }
  return count;
}

/**
 * By kind of server, descriptors for a stalled download. A file that the package has opened needs no duplicate; a
 * socket does, unless the package's own server has accepted it: whoever else has, closes it at any moment.
 */
const EXPECTED: Record<string, number> = {
  "static server": 2,
  "sendfile of a path": 3,
  "node:http": 3,
  // Bun.serve sends the file itself. Under Deno.serve the server keeps its own descriptor until the response ends.
  "fetch handler": isBun ? 2 : 3,
};

const CHILD = "tests/children/server.ts";

for (const [kind, expected] of Object.entries(EXPECTED)) {
  test(`${kind}: a stalled download holds ${expected} descriptors`, async () => {
    const root = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "descriptors-")));
    const file = join(root, "file.bin");
    fs.writeFileSync(file, "");
    fs.truncateSync(file, SIZE);
    const { child, port, ended } = await start(
      {
        "static server": [CLI, "-p", "0", "--host", "127.0.0.1", root],
        "sendfile of a path": [CHILD, "socket", file],
        "node:http": [CHILD, "node", file],
        "fetch handler": [CHILD, "fetch", file],
      }[kind]!,
    );
    const clients: net.Socket[] = [];
    try {
      clients.push(await stall(port)); // what is made once, such as the poller, is there from here on
      const before = await settled(child);
      for (let i = 0; i < STALLED; i++) clients.push(await stall(port));
      assertEquals(((await settled(child)) - before) / STALLED, expected);
      assert(!ended());
    } finally {
      for (const client of clients) client.destroy();
      child.kill("SIGKILL");
      await until(ended, "the end of the server");
      fs.rmSync(root, { recursive: true });
    }
  }, { skip: noProc });
}
