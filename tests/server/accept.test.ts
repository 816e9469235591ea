/** Connections that are over before they are accepted: no server and no accept loop that we show may mind them. */
import { assert, assertEquals } from "@std/assert";
import { join, resolve } from "@std/path";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import { isExhausted } from "../../sockets/exhausted.ts";
import { planDirectory } from "../../http/directory.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import { FileServer } from "../../server/server.ts";
import { Warnings } from "../../server/warnings.ts";
import { DATA, descriptors } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { connectAndReset, noRawClient } from "../support/raw_client.ts";
import { noProc, Server, until } from "../support/site.ts";

/** As many as kept the server from answering for 30 s. Fewer at once than the shortest queue of a listener. */
const BURSTS = 6;
const BURST = 50;

/** Connections that are reset before this process, or the one that listens, can accept them. */
async function burst(port: number): Promise<void> {
  for (let i = 0; i < BURSTS; i++) {
    connectAndReset(port, BURST);
    await new Promise((resolve) => setTimeout(resolve));
  }
}

function folderOf(files: Record<string, string | Uint8Array>): string {
  const root = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "accept-")));
  for (const [name, content] of Object.entries(files)) fs.writeFileSync(join(root, name), content);
  return root;
}

function socketsOpen(): number {
  return noProc ? 0 : descriptors().filter((text) => text.includes("socket:")).length;
}

test("FileServer answers behind 300 connections that were reset before it could accept them", async () => {
  const root = folderOf({ "a.txt": "this is a" });
  const resolved = resolveDirectoryOptions({});
  const errors: unknown[] = [];
  const warnings: string[] = [];
  const server = new FileServer({
    resolved,
    plan: (request) => planDirectory(request, resolved, root, parseTarget(request.target)),
    onError: (error) => errors.push(error),
    onWarning: (line) => warnings.push(line),
  });
  const before = socketsOpen();
  try {
    const port = server.listen({ host: "127.0.0.1", port: 0, shared: false });
    await burst(port);
    assertEquals(String((await ask(port, "/a.txt")).body), "this is a");
    await until(() => socketsOpen() <= before + 1, "all connections to be closed");
    await burst(port);
    assertEquals(String((await ask(port, "/a.txt")).body), "this is a");
    assertEquals(errors, []);
    // Bun accepts such a connection, and closes it again.
    const expected = isBun ? [] : ["a connection could not be accepted: ENOTCONN"];
    assertEquals(warnings.map((line) => line.split(": ").slice(0, 2).join(": ")), expected);
  } finally {
    server.close();
    fs.rmSync(root, { recursive: true });
  }
  await until(() => socketsOpen() <= before, "all sockets to be closed");
}, { skip: noRawClient });

test("the static server answers behind connections that were reset before it could accept them", async () => {
  const root = folderOf({ "a.txt": "this is a" });
  const server = new Server({ args: ["-p", "0", "--host", "127.0.0.1", root] });
  try {
    await server.listening();
    await ask(server.port, "/a.txt");
    const before = noProc ? 0 : await until(() => server.descriptors(), "its descriptors");
    // The child accepts meanwhile; stopped, it cannot.
    for (let i = 0; i < BURSTS; i++) {
      process.kill(server.child.pid!, "SIGSTOP");
      connectAndReset(server.port, BURST);
      process.kill(server.child.pid!, "SIGCONT");
      assertEquals(String((await ask(server.port, "/a.txt")).body), "this is a");
    }
    if (!noProc) await until(() => server.descriptors() <= before, "its descriptors to be as before");
    const lines = server.errors.trim().split("\n").filter(Boolean);
    assert(
      lines.every((line) => line.startsWith("a connection could not be accepted: ENOTCONN")),
      server.errors,
    );
    assertEquals(lines.length, isBun ? 0 : 1, server.errors);
  } finally {
    await server.stop();
    fs.rmSync(root, { recursive: true });
  }
}, { skip: noRawClient });

test("isExhausted knows what has run out from what concerns one connection", () => {
  for (const code of ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]) {
    assert(isExhausted(Object.assign(new Error(), { code })), code);
  }
  for (const code of ["ENOTCONN", "ECONNABORTED", "ECONNRESET", "EPROTO", "EPERM", "ENETDOWN", undefined]) {
    assert(!isExhausted(Object.assign(new Error(), { code })), code);
  }
});

test("Warnings writes a line of each kind once a minute, and how many it left out", () => {
  const real = performance.now;
  const lines: string[] = [];
  const warnings = new Warnings((line) => lines.push(line));
  try {
    let now = 1000;
    performance.now = () => now;
    for (let i = 0; i < 3; i++) warnings.warn("a", "A");
    warnings.warn("b", "B");
    now += 59_999;
    warnings.warn("a", "A");
    assertEquals(lines, ["A", "B"]);
    now += 1;
    warnings.warn("a", "A");
    warnings.warn("b", "B");
    assertEquals(lines, ["A", "B", "A (and 3 times more since the last such line)", "B"]);
  } finally {
    performance.now = real;
  }
});

/** A program that sends a file to each client, as it runs on this runtime. */
class Sender {
  readonly child: ChildProcess;
  output = "";
  ended = false;

  constructor(script: string, ...args: string[]) {
    const runtime = isBun ? [] : ["run", "-A", "--no-check", "--node-modules-dir=none", "--no-prompt"];
    const cwd = resolve(import.meta.dirname!, "../..");
    this.child = spawn(process.execPath, [...runtime, script, ...args], {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (text) => this.output += text);
    }
    this.child.once("close", () => this.ended = true);
  }

  port(): Promise<number> {
    return until(() => {
      assert(!this.ended, `it has ended: ${this.output}`);
      return Number(/port (\d+)\n/.exec(this.output)?.[1] ?? 0) || undefined;
    }, `the port in ${this.output}`);
  }

  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await until(() => this.ended, "the end of the program");
  }
}

/** All that comes on a connection. */
function received(port: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    net.connect(port, "127.0.0.1")
      .on("data", (chunk: Buffer) => chunks.push(chunk))
      .on("end", () => resolve(Buffer.concat(chunks)))
      .on("error", reject);
  });
}

/** A client that takes the first bytes and resets the connection in the middle. */
function leave(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("data", () => socket.resetAndDestroy());
    socket.once("close", () => resolve());
    socket.once("error", reject);
  });
}

/** Each of these clients would have ended a careless program; the last one still gets the file. */
async function assertServes(sender: Sender, content: Uint8Array): Promise<void> {
  try {
    const port = await sender.port();
    for (let i = 0; i < 3; i++) {
      process.kill(sender.child.pid!, "SIGSTOP"); // stopped, it cannot accept before they are reset
      connectAndReset(port, BURST);
      process.kill(sender.child.pid!, "SIGCONT");
      assert((await received(port)).equals(content), "other bytes came");
      await leave(port);
    }
    assert((await received(port)).equals(content), "other bytes came");
    assert(!sender.ended, sender.output);
  } finally {
    await sender.stop();
  }
}

/** More than the sockets between two processes hold. */
const LARGE = Buffer.concat(Array.from({ length: 12 }, () => DATA));

for (const [only, name] of [["deno", "tcp_deno.ts"], ["bun", "tcp_bun.ts"]] as const) {
  test(`examples/${name} goes on behind clients that reset`, async () => {
    const root = folderOf({ "file.bin": LARGE });
    try {
      await assertServes(new Sender(`examples/${name}`, join(root, "file.bin"), "0"), LARGE);
    } finally {
      fs.rmSync(root, { recursive: true });
    }
  }, { only, skip: noRawClient });
}

test("the reference's first program goes on behind clients that reset", async () => {
  const root = folderOf({ "video.mp4": LARGE });
  const here = resolve(import.meta.dirname!, "../..");
  const [, shown] = /```ts\n([^]*?)```/.exec(fs.readFileSync(join(here, "docs/reference.md"), "utf8"))!;
  const program = shown
    .replace('"@zerocopy/sendfile"', JSON.stringify(new URL("../../mod.ts", import.meta.url).href))
    .replace('"video.mp4"', JSON.stringify(join(root, "video.mp4")))
    .replace(
      /(const listener = .*)port: 8080(.*\n)/,
      "$1port: 0$2console.log(`port ${listener.addr.port}`);\n",
    );
  const script = join(here, "tests", `reference_${process.pid}.ts`);
  try {
    fs.writeFileSync(script, program); // here, so that it is under this configuration
    await assertServes(new Sender(script), LARGE);
  } finally {
    fs.rmSync(script, { force: true });
    fs.rmSync(root, { recursive: true });
  }
}, { only: "deno", skip: noRawClient });
