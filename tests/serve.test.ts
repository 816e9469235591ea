import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join, resolve } from "@std/path";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import { contentType } from "../http/types.ts";
import { isBun, test } from "./harness.ts";

const CLI = resolve(import.meta.dirname!, "../cli.ts");

/** Milliseconds after which something that must come has not come. */
const DEADLINE = 20_000;

const MIB = 1024 * 1024;

/** Sizes around an empty body, a page, a read buffer, Bun's threshold for sendfile, a socket buffer. */
const SIZES = [0, 1, 4096, 65537, MIB + 3, 20 * MIB];

const LARGE = `/${20 * MIB}.bin`;
const WAY = isBun ? "native" : "sendfile";

function missing(command: string): string | undefined {
  return spawnSync(command, ["--version"]).error ? `no ${command}` : undefined;
}

const noProc = fs.existsSync("/proc/self/fd") ? undefined : "no /proc";

async function until<T>(look: () => T | undefined | false, what: string): Promise<T> {
  for (const end = Date.now() + DEADLINE; Date.now() < end;) {
    const seen = look();
    if (seen !== undefined && seen !== false) return seen;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`waited in vain for ${what}`);
}

/** A directory `root` to serve, beside a secret. */
class Site {
  readonly base = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "serve-")));
  readonly root = join(this.base, "root");
  readonly files = new Map<string, Buffer>();

  constructor() {
    fs.mkdirSync(this.root);
    fs.writeFileSync(join(this.base, "secret.txt"), "SECRET");
    for (const size of SIZES) this.add(`${size}.bin`, randomBytes(size));
    this.add("index.html", "<h1>index</h1>");
  }

  path(name: string): string {
    return join(this.root, name);
  }

  add(name: string, content: string | Buffer): void {
    fs.mkdirSync(resolve(this.path(name), ".."), { recursive: true });
    fs.writeFileSync(this.path(name), content);
    this.files.set(`/${name}`, Buffer.from(content));
  }
}

interface StartOptions {
  args?: string[];
  /** Before the runtime's own command. */
  before?: string[];
  /** Deno's permission flags. */
  permissions?: string[];
}

/** cli.ts in a child of this runtime, as it writes lines. */
class Server {
  readonly lines: string[] = [];
  readonly child: ChildProcess;
  errors = "";
  /** The exit code, once all of its output has been read. */
  code: number | null | undefined;
  port = 0;

  constructor({ args = [], before = [], permissions = ["-A"] }: StartOptions) {
    const runtime = isBun ? [] : ["run", ...permissions];
    const [command, ...rest] = [...before, process.execPath, ...runtime, CLI, ...args];
    this.child = spawn(command, rest, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    this.child.stdout!.on("data", (bytes) => {
      const lines = (text + bytes).split("\n");
      text = lines.pop()!;
      this.lines.push(...lines);
    });
    this.child.stderr!.on("data", (bytes) => this.errors += bytes);
    this.child.once("close", (code) => this.code = code);
  }

  async listening(): Promise<void> {
    await this.line(/^zero-copy: /);
    this.port = Number(/:(\d+)\/$/.exec(this.lines[1])![1]);
  }

  line(pattern: RegExp): Promise<string> {
    return until(
      () => this.lines.find((line) => pattern.test(line)),
      `${pattern} among\n${this.lines.join("\n")}`,
    );
  }

  /** Descriptors that the process has open. */
  descriptors(): number {
    return fs.readdirSync(`/proc/${this.child.pid}/fd`).length;
  }

  /** Files below `directory` that the process has open. */
  held(directory: string): string[] {
    if (noProc || this.code !== undefined) return [];
    return fs.readdirSync(`/proc/${this.child.pid}/fd`).map((fd) => {
      try {
        return fs.readlinkSync(`/proc/${this.child.pid}/fd/${fd}`);
      } catch {
        return ""; // closed meanwhile
      }
    }).filter((path) => path.startsWith(directory));
  }

  exit(): Promise<number | null> {
    return until(() => this.code, "the exit");
  }

  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exit();
  }
}

/** Runs `body` with a server of a fresh site, whatever it does to them. */
async function serving(
  body: (server: Server, site: Site) => Promise<void>,
  options: StartOptions & { prepare?: (site: Site) => void } = {},
): Promise<void> {
  const site = new Site();
  try {
    options.prepare?.(site);
    const server = new Server({ ...options, args: ["-p", "0", "--host", "127.0.0.1", site.root] });
    try {
      await server.listening();
      await body(server, site);
      assertEquals(server.errors, "");
      await until(() => server.held(site.root).length === 0, "the server to close its files");
    } finally {
      await server.stop();
    }
  } finally {
    fs.rmSync(site.base, { recursive: true });
  }
}

interface Reply {
  status: number;
  head: string;
  headers: Record<string, string>;
  body: Buffer;
}

/** One connection, with what came on it and was not looked at yet. */
class Client {
  readonly socket: net.Socket;
  #chunks: Buffer[] = [];
  #ended = false;
  #wake = () => {};

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#wake();
    });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    socket.on("error", end);
    socket.on("close", end);
    socket.on("end", end);
  }

  static async to(port: number): Promise<Client> {
    const socket = net.connect(port, "127.0.0.1");
    const client = new Client(socket);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return client;
  }

  send(...requests: string[]): void {
    this.socket.write(requests.join(""), "latin1");
  }

  #joined(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #length(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  async #more(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error("no more bytes came")), DEADLINE);
    this.#wake = resolve;
    await promise.finally(() => clearTimeout(timer));
  }

  async #take(count: number): Promise<Buffer> {
    while (this.#length() < count) {
      if (this.#ended) throw new Error(`the connection ended ${count - this.#length()} bytes early`);
      await this.#more();
    }
    const all = this.#joined();
    this.#chunks = all.length > count ? [all.subarray(count)] : [];
    return all.subarray(0, count);
  }

  /** The next response; `bodiless`: to a HEAD request. */
  async reply({ bodiless = false } = {}): Promise<Reply> {
    let end: number;
    while ((end = this.#joined().indexOf("\r\n\r\n")) < 0) {
      if (this.#ended) throw new Error(`the connection ended in a head: ${this.#joined()}`);
      await this.#more();
    }
    const head = (await this.#take(end + 4)).toString("latin1");
    const [first, ...fields] = head.trimEnd().split("\r\n");
    const headers = Object.fromEntries(
      fields.map((field) => [field.split(":")[0].toLowerCase(), field.slice(field.indexOf(":") + 2)]),
    );
    const length = bodiless ? 0 : Number(headers["content-length"]);
    return { status: Number(first.split(" ")[1]), head, headers, body: await this.#take(length) };
  }

  /** Waits for the first bytes, and reads no more. */
  async begun(): Promise<void> {
    while (this.#length() === 0) {
      if (this.#ended) throw new Error("the connection ended");
      await this.#more();
    }
    this.socket.pause();
  }

  /** All until the other side ends the connection. */
  async rest(): Promise<Buffer> {
    while (!this.#ended) await this.#more();
    return this.#joined();
  }

  close(): void {
    this.socket.destroy();
  }
}

function request(target: string, { method = "GET", version = "1.1", fields = "" } = {}): string {
  return `${method} ${target} HTTP/${version}\r\nHost: test\r\n${fields}\r\n`;
}

/** The whole of what a connection brings for one request. */
async function ask(
  port: number,
  target: string,
  options: Parameters<typeof request>[1] = {},
): Promise<Reply> {
  const client = await Client.to(port);
  try {
    client.send(request(target, { ...options, fields: `Connection: close\r\n${options.fields ?? ""}` }));
    const reply = await client.reply({ bodiless: options.method === "HEAD" });
    assertEquals((await client.rest()).length, 0, `more came than the Content-Length of ${target}`);
    return reply;
  } finally {
    client.close();
  }
}

function assertSame(actual: Buffer, expected: Buffer, what: string): void {
  assert(actual.equals(expected), `${what}: ${actual.length} bytes came, ${expected.length} are right`);
}

test("serve says where and how", () =>
  serving((server, { root }) => {
    assertEquals(server.lines.slice(0, 3), [
      `Serving ${root}`,
      `http://127.0.0.1:${server.port}/`,
      isBun ? "zero-copy: on (Bun.serve's own, from 1 MiB up)" : "zero-copy: on",
    ]);
    return Promise.resolve();
  }), { skip: process.platform === "linux" ? undefined : "the third line differs" });

for (const size of SIZES) {
  test(`serve sends a file of ${size} bytes, its head exact`, () =>
    serving(async ({ port }, site) => {
      const reply = await ask(port, `/${size}.bin`);
      assertEquals(reply.status, 200);
      assertSame(reply.body, site.files.get(`/${size}.bin`)!, "the body");
      const { date: _, connection: __, "content-disposition": ___, ...headers } = reply.headers;
      assertEquals(headers, {
        "content-length": String(size),
        "content-type": "application/octet-stream",
        "last-modified": fs.statSync(site.path(`${size}.bin`)).mtime.toUTCString(),
      });
      const head = await ask(port, `/${size}.bin`, { method: "HEAD" });
      assertEquals(head.status, 200);
      assertEquals(head.headers["content-length"], String(size));
      assertEquals(head.headers["last-modified"], headers["last-modified"]);
    }));
}

test("serve keeps a connection through files, errors and HEAD", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    try {
      for (let round = 0; round < 3; round++) {
        for (const [target, content] of site.files) {
          client.send(request(target));
          const { status, body } = await client.reply();
          assertEquals(status, 200);
          assertSame(body, content, target);
          client.send(request(target, { method: "HEAD" }));
          assertEquals(
            (await client.reply({ bodiless: true })).headers["content-length"],
            `${content.length}`,
          );
          client.send(request("/missing"));
          assertEquals((await client.reply()).status, 404);
        }
      }
    } finally {
      client.close();
    }
  }));

for (const [where, at] of [["first", 0], ["in the middle", 2], ["last", 4]] as const) {
  const targets = ["/1.bin", "/4096.bin", "/0.bin", "/missing"];
  targets.splice(at, 0, LARGE);

  test(
    `serve answers pipelined requests in order, the large file ${where}`,
    () =>
      serving(async ({ port }, site) => {
        const client = await Client.to(port);
        try {
          client.send(...targets.map((target) => request(target)));
          for (const target of targets) {
            const { status, body } = await client.reply();
            assertEquals(status, target === "/missing" ? 404 : 200);
            if (status === 200) assertSame(body, site.files.get(target)!, target);
          }
          client.send(request("/1.bin"));
          assertEquals((await client.reply()).status, 200);
        } finally {
          client.close();
        }
      }),
    {
      skip: isBun && where !== "last" ? "oven-sh/bun#38128: Bun closes the connection" : undefined,
    },
  );
}

test("serve answers HEAD between pipelined requests", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    try {
      client.send(request("/1.bin"), request(LARGE, { method: "HEAD" }), request("/4096.bin"));
      assertSame((await client.reply()).body, site.files.get("/1.bin")!, "first");
      assertEquals((await client.reply({ bodiless: true })).headers["content-length"], String(20 * MIB));
      assertSame((await client.reply()).body, site.files.get("/4096.bin")!, "last");
    } finally {
      client.close();
    }
  }));

test("serve cuts off who asks for thousands of answers at once", () =>
  serving(async ({ port }) => {
    const client = await Client.to(port);
    client.send(request(LARGE).repeat(5000));
    await client.rest();
    client.close();
    assertEquals((await ask(port, "/1.bin")).status, 200);
  }), { only: "deno" });

test("serve ends the connection after Connection: close and after HTTP/1.0", () =>
  serving(async ({ port }, site) => {
    for (const target of ["/4096.bin", LARGE]) {
      for (const options of [{ fields: "Connection: close\r\n" }, { version: "1.0" }]) {
        const client = await Client.to(port);
        client.send(request(target, options));
        assertSame((await client.reply()).body, site.files.get(target)!, target);
        assertEquals((await client.rest()).length, 0);
        client.close();
      }
    }
  }));

test("serve keeps an HTTP/1.0 connection that asks for it", () =>
  serving(async ({ port }) => {
    const client = await Client.to(port);
    for (let i = 0; i < 3; i++) {
      client.send(request("/4096.bin", { version: "1.0", fields: "Connection: keep-alive\r\n" }));
      assertEquals((await client.reply()).body.length, 4096);
    }
    client.close();
  }), { skip: isBun ? "Bun.serve ends HTTP/1.0 connections" : undefined });

test("serve sends index.html for a directory, and redirects to its slash", () =>
  serving(async ({ port }, site) => {
    site.add("sub/index.html", "sub");
    site.add("a b%/index.html", "odd");
    fs.mkdirSync(site.path("bare"));
    fs.mkdirSync(site.path("nested/index.html"), { recursive: true });
    const replies: Record<string, [number, string | undefined]> = {
      "/": [200, undefined],
      "/?q": [200, undefined],
      "/sub/": [200, undefined],
      "/sub": [301, "/sub/"],
      "/sub?a=/../b&c=%2f": [301, "/sub/?a=/../b&c=%2f"],
      "/a%20b%25": [301, "/a%20b%25/"],
      "/a%20b%25/": [200, undefined],
      "/bare": [301, "/bare/"],
      "/bare/": [404, undefined],
      "/nested/": [404, undefined],
      "/index.html/": [404, undefined],
      "/sub/index.html/x": [404, undefined],
      "http://other.example/sub?q": [301, "/sub/?q"],
      "http://other.example": [200, undefined],
    };
    for (const [target, expected] of Object.entries(replies)) {
      const { status, headers } = await ask(port, target);
      assertEquals([status, headers.location], expected, target);
    }
    assertEquals(String((await ask(port, "/sub/")).body), "sub");
    assertEquals((await ask(port, "/sub/")).headers["content-type"], "text/html; charset=utf-8");
  }));

test("serve refuses what is malformed, missing or not GET, in one plain line", () =>
  serving(async ({ port }) => {
    const refused: [string, string, number][] = [
      ["GET", "/missing", 404],
      ["HEAD", "/missing", 404],
      ["GET", "/%", 400],
      ["GET", "/%zz", 400],
      ["GET", "/%00", 400],
      ["GET", "/index.html%00.txt", 400],
      ["GET", "/%ff", 400],
      ["GET", "/%c0%ae%c0%ae/secret.txt", 400],
      ["GET", "/%ed%a0%80", 400],
      ["GET", `/${"a".repeat(300)}`, 400],
      ["GET", `/${"a/".repeat(3000)}`, isBun ? 400 : 404], // Deno's realpath gives up at the first name
      ["POST", "/", 405],
      ["PUT", "/index.html", 405],
      ["DELETE", "/index.html", 405],
      ["OPTIONS", "/", 405],
      ["TRACE", "/", 405],
    ];
    for (const [method, target, status] of refused) {
      const reply = await ask(port, target, {
        method,
        fields: method === "POST" ? "Content-Length: 0\r\n" : "",
      });
      assertEquals(reply.status, status, `${method} ${target}`);
      assertEquals(reply.headers.allow, status === 405 ? "GET, HEAD" : undefined);
      if (method !== "HEAD") assert(/^\d{3} [A-Z][A-Za-z ]+\n$/.test(String(reply.body)), String(reply.body));
    }
  }));

test("serve never leaves the root, in whatever spelling", () =>
  serving(async (server, site) => {
    site.add("dir/file.txt", "inside");
    const climbs = [
      "..",
      "%2e%2e",
      "%2E.",
      ".%2e",
      "..%2f..",
      "..%5c..",
      "..\\..",
      "%252e%252e",
      "..%00",
      "..;",
    ];
    const targets = climbs.flatMap((climb) => [
      `/${climb}/secret.txt`,
      `/dir/${climb}/${climb}/secret.txt`,
      `/${climb}%2fsecret.txt`,
      `/${climb}%5csecret.txt`,
      `/${climb}\\secret.txt`,
      `/dir/${climb}\\${climb}\\secret.txt`,
      `http://test/${climb}/secret.txt`,
    ]);
    targets.push(
      "//secret.txt",
      "/%2fetc/passwd",
      "//etc/passwd",
      `/${site.base}/secret.txt`,
      `/%2f${site.base.slice(1)}/secret.txt`,
      "/root/../../secret.txt",
      "/dir%2ffile.txt",
      "/dir%5cfile.txt",
      "/file:///etc/passwd",
      "/~root/",
      "/C:/secret.txt",
    );
    for (const target of targets) {
      const { status, body } = await ask(server.port, target);
      assert(status === 404 || status === 400, `${target}: ${status}`);
      assert(!body.includes("SECRET") && !body.includes("inside"), target);
    }
  }));

test("serve never redirects to another host", () =>
  serving(async ({ port }, site) => {
    fs.mkdirSync(site.path("evil.example"));
    const targets = ["//evil.example", "///evil.example", "/\\evil.example", "/%5cevil.example"];
    targets.push("/%2fevil.example", "//evil.example/..", "/./evil.example", "/.//evil.example");
    targets.push("http://test//evil.example", "http://x@evil.example//evil.example");
    for (const target of targets) {
      const { status, headers } = await ask(port, target);
      // Bun has cleaned the URL before the handler sees it.
      const inside = isBun && headers.location === "/evil.example/";
      assert(inside || (status === 404 && headers.location === undefined), `${target}: ${headers.location}`);
    }
  }));

test("serve follows symlinks inside the root, and none out of it", () =>
  serving(async ({ port }, site) => {
    site.add("dir/file.txt", "inside");
    fs.mkdirSync(join(site.base, "root-beside"));
    fs.writeFileSync(join(site.base, "root-beside/index.html"), "SECRET");
    const links: [string, string, number][] = [
      ["in.txt", "dir/file.txt", 200],
      ["absolute.txt", site.path("dir/file.txt"), 200],
      ["out.txt", "../secret.txt", 404],
      ["etc.txt", "/etc/passwd", 404],
      ["up", "..", 404],
      ["beside", "../root-beside", 404],
      ["null", "/dev/null", 404],
      ["broken", "nowhere", 404],
      ["loop", "loop", 404],
    ];
    for (const [name, target, status] of links) {
      fs.symlinkSync(target, site.path(name));
      const { status: actual, body } = await ask(port, `/${name}`);
      assertEquals(actual, status, name);
      assertEquals(String(body), status === 200 ? "inside" : "404 Not Found\n");
    }
    for (const target of ["/up/secret.txt", "/up/", "/beside/", "/beside/index.html"]) {
      assertEquals((await ask(port, target)).status, 404, target);
    }
    fs.mkdirSync(site.path("linked"));
    fs.symlinkSync("../../secret.txt", site.path("linked/index.html"));
    assertEquals((await ask(port, "/linked/")).status, 404);
    fs.symlinkSync("dir", site.path("link"));
    assertEquals((await ask(port, "/link")).headers.location, "/link/");
    assertEquals((await ask(port, "/link/file.txt")).status, 200);
  }));

test("serve takes a root that is a symlink itself", async () => {
  await serving(async ({ port }) => {
    assertEquals((await ask(port, "/real.txt")).status, 200);
    assertEquals((await ask(port, "/")).status, 404);
  }, {
    prepare(site) {
      fs.renameSync(site.root, join(site.base, "old"));
      fs.mkdirSync(join(site.base, "target"));
      fs.writeFileSync(join(site.base, "target/real.txt"), "x");
      fs.symlinkSync("target", site.root);
    },
  });
});

test("serve shows no dotfiles but .well-known", () =>
  serving(async ({ port }, site) => {
    site.add(".env", "SECRET");
    site.add(".git/config", "SECRET");
    site.add("dir/.hidden/file.txt", "SECRET");
    site.add(".well-known/security.txt", "Contact: x");
    for (const target of ["/.env", "/%2eenv", "/.git/config", "/.git", "/.git/", "/dir/.hidden/file.txt"]) {
      assertEquals((await ask(port, target)).status, 404, target);
    }
    assertEquals((await ask(port, "/.well-known/security.txt")).status, 200);
  }));

test("serve does not wait for a FIFO, nor open a socket", () =>
  serving(async ({ port }, site) => {
    assertEquals(spawnSync("mkfifo", [site.path("pipe")]).status, 0);
    const listener = net.createServer().listen(site.path("socket"));
    await new Promise((resolve) => listener.once("listening", resolve));
    try {
      for (const target of ["/pipe", "/socket"]) {
        for (const method of ["GET", "HEAD"]) assertEquals((await ask(port, target, { method })).status, 404);
      }
    } finally {
      listener.close();
    }
  }), { skip: missing("mkfifo") });

test(
  "serve survives clients that leave in the middle, and keeps no descriptor",
  () =>
    serving(async (server, site) => {
      for (let i = 0; i < 3; i++) await ask(server.port, LARGE); // whatever is opened once and kept, is
      const before = await settled(server);
      const clients = await Promise.all(Array.from({ length: 20 }, () => Client.to(server.port)));
      await Promise.all(clients.map((client, i) => {
        // Every other one with more requests behind, which will never have their turn.
        client.send(request(LARGE).repeat(i % 2 === 0 || isBun ? 1 : 5));
        return client.begun();
      }));
      clients.forEach(({ socket }, i) => i % 3 === 0 ? socket.resetAndDestroy() : socket.destroy());
      await until(() => server.descriptors() <= before, `${before} descriptors, not ${server.descriptors()}`);
      assertSame((await ask(server.port, LARGE)).body, site.files.get(LARGE)!, "afterwards");
      if (!isBun) await server.line(/^GET \/20971520.bin 200 \d+ sendfile \(the client left\)$/);
    }),
  { skip: noProc },
);

/** The count of descriptors, once no connection is left. */
function settled(server: Server): Promise<number> {
  const sockets = () => {
    const directory = `/proc/${server.child.pid}/net/tcp`;
    const port = server.port.toString(16).toUpperCase().padStart(4, "0");
    return fs.readFileSync(directory, "latin1").split("\n").filter((line) =>
      new RegExp(`^ *\\d+: \\w+:${port} \\w+:\\w+ 0[18]`).test(line)
    ).length;
  };
  return until(() => sockets() === 0 && server.descriptors(), "the connections to be closed");
}

test(
  "serve ends the connection where a file becomes shorter on the way",
  () =>
    serving(async (server, site) => {
      const client = await Client.to(server.port);
      client.send(request(LARGE), request("/1.bin"));
      await client.begun();
      fs.truncateSync(site.path(`${20 * MIB}.bin`), 0);
      client.socket.resume();
      const all = await client.rest();
      const body = all.subarray(all.indexOf("\r\n\r\n") + 4);
      assert(body.length < 20 * MIB);
      assertSame(body, site.files.get(LARGE)!.subarray(0, body.length), "what came");
      assertEquals((await ask(server.port, "/1.bin")).status, 200);
      await server.line(/^GET \/20971520.bin 200 \d+ sendfile \(the file became shorter\)$/);
    }),
  { skip: isBun ? "Bun.serve lets it stall until its idleTimeout" : undefined },
);

test("serve sends no more than was promised where a file grows on the way", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    client.send(request(LARGE, { fields: "Connection: close\r\n" }));
    await client.begun();
    fs.appendFileSync(site.path(`${20 * MIB}.bin`), randomBytes(MIB));
    client.socket.resume();
    assertSame((await client.reply()).body, site.files.get(LARGE)!, "the body");
    assertEquals((await client.rest()).length, 0);
  }));

test("serve logs the way of each body, and lets nobody write in its log", () =>
  serving(async (server) => {
    await ask(server.port, `${LARGE}?q=1`);
    await ask(server.port, "/0.bin");
    await ask(server.port, "/1.bin", { method: "HEAD" });
    await ask(server.port, "/missing%0aGET%1b");
    await server.line(/^GET \/missing/);
    assertEquals(server.lines.slice(3), [
      `GET ${LARGE}?q=1 200 ${20 * MIB} ${WAY}`,
      "GET /0.bin 200 0 -",
      "HEAD /1.bin 200 0 -",
      "GET /missing%0aGET%1b 404 14 -",
    ]);
  }));

test("serve copies without --allow-ffi, says so and asks nobody", () =>
  serving(async (server, site) => {
    for (const target of ["/1.bin", "/65537.bin", LARGE]) {
      assertSame((await ask(server.port, target)).body, site.files.get(target)!, target);
    }
    assertStringIncludes(server.lines[2], "zero-copy: off (no permission: run with --allow-ffi");
    await server.line(/^GET \/20971520\.bin 200 20971520 copy \(no permission: run with --allow-ffi/);
  }, { permissions: ["--no-prompt", "--allow-net", "--allow-read", "--allow-env"] }), { only: "deno" });

test("serve gives curl what the files hold", () =>
  serving(async ({ port }, site) => {
    const urls = [...site.files.keys()].flatMap((target) => [`http://127.0.0.1:${port}${target}`, "-o", "-"]);
    const { stdout, code } = await run("curl", ["-sSf", ...urls]);
    assertEquals(code, 0);
    assertEquals(sha256(stdout), sha256(Buffer.concat([...site.files.values()])));
  }), { skip: missing("curl") });

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function run(command: string, args: string[]): Promise<{ stdout: Buffer; code: number | null }> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"] });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk) => chunks.push(chunk));
  const timer = setTimeout(() => child.kill("SIGKILL"), 2 * DEADLINE);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  return { stdout: Buffer.concat(chunks), code };
}

const PAGE = `<!doctype html>
<link rel="stylesheet" href="style.css">
<p id="p">not yet</p><img id="i" src="dot.png">
<script src="script.js"></script>`;

const SCRIPT = `addEventListener("load", () => {
  const color = getComputedStyle(document.querySelector("p")).color;
  document.querySelector("p").textContent = "color " + color + ", image " + document.images[0].naturalWidth;
});`;

const DOT =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

test("serve shows chromium a page with its style, script and image", () =>
  serving(async ({ port }, site) => {
    site.add("page/index.html", PAGE);
    site.add("page/style.css", `p { color: rgb(1, 2, 3) } /* ${"x".repeat(MIB)} */`);
    site.add("page/script.js", SCRIPT);
    site.add("page/dot.png", Buffer.from(DOT, "base64"));
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
    flags.push("--disable-background-networking", "--disable-component-update", "--disable-sync");
    flags.push(`--user-data-dir=${join(site.base, "profile")}`, "--dump-dom");
    const { stdout } = await run("chromium", [...flags, `http://127.0.0.1:${port}/page`]);
    assertStringIncludes(String(stdout), "color rgb(1, 2, 3), image 1");
  }), { skip: missing("chromium") });

test("serve lets the body's bytes go by sendfile(2)", async () => {
  const trace = join(fs.mkdtempSync(join(tmpdir(), "strace-")), "trace");
  const calls = "trace=sendfile,write,writev,sendto,sendmsg,splice";
  try {
    await serving(async (server) => {
      assertEquals((await ask(server.port, LARGE)).status, 200);
      await server.line(/ sendfile$/);
    }, { before: ["strace", "-D", "-f", "-s", "0", "-e", calls, "-o", trace] });
    // The tracer, which is nobody's child, writes on for a moment.
    const lines = await until(() => {
      const text = fs.readFileSync(trace, "utf8");
      return /\+\+\+ (killed|exited)/.test(text) && text.split("\n");
    }, "the end of the trace");
    const moved = (pattern: RegExp) =>
      lines.filter((line) => pattern.test(line))
        .reduce((sum, line) => sum + Number(/ = (\d+)$/.exec(line)?.[1] ?? 0), 0);
    assertEquals(moved(/\bsendfile\b/), 20 * MIB);
    assert(moved(/\b(write|writev|sendto|sendmsg|splice)\b/) < MIB);
  } finally {
    fs.rmSync(resolve(trace, ".."), { recursive: true });
  }
}, { only: "deno", skip: missing("strace") });

const usage: [string, string[], number, RegExp][] = [
  ["an unknown flag", ["--nonsense"], 2, /^error: Unknown option '--nonsense' \(see --help\)\n$/],
  [
    "a port that is none",
    ["-p", "http"],
    2,
    /^error: --port must be a number from 0 to 65535, not "http"\n$/,
  ],
  ["a port out of range", ["-p", "65536"], 2, /^error: --port must be .*\n$/],
  ["a flag without its value", ["--port"], 2, /^error: .*--port.*\n$/],
  ["two directories", ["a", "b"], 2, /^error: one directory at most, not 2\n$/],
  ["a missing directory", ["/no/such/place"], 1, /^error: there is no directory \/no\/such\/place\n$/],
  ["a file as directory", [CLI], 1, /^error: .*cli\.ts is not a directory\n$/],
  ["a host that is not here", ["--host", "192.0.2.77", "-p", "0", "."], 1, /^error: cannot listen on .*\n$/],
];

for (const [what, args, code, message] of usage) {
  test(`serve refuses ${what}`, async () => {
    const server = new Server({ args });
    try {
      assertEquals(await server.exit(), code);
      assert(message.test(server.errors), server.errors);
      assertEquals(server.lines, []);
    } finally {
      await server.stop();
    }
  });
}

test("serve refuses a port in use", async () => {
  const holder = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => holder.once("listening", resolve));
  const { port } = holder.address() as net.AddressInfo;
  const server = new Server({ args: ["-p", String(port), "--host", "127.0.0.1", import.meta.dirname!] });
  try {
    assertEquals(await server.exit(), 1);
    assertEquals(server.errors, `error: cannot listen on 127.0.0.1:${port}: the port is in use\n`);
  } finally {
    await server.stop();
    holder.close();
  }
});

test("serve prints its help", async () => {
  const server = new Server({ args: ["--help"] });
  try {
    assertEquals(await server.exit(), 0);
    assertStringIncludes(server.lines.join("\n"), "--port");
  } finally {
    await server.stop();
  }
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`serve ends on ${signal}, also in the middle of a response`, () =>
    serving(async (server) => {
      const client = await Client.to(server.port);
      client.send(request(LARGE));
      await client.begun();
      process.kill(server.child.pid!, signal); // Deno tells no exit code after child.kill
      assertEquals(await server.exit(), 0);
      client.close();
    }));
}

test("contentType goes by the extension", () => {
  assertEquals(contentType("/a/index.html"), "text/html; charset=utf-8");
  assertEquals(contentType("a.b/STYLE.CSS"), "text/css; charset=utf-8");
  assertEquals(contentType("app.mjs"), "text/javascript; charset=utf-8");
  assertEquals(contentType("app.wasm"), "application/wasm");
  assertEquals(contentType("icon.svg"), "image/svg+xml");
  for (const path of ["README", "a.unheard-of", ".bashrc", "a.", "html"]) {
    assertEquals(contentType(path), "application/octet-stream", path);
  }
});
