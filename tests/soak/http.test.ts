/**
 * Many connections at once to every kind of server, with everything drawn by lot: what arrives is what was asked for,
 * byte for byte and in order, or where an end was made of it a prefix of that.
 */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import * as net from "node:net";
import process from "node:process";
import { setImmediate } from "node:timers";
import { libc as loadLibc } from "../../ffi/load.ts";
import { planPath, type ResponsePlan } from "../../http/file_response.ts";
import { planDirectory } from "../../http/directory.ts";
import { serveDir, serveFile } from "../../http/mod.ts";
import { sendFile, type Sent, serveStatic } from "../../http/node.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import type { Head as RequestHead } from "../../server/request_head.ts";
import { FileServer } from "../../server/server.ts";
import { assertBytes, bytes, descriptors, folder, openBelow, until } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { type BunGlobal, FAILED } from "../support/http_servers.ts";
import { ask, assertSame, DEADLINE, type Reply, type Span } from "../support/http_client.ts";

/** Requests in all. SOAK=20000 by hand. */
const REQUESTS = Number(process.env.SOAK ?? 1500);
/** The first connection's seed; each has the next. SEED=1234 SOAK=1 plays one alone. */
const SEED = Number(process.env.SEED ?? 1000);
/** Requests of one test, which has a minute. */
const ROUND = 2500;
const AT_ONCE = 48;

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZES = [
  ...[0, 1, 1000, 4 * KIB, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 100_000],
  ...[128 * KIB - 1, 128 * KIB, 128 * KIB + 1, MIB - 1, MIB, MIB + 1, 5 * MIB],
];
/** Up to so much Bun.serve takes a request behind a body; behind more it ends the connection (oven-sh/bun#38128). */
const PIPELINED = 16 * KIB;

/** Where all that is not a file's comes from, and the files that change. */
const POOL = Buffer.from(bytes(8 * MIB, 77));
/** Two files of each size. */
const CONTENT = SIZES.flatMap((size, i) => [bytes(size, 100 + i), bytes(size, 200 + i)]);

type Draw = (below: number) => number;

/** Numbers that look like chance and are the same in every run (mulberry32). */
function lot(seed: number): Draw {
  return (below) => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) % below;
  };
}

/** So many turns of the loop. */
async function turns(count: number): Promise<void> {
  for (; count > 0; count--) await new Promise((resolve) => setImmediate(resolve));
}

// What is served

interface File {
  readonly name: string;
  readonly content: Uint8Array;
  tag: string;
  type: string;
}

/** A file whose name gets other bytes all the time. No two versions are of one size, so that a head tells which. */
class Changing {
  readonly #path: string;
  readonly #truncates: boolean;
  readonly #versions = new Map<number, { content: Uint8Array; truncated: boolean }>();
  readonly #draw: Draw;
  #current: number;
  #changing: Promise<void> | undefined;

  constructor(root: string, readonly name: string, { truncates = false, seed = 1 }) {
    this.#path = join(root, name);
    this.#truncates = truncates;
    this.#draw = lot(seed);
    this.#versions.set(0, { content: new Uint8Array(), truncated: false }); // a truncated one's
    const first = this.#make();
    this.#current = first.length;
    fs.writeFileSync(this.#path, first);
    fs.writeFileSync(`${this.#path}.new`, this.#make());
  }

  #make(): Uint8Array {
    const size = [100_000, 100_000, 3 * MIB, 6 * MIB][this.#draw(4)] + this.#versions.size;
    const offset = this.#draw(100_000);
    const content = POOL.subarray(offset, offset + size);
    this.#versions.set(size, { content, truncated: false });
    return content;
  }

  /** The version of that size. */
  version(size: number): { content: Uint8Array; truncated: boolean } {
    const version = this.#versions.get(size);
    assert(version, `${this.name} never had ${size} bytes`);
    return version;
  }

  /** Cuts the file off or puts the next one in its place, in another thread: whatever this one is doing. */
  change(): void {
    this.#changing ??= this.#change().finally(() => this.#changing = undefined);
  }

  async #change(): Promise<void> {
    // To nothing: where a part stays, the kernel zeroes what lay behind it, also in what is on its way to a client.
    if (this.#truncates && this.#current > 0 && this.#draw(2) === 0) {
      this.version(this.#current).truncated = true;
      this.#current = 0;
      return await fs.promises.truncate(this.#path, 0);
    }
    await fs.promises.rename(`${this.#path}.new`, this.#path);
    this.#current = [...this.#versions.keys()].at(-1)!;
    await fs.promises.writeFile(`${this.#path}.new`, this.#make());
  }

  /** Resolves when nothing changes any more. */
  async settled(): Promise<void> {
    await this.#changing;
  }
}

class Site {
  readonly root = fs.realpathSync(folder());
  readonly files: readonly File[];
  readonly renamed = new Changing(this.root, "renamed.bin", { seed: 1 });
  readonly truncated = new Changing(this.root, "truncated.bin", { seed: 2, truncates: true });

  constructor() {
    this.files = CONTENT.map((content, i) => {
      const name = `${content.length}-${i % 2}.${i % 2 === 0 ? "bin" : "txt"}`;
      fs.writeFileSync(join(this.root, name), content);
      fs.utimesSync(join(this.root, name), 1_700_000_000 + i, 1_700_000_000 + i);
      return { name, content, tag: "", type: "" };
    });
  }

  /** Changes the file of that name, which is one of those that change. */
  change(name: string): void {
    (name === this.renamed.name ? this.renamed : this.truncated).change();
  }

  /** Asks `port` for what a response says besides the content. */
  async learn(port: number): Promise<void> {
    for (const file of this.files) {
      const { headers } = await ask(port, `/static/${file.name}`, { method: "HEAD" });
      file.tag = headers.etag;
      file.type = headers["content-type"];
    }
    assertEquals(new Set(this.files.map(({ tag }) => tag)).size, this.files.length);
  }
}

// Servers: /static/NAME, /file/NAME, /limited/NAME, /pool/OFFSET/LENGTH/PIECES, /echo. In the query: `id`, which comes
// back as X-Asked; `wait`, the turns before anything is answered; and what `serveNode` takes.

interface Running {
  readonly name: "Deno.serve" | "Bun.serve" | "node:http" | "FileServer";
  readonly port: number;
  /** The ways in which it ends connections under way when it is told to. */
  readonly cuts: readonly string[];
  /** Its connections have small buffers. */
  readonly narrow: boolean;
  readonly errors: unknown[];
  readonly sent: Map<string, Sent>;
  /** Requests that have come to what makes the answers; only of the FileServer. */
  readonly requestHead: Set<string>;
  close(): Promise<void>;
}

const LIMIT = { rateLimit: 40 * MIB };

function idOf(url: string): string {
  return /[?&]id=([^&]+)/.exec(url)?.[1] ?? "";
}

/** The bytes of /pool/OFFSET/LENGTH/PIECES, in so many pieces; none: at once. */
function pool([offset, length, pieces]: string[]): Buffer[] {
  const all = POOL.subarray(Number(offset), Number(offset) + Number(length));
  const size = Math.ceil(all.length / Math.max(1, Number(pieces))) || 1;
  return Array.from(
    { length: Math.max(1, Number(pieces)) },
    (_, i) => all.subarray(i * size, (i + 1) * size),
  );
}

/** Some of them are more than the system's buffers take, so that the runtime still has them when the file begins. */
const HINT = { link: "</style.css>; rel=preload; as=style", "x-pad": "x".repeat(8000) };

/** The ways in which a server can end a connection. */
const CUTS = ["socket", "reset", "all", ...(isBun ? [] : ["response"])]; // oven-sh/bun#39366: Bun sends an empty 200

async function serveNode(
  site: Site,
  { cuts = [], narrow = false }: { cuts?: string[]; narrow?: boolean },
): Promise<Running> {
  const errors: unknown[] = [];
  const sent = new Map<string, Sent>();
  const statics = serveStatic(site.root, {
    urlRoot: "static",
    onSent: (what, { url = "" }) => sent.set(idOf(url), what),
  });
  async function plan(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams: query } = new URL(request.url!, "http://test");
    const [, route, ...rest] = pathname.split("/");
    const id = query.get("id") ?? "";
    response.setHeader("X-Asked", id);
    if (query.has("latin")) response.setHeader("X-Latin", "\u00e9\u00ff");
    await turns(Number(query.get("wait")));
    if (query.has("cut")) cut(request, response, query.get("cut")!, Number(query.get("after")));
    for (let hints = Number(query.get("hints")); hints > 0; hints--) response.writeEarlyHints(HINT);
    if (query.has("race")) site.change(rest[0]);
    if (query.has("wrap")) response.write = response.write.bind(response);
    if (route === "static") return statics(request, response);
    if (route === "file" || route === "limited") {
      const options = route === "limited" ? LIMIT : undefined;
      sent.set(id, await sendFile(request, response, join(site.root, rest[0]), options));
      return;
    }
    if (route === "echo") {
      request.on("error", () => {/* the client left */});
      request.on("data", (chunk) => response.write(chunk));
      request.on("end", () => response.end());
      return;
    }
    request.resume(); // what is left of a body stops Deno
    const pieces = pool(rest);
    if (rest[2] === "0") response.setHeader("Content-Length", rest[1]);
    for (const piece of pieces.slice(0, -1)) {
      response.write(piece);
      await turns(Number(query.get("between")));
    }
    response.end(pieces.at(-1));
  }
  function cut(request: IncomingMessage, response: ServerResponse, how: string, after: number): void {
    const now = () => {
      if (how === "socket") request.socket.destroy();
      else if (how === "response") response.destroy();
      else if (how === "reset") request.socket.resetAndDestroy();
      else server.closeAllConnections();
    };
    if (after === 0) now();
    else turns(after - 1).then(now);
  }
  const server: Server = createServer((request, response) => {
    plan(request, response).catch((error) => {
      errors.push(error);
      response.destroy();
    });
  });
  server.keepAliveTimeout = server.headersTimeout = server.requestTimeout = 0; // machines may be slow
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  if (narrow) narrowDown(port);
  return {
    name: "node:http",
    port,
    cuts,
    narrow,
    errors,
    sent,
    requestHead: new Set(),
    close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  };
}

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

/** Gives the connections that a listener will have such small buffers that a file of 100 KB must wait. */
function narrowDown(port: number): void {
  const libc = loadLibc();
  if (typeof libc === "string" || process.platform !== "linux") return;
  const wanted = libc.parseEndpoint("127.0.0.1", port)!;
  const local = new Uint8Array(18);
  for (let fd = 0; fd < libc.descriptorLimit(); fd++) {
    if (!libc.endpoint(fd, "local", local) || Buffer.compare(local, wanted) !== 0) continue;
    assertEquals(libc.setOption(fd, SOL_SOCKET, SO_SNDBUF, 64 * KIB), 0);
    return;
  }
  throw new Error("the listener was not found");
}

/** The handler of Deno.serve and Bun.serve. */
function handlerOf(site: Site): (request: Request) => Promise<Response> {
  async function plan(request: Request): Promise<Response> {
    const { pathname, searchParams: query } = new URL(request.url);
    const [, route, ...rest] = pathname.split("/");
    if (query.has("wait")) await turns(Number(query.get("wait")));
    if (query.has("race")) site.change(rest[0]);
    if (route === "static") return serveDir(request, { fsRoot: site.root, urlRoot: "static", quiet: true });
    if (route === "file") return serveFile(request, join(site.root, rest[0]));
    if (route === "limited") return serveFile(request, join(site.root, rest[0]), LIMIT);
    const pieces = pool(rest);
    if (rest[2] === "0") return new Response(new Uint8Array(pieces[0]));
    return new Response(
      new ReadableStream({
        async pull(controller) {
          await turns(Number(query.get("between")));
          controller.enqueue(new Uint8Array(pieces.shift()!));
          if (pieces.length === 0) controller.close();
        },
      }),
    );
  }
  return async (request) => {
    const response = await plan(request);
    response.headers.set("X-Asked", idOf(request.url));
    return response;
  };
}

function serveNative(site: Site): Running {
  const errors: unknown[] = [];
  const fetch = handlerOf(site);
  const failed = (error: unknown) => {
    errors.push(error);
    return new Response(null, FAILED);
  };
  const common = {
    cuts: [],
    narrow: false,
    errors,
    sent: new Map<string, Sent>(),
    requestHead: new Set<string>(),
  };
  const where = { hostname: "127.0.0.1", port: 0 };
  if (isBun) {
    const server = (globalThis as unknown as { Bun: BunGlobal }).Bun.serve({
      ...where,
      development: false,
      idleTimeout: 120,
      fetch,
      error: failed,
    });
    return { ...common, name: "Bun.serve", port: server.port, close: () => server.stop(true) };
  }
  const ending = new AbortController();
  const server = Deno.serve(
    { ...where, signal: ending.signal, onListen() {}, onError: failed },
    fetch,
  );
  return {
    ...common,
    name: "Deno.serve",
    port: server.addr.port,
    close() {
      ending.abort();
      return server.finished;
    },
  };
}

/** How a FileServer is ended: what has been asked for comes whole, or it comes to an end at once. */
type Ending = "stop" | "close";

/** All that it sends is under the rate limit where it is `limited`. Where it is told to end, another one takes its place. */
function serveFiles(
  site: Site,
  { cuts = [], narrow = false, limited = false }: { cuts?: Ending[]; narrow?: boolean; limited?: boolean },
): Running {
  const errors: unknown[] = [];
  const sent = new Map<string, Sent>();
  const requestHead = new Set<string>();
  const resolved = resolveDirectoryOptions({ urlRoot: "static", ...(limited ? LIMIT : {}) });
  const ended = new Set<FileServer>();
  const stopping: Promise<void>[] = [];
  let server: FileServer | undefined;
  let port = 0;

  function plan(request: RequestHead): ResponsePlan | Promise<ResponsePlan> {
    const { pathname, searchParams: query } = new URL(request.target, "http://test");
    const [, route, name] = pathname.split("/");
    const fields = {
      "X-Asked": idOf(request.target),
      ...(query.has("latin") ? { "X-Latin": "\u00e9\u00ff" } : {}),
    };
    const named = (plan: ResponsePlan) => ({ ...plan, headers: { ...plan.headers, ...fields } });
    const make = () => {
      if (query.has("race")) site.change(name);
      const plan = route === "static"
        ? planDirectory(request, resolved, site.root, parseTarget(request.target, resolved.urlRoot))
        : planPath(request, resolved, join(site.root, name));
      return plan instanceof Promise ? plan.then(named) : named(plan);
    };
    requestHead.add(idOf(request.target));
    if (query.has("cut")) turns(Number(query.get("after"))).then(() => end(query.get("cut")!));
    return query.has("wait") ? turns(Number(query.get("wait"))).then(make) : make();
  }

  function start(): void {
    const one = new FileServer({
      resolved,
      plan(request) {
        if (ended.has(one)) errors.push(new Error(`asked for ${request.target} after the end`));
        return plan(request);
      },
      onSent({ target }, what) {
        const id = idOf(target);
        if (id !== "" && sent.has(id)) errors.push(new Error(`${id} was answered twice`));
        sent.set(id, what);
      },
      onError: (error) => errors.push(error),
    });
    port = one.listen({ host: "127.0.0.1", port: 0, shared: false });
    if (narrow) narrowDown(port);
    server = one;
  }

  function end(how: string): void {
    if (!server) return;
    const old = server;
    server = undefined;
    if (how === "stop") stopping.push(old.stop().then(() => void ended.add(old)));
    else old.close();
    start();
  }

  start();
  return {
    name: "FileServer",
    get port() {
      return port;
    },
    cuts,
    narrow,
    errors,
    sent,
    requestHead,
    async close() {
      await Promise.all(stopping);
      server?.close();
    },
  };
}

/** Whether it tells of each response. */
function reports({ name }: Running): boolean {
  return name === "node:http" || name === "FileServer";
}

// Requests, and what they must bring

type Head = Omit<Reply, "body">;

/** One request, and all that is known of its response. */
interface Ask {
  readonly id: string;
  readonly text: string;
  readonly method: string;
  readonly status: number;
  /** Fields that the head must have. */
  readonly fields?: Record<string, string>;
  /** What the body must be, by the head; for HEAD too, whose Content-Length speaks of it. */
  readonly body: (head: Head) => Uint8Array;
  /** It may come in chunks. */
  readonly chunked?: boolean;
  /** Bun.serve must have nothing behind it. */
  readonly last?: boolean;
  /** The server may end the connection. */
  readonly cut?: boolean;
  readonly changing?: Changing;
  /** The request has a body. */
  readonly burdened?: boolean;
  /** Bytes of the body that are a file's; undefined where that is not reported. */
  readonly fromFile?: number;
  /** It is with the system, all of it, when the request has been read. */
  readonly prompt?: boolean;
  /** What the FileServer's Connection says; behind "close" nothing comes. */
  readonly connection?: string;
}

const NOTHING = new Uint8Array();

/** The body of a multipart response. */
function multipartOf({ content, type }: File, spans: readonly Span[], boundary: string): Uint8Array {
  const parts = spans.flatMap(([first, last], i) => [
    Buffer.from(
      `${i === 0 ? "" : "\r\n"}--${boundary}\r\nContent-Type: ${type}\r\n` +
        `Content-Range: bytes ${first}-${last}/${content.length}\r\n\r\n`,
    ),
    content.subarray(first, last + 1),
  ]);
  return Buffer.concat([...parts, Buffer.from(`\r\n--${boundary}--\r\n`)]);
}

function boundaryOf({ headers }: Head): string {
  const match = /^multipart\/byteranges; boundary=([\w-]+)$/.exec(headers["content-type"] ?? "");
  assert(match, `no boundary: ${headers["content-type"]}`);
  return match[1];
}

function spanOf(draw: Draw, from: number, to: number): Span {
  const first = from + draw(to - from);
  return [first, draw(3) === 0 ? Math.min(to - 1, first + draw(100)) : first + draw(to - first)];
}

type Details = Omit<Ask, "id" | "text" | "method"> & {
  readonly path: string;
  readonly method?: string;
  /** Lines of the request. */
  readonly lines?: string;
  readonly content?: string;
};

type Kind = (draw: Draw, site: Site, server: Running) => Details;

function fileOf(draw: Draw, { files }: Site): File {
  const small = files.filter(({ content }) => content.length <= 200_000);
  return draw(4) === 0 ? files[draw(files.length)] : small[draw(small.length)];
}

/** A file that has `size` bytes at least. */
function fileFrom(size: number, draw: Draw, site: Site): File {
  const file = fileOf(draw, site);
  return file.content.length >= size ? file : fileFrom(size, draw, site);
}

function pathTo({ name, content }: File, draw: Draw): string {
  if (content.length <= 200_000 && draw(8) === 0) return `/limited/${name}`;
  return `/${draw(3) === 0 ? "file" : "static"}/${name}`;
}

function wholeOf(file: File, draw: Draw): Details {
  const { content, tag, type } = file;
  const path = pathTo(file, draw);
  return {
    path,
    status: 200,
    fields: { etag: tag, "content-type": type },
    body: () => content,
    fromFile: content.length,
    prompt: content.length <= MIB && !path.startsWith("/limited/"),
    // A limited body comes in chunks from Bun.serve.
    chunked: path.startsWith("/limited/"),
    last: content.length > PIPELINED || path.startsWith("/limited/"),
  };
}

function rangeOf(file: File, [first, last]: Span, draw: Draw): Details {
  const { content } = file;
  const whole = wholeOf(file, draw);
  return {
    ...whole,
    status: 206,
    fields: { ...whole.fields, "content-range": `bytes ${first}-${last}/${content.length}` },
    body: () => content.subarray(first, last + 1),
    fromFile: last - first + 1,
  };
}

const whole: Kind = (draw, site) => wholeOf(fileOf(draw, site), draw);

const small: Kind = (draw, { files }) => wholeOf(files[draw(8)], draw);

const range: Kind = (draw, site) => {
  const file = fileFrom(1, draw, site);
  const { length } = file.content;
  const [first, last] = spanOf(draw, 0, length);
  const spellings: [span: Span, text: string][] = [
    [[first, last], `${first}-${last}`],
    [[first, length - 1], `${first}-`],
    [[length - 1 - last, length - 1], `-${last + 1}`],
  ];
  const [span, text] = spellings[draw(spellings.length)];
  const condition = ["", "", `If-Range: ${file.tag}\r\n`, 'If-Range: "x"\r\n'][draw(4)];
  const requestHead = condition.includes('"x"') ? wholeOf(file, draw) : rangeOf(file, span, draw);
  const chunked = requestHead.chunked || condition !== ""; // Bun.serve's, which cannot take the descriptor
  return {
    ...requestHead,
    lines: `Range: bytes=${text}\r\n${condition}`,
    chunked,
    last: requestHead.last || chunked,
  };
};

const multipart: Kind = (draw, site) => {
  const file = fileFrom(1000, draw, site);
  const { length } = file.content;
  const count = 2 + draw(4);
  // Together no more than the file has, in any order.
  const share = Math.floor(length / count);
  const spans = Array.from({ length: count }, (_, i) => spanOf(draw, i * share, (i + 1) * share));
  if (draw(2) === 0) spans.reverse();
  return {
    ...wholeOf(file, draw),
    lines: `Range: bytes=${spans.map((span) => span.join("-")).join(draw(2) === 0 ? "," : ", ")}\r\n`,
    status: 206,
    fields: { etag: file.tag },
    body: (head) => multipartOf(file, spans, boundaryOf(head)),
    fromFile: spans.reduce((sum, [first, last]) => sum + last - first + 1, 0),
    prompt: false,
    chunked: true, // Bun.serve's
    last: true,
  };
};

const head: Kind = (draw, site) => {
  return { ...wholeOf(fileOf(draw, site), draw), method: "HEAD", fromFile: 0, last: false };
};

const unchanged: Kind = (draw, site) => {
  const file = fileOf(draw, site);
  const { path } = wholeOf(file, draw);
  const lines = `If-None-Match: ${draw(2) === 0 ? "*" : file.tag}\r\n`;
  return { path, lines, status: 304, fields: { etag: file.tag }, body: () => NOTHING, fromFile: 0 };
};

/** An answer with its status as the text. */
function refusal(path: string, status: number, text: string, more: Partial<Details> = {}): Details {
  return { path, status, body: () => Buffer.from(`${status} ${text}\n`), ...more };
}

const missing: Kind = (draw) =>
  refusal("/static/none", 404, "Not Found", draw(3) === 0 ? { method: "HEAD" } : {});

const unsatisfiable: Kind = (draw, site) => {
  const { name, content: { length } } = fileFrom(1, draw, site);
  const fields = { "content-range": `bytes */${length}` };
  return refusal(`/static/${name}`, 416, "Range Not Satisfiable", {
    lines: `Range: bytes=${length}-\r\n`,
    fields,
  });
};

const stale: Kind = (draw, site) =>
  refusal(`/static/${fileOf(draw, site).name}`, 412, "Precondition Failed", { lines: 'If-Match: "x"\r\n' });

const posted: Kind = (draw, site) =>
  refusal(`/static/${fileOf(draw, site).name}`, 405, "Method Not Allowed", {
    method: "POST",
    content: POOL.toString("latin1", 0, draw(2) === 0 ? 0 : draw(50_000)),
    last: true,
  });

const dynamic: Kind = (draw) => {
  const length = [0, 1, draw(2000), draw(20_000), draw(400_000)][draw(5)];
  const pieces = draw(2) === 0 ? 0 : 1 + draw(6);
  const offset = draw(POOL.length - length);
  const between = draw(3) === 0 ? `?between=${draw(3)}` : "";
  return {
    path: `/pool/${offset}/${length}/${pieces}${between}`,
    status: 200,
    body: () => POOL.subarray(offset, offset + length),
    chunked: pieces > 0,
    last: length > PIPELINED || pieces > 0,
  };
};

const changing: Kind = (draw, site, { name }) => {
  // It opens the file's path anew when it sends, and lets a file that became shorter stall until its idleTimeout.
  const late = name === "Bun.serve";
  const file = late || draw(2) === 0 ? site.renamed : site.truncated;
  return {
    path: `/${draw(2) === 0 ? "static" : "file"}/${file.name}${draw(2) === 0 ? "?race=1" : ""}`,
    status: 200,
    body: ({ status, headers }) => {
      // It may have become shorter between the look at it and the read, or be gone.
      if (status === 500) return Buffer.from("500 Internal Server Error\n");
      const tagged = parseInt(headers.etag.slice(1), 16); // the tag is of size and time
      const length = Number(headers["content-length"] ?? tagged);
      if (!late) assertEquals(tagged, length, "size in tag and Content-Length");
      return file.version(length).content;
    },
    changing: file,
    chunked: late, // where the path leads to another file already
    last: true,
  };
};

/** A body that nobody asked for with a GET. */
const burdened: Kind = (draw, site, server) => ({
  ...[whole, range, missing, dynamic][draw(server.name === "FileServer" ? 3 : 4)](draw, site, server),
  content: POOL.toString("latin1", 0, draw(2) === 0 ? draw(100) : draw(100_000)),
});

const echo: Kind = (draw) => {
  const offset = draw(1_000_000);
  const length = draw(2) === 0 ? draw(100) : draw(200_000);
  const content = POOL.subarray(offset, offset + length);
  return {
    path: "/echo",
    method: "POST",
    content: content.toString("latin1"),
    status: 200,
    body: () => content,
    chunked: true,
  };
};

type Kinds = [weight: number, kind: Kind][];

/** Those that are answered at once. */
const LIGHT: Kinds = [[2, head], [2, unchanged], [2, missing], [1, unsatisfiable], [1, stale]];

const FILES: Kinds = [[10, whole], [4, range], [3, multipart], ...LIGHT, [4, changing]];

const KINDS: Record<Running["name"], Kinds> = {
  "Deno.serve": [...FILES, [6, dynamic]],
  "Bun.serve": [...FILES, [6, dynamic]],
  "node:http": [...FILES, [6, dynamic], [1, posted], [1, burdened], [1, echo]],
  "FileServer": [...FILES, [1, posted], [2, burdened]],
};

/** Those of which hundreds come at once. */
const MANY: Kinds = [...LIGHT, [4, small], [1, posted]];

function drawKind(draw: Draw, kinds: Kinds): Kind {
  let at = draw(kinds.reduce((sum, [weight]) => sum + weight, 0));
  return kinds.find(([weight]) => (at -= weight) < 0)![1];
}

/** What a client says of itself and of the body that it sends. */
interface Manner {
  readonly before: string;
  readonly version: string;
  readonly lines: string;
  readonly content: string;
  readonly connection?: string;
}

/** Bytes of a request's body behind which the FileServer takes no other request. */
const SKIPPED = 64 * KIB;

/** The manners that the FileServer is to stand. `lasts`: the connection is to go on. */
function mannerOf(draw: Draw, content: string | undefined, lasts: boolean): Manner {
  const old = draw(16) === 0;
  const wish = lasts || draw(2) === 0 ? "keep-alive" : draw(15) === 0 ? "close" : "";
  let ends = wish === "close" || old && wish === "";
  let lines = wish === "" ? "" : `Connection: ${wish}\r\n`;
  if (draw(20) === 0) lines += `X-Pad: ${"x".repeat(draw(15_000))}\r\n`;
  const chunked = content !== undefined && !old && !lasts && draw(3) === 0;
  if (chunked) lines += "Transfer-Encoding: chunked\r\n";
  else if (content !== undefined) lines += `Content-Length: ${content.length}\r\n`;
  const expects = content !== undefined && !lasts && draw(3) === 0;
  if (expects) lines += "Expect: 100-continue\r\n";
  if (content) ends ||= expects || content.length > SKIPPED;
  return {
    before: draw(20) === 0 ? "\r\n" : "", // as old clients send it behind a body
    version: old ? "1.0" : "1.1",
    lines,
    content: chunked ? inChunks(draw, content) : content ?? "",
    connection: ends || chunked ? "close" : old ? "keep-alive" : undefined,
  };
}

function inChunks(draw: Draw, content: string): string {
  let chunks = "";
  for (let at = 0; at < content.length;) {
    const chunk = content.slice(at, at += 1 + draw(30_000));
    chunks += `${chunk.length.toString(16)}\r\n${chunk}\r\n`;
  }
  return `${chunks}0\r\n\r\n`;
}

/** The manners that are node:http's to understand. */
function commonManner(draw: Draw, path: string, content: string | undefined): Manner {
  let lines = content === undefined ? "" : `Content-Length: ${content.length}\r\n`;
  if (content !== undefined && !/^\/(pool|echo)/.test(path) && draw(3) === 0) {
    lines += "Expect: 100-continue\r\n";
  }
  return { before: "", version: "1.1", lines, content: content ?? "" };
}

/** `many`: it is one of hundreds. */
function drawAsk(draw: Draw, site: Site, server: Running, id: string, many: boolean): Ask {
  const node = server.name === "node:http";
  const files = server.name === "FileServer";
  const details = drawKind(draw, many ? MANY : KINDS[server.name])(draw, site, server);
  const { method = "GET", path, lines = "", content } = details;
  let query = `${path.includes("?") ? "&" : "?"}id=${id}`;
  let { last, cut } = details;
  if (draw(4) === 0) {
    query += `&wait=${draw(files && !many && draw(4) === 0 ? 200 : 10)}`;
    last = true;
  }
  const fields = { ...details.fields };
  if (node) {
    // Not before a head of node:http's own that waits for its turn: that would go first, in Node.js too.
    if (!/^\/(pool|echo)/.test(path) && draw(8) === 0) query += `&hints=${draw(2) === 0 ? 1 : draw(50)}`;
    if (draw(10) === 0) query += "&wrap=1";
  }
  // A text for a body takes the head to UTF-8 with it, in Node.js too.
  if ((node && details.fromFile || files) && draw(8) === 0) {
    query += "&latin=1";
    fields["x-latin"] = "\u00e9\u00ff";
  }
  if (server.cuts.length > 0 && draw(files ? 30 : 6) === 0) {
    query += `&cut=${server.cuts[draw(server.cuts.length)]}&after=${draw(2) === 0 ? draw(3) : draw(100)}`;
    cut = node;
  }
  const manner = files ? mannerOf(draw, content, many) : commonManner(draw, path, content);
  const text = `${manner.before}${method} ${path}${query} HTTP/${manner.version}\r\nHost: test\r\n` +
    `${lines}${manner.lines}\r\n${manner.content}`;
  const prompt = details.prompt && !server.narrow && content === undefined && !/&(wait|wrap)=/.test(query);
  const { connection } = manner;
  return {
    ...details,
    id,
    method,
    text,
    last,
    cut,
    fields,
    prompt,
    burdened: content !== undefined,
    connection,
  };
}

// Clients

/** What a client does in the middle: after so many bytes it leaves, or it takes its time over what comes. */
interface Habit {
  readonly leaves?: { readonly after: number; readonly how: "destroy" | "reset" };
  readonly slow: boolean;
}

/** One connection, and what came on it. */
class Transport {
  readonly socket: net.Socket;
  /** No more will come. */
  ended = false;
  /** It was this side that left. */
  left = false;
  /** It has sent what is no request. */
  babbled = false;
  total = 0;
  #chunks: Buffer[] = [];
  #length = 0;
  #wake = () => {};

  private constructor(socket: net.Socket, habit: Habit, draw: Draw) {
    this.socket = socket;
    let pauses = 10;
    socket.on("data", (chunk: Buffer) => {
      if (this.ended) return;
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      this.total += chunk.length;
      const { leaves, slow } = habit;
      if (leaves && this.total >= leaves.after) this.leave(leaves.how);
      else if (slow && pauses > 0 && draw(3) === 0) {
        pauses--;
        this.#pause(draw(8) === 0 ? 100 : draw(20));
      }
      this.#wake();
    });
    const end = () => {
      this.ended = true;
      this.#wake();
    };
    socket.on("error", end);
    socket.on("end", end);
    socket.on("close", end);
  }

  static async to(port: number, habit: Habit, draw: Draw): Promise<Transport> {
    const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    const wire = new Transport(socket, habit, draw);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    if (habit.leaves?.after === 0) wire.leave(habit.leaves.how);
    return wire;
  }

  leave(how: "destroy" | "reset"): void {
    this.left = this.ended = true;
    if (how === "reset") this.socket.resetAndDestroy();
    else this.socket.destroy();
    this.#wake();
  }

  async #pause(count: number): Promise<void> {
    this.socket.pause();
    await turns(count);
    this.socket.resume();
  }

  /** Writes `text` in the pieces that end at `cuts`, some with turns of the loop between. */
  async send(text: string, cuts: readonly number[], draw: Draw): Promise<void> {
    const all = Buffer.from(text, "latin1");
    let from = 0;
    for (const to of [...cuts, all.length]) {
      if (this.ended) return;
      this.socket.write(all.subarray(from, to));
      from = to;
      if (to < all.length) await turns(draw(4));
    }
  }

  async #more(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`no more came after ${this.total} bytes`)), DEADLINE);
    this.#wake = resolve;
    await promise.finally(() => clearTimeout(timer));
  }

  /** Bytes that came and were not taken. */
  get waiting(): number {
    return this.#length;
  }

  /** The next bytes; fewer only where the connection has ended. */
  async take(count: number): Promise<Buffer> {
    while (this.#length < count && !this.ended) await this.#more();
    const taken: Buffer[] = [];
    for (let left = Math.min(count, this.#length); left > 0;) {
      const [chunk] = this.#chunks;
      taken.push(chunk.subarray(0, left));
      if (chunk.length > left) this.#chunks[0] = chunk.subarray(left);
      else this.#chunks.shift();
      this.#length -= Math.min(chunk.length, left);
      left -= Math.min(chunk.length, left);
    }
    return Buffer.concat(taken);
  }

  /** The next bytes up to and with `mark`; without it only where the connection has ended. */
  async upTo(mark: string): Promise<Buffer> {
    for (;;) {
      const found = this.#chunks[0]?.indexOf(mark) ?? -1;
      if (found >= 0) return await this.take(found + mark.length);
      if (this.#chunks.length > 1) this.#chunks.splice(0, 2, Buffer.concat(this.#chunks.slice(0, 2)));
      else if (this.ended) return await this.take(this.#length);
      else await this.#more();
    }
  }
}

/** The head of the next response; undefined where the connection ended in it. */
async function takeHead(wire: Transport, { id }: Ask): Promise<Head | undefined> {
  for (;;) {
    const head = (await wire.upTo("\r\n\r\n")).toString("latin1");
    if (/^HTTP\/1\.1 10[03] /.test(head) && head.endsWith("\r\n\r\n")) continue;
    assert("HTTP/1.1 ".startsWith(head.slice(0, 9)), `no head: ${JSON.stringify(head.slice(0, 200))}`);
    const requestHead = /^x-asked: (.*)\r$/im.exec(head)?.[1];
    assert(requestHead === undefined || requestHead === id, `the response to ${requestHead}`);
    if (!head.endsWith("\r\n\r\n")) return undefined;
    const status = Number(head.slice(9, 12));
    if (requestHead === undefined && status === 400 && wire.babbled) return undefined;
    assertEquals(requestHead, id, head);
    const [, ...lines] = head.trimEnd().split("\r\n");
    const headers = Object.fromEntries(
      lines.map((line) => [line.split(":")[0].toLowerCase(), line.slice(line.indexOf(":") + 2)]),
    );
    return { status, head, headers };
  }
}

/** The chunks of a body, as far as they came. */
async function takeChunked(wire: Transport): Promise<{ body: Buffer; whole: boolean }> {
  const chunks: Buffer[] = [];
  for (;;) {
    const line = (await wire.upTo("\r\n")).toString("latin1");
    const cut = () => ({ body: Buffer.concat(chunks), whole: false });
    if (!line.endsWith("\r\n")) return cut();
    assert(/^[0-9a-f]+\r\n$/i.test(line), `no size of a chunk: ${JSON.stringify(line.slice(0, 100))}`);
    const size = parseInt(line, 16);
    const chunk = await wire.take(size);
    chunks.push(chunk);
    const end = (await wire.take(2)).toString("latin1");
    assert("\r\n".startsWith(end), `behind a chunk: ${JSON.stringify(end)}`);
    if (end.length < 2) return cut();
    if (size === 0) return { body: Buffer.concat(chunks), whole: true };
  }
}

/** Takes the response to `requestHead`: whether it came to its end, its Connection, and whether its file was truncated. */
async function takeReply(
  wire: Transport,
  requestHead: Ask,
  draw: Draw,
): Promise<{ whole: boolean; connection?: string; truncated?: boolean }> {
  const head = await takeHead(wire, requestHead);
  if (!head) return { whole: false };
  const { headers } = head;
  const failed = requestHead.changing && head.status === 500;
  if (!failed) assertEquals(head.status, requestHead.status, head.head);
  for (const [name, value] of Object.entries(requestHead.fields ?? {})) {
    assertEquals(headers[name], value, `${name} of ${head.head}`);
  }
  const promised = requestHead.body(head);
  const { "content-length": length, "transfer-encoding": coding, connection } = headers;
  if (requestHead.status === 304) return { whole: true, connection };
  if (coding === undefined) assertEquals(length, String(promised.length), head.head);
  else assert(requestHead.chunked && coding === "chunked" && length === undefined, head.head);
  if (requestHead.method === "HEAD") return { whole: true, connection };
  if (draw(2) === 0) requestHead.changing?.change();
  const { body, whole } = coding === undefined
    ? await wire.take(promised.length).then((body) => ({ body, whole: body.length === promised.length }))
    : await takeChunked(wire);
  if (!body.equals(promised.subarray(0, body.length))) assertBytes(body, promised.subarray(0, body.length));
  if (whole) assertEquals(body.length, promised.length);
  return {
    whole,
    connection,
    truncated: !failed && requestHead.changing?.version(promised.length).truncated,
  };
}

interface Done {
  readonly server: Running;
  readonly requestHead: Ask;
}

/** What came of everything, and how often. */
class Tally {
  readonly done: Done[] = [];
  readonly counts: Record<string, number> = {};
  requests = 0;

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }
}

function habitOf(draw: Draw): Habit {
  const slow = draw(3) === 0;
  if (draw(4) > 0) return { slow };
  const after = [0, 1 + draw(2000), draw(100_000), draw(6 * MIB)][draw(4)];
  return { slow, leaves: { after, how: draw(2) === 0 ? "destroy" : "reset" } };
}

/** Some places in a text, in order; many of them in the end of a head. */
function cutsOf(draw: Draw, text: string): number[] {
  const cuts = Array.from({ length: draw(2) === 0 ? 0 : draw(6) }, () => {
    const at = draw(text.length);
    const end = text.indexOf("\r\n\r\n", at);
    return draw(2) === 0 || end < 0 ? at : end + 1 + draw(3);
  });
  return cuts.sort((a, b) => a - b);
}

/** One connection, from its beginning to its end. */
async function connection(
  seed: number,
  site: Site,
  servers: readonly Running[],
  tally: Tally,
): Promise<void> {
  const draw = lot(seed);
  const chance = lot(~seed); // for what comes in an order that differs from run to run
  const server = servers[draw(servers.length)];
  const habit = habitOf(draw);
  const files = server.name === "FileServer";
  const stops = server.cuts.includes("stop");
  const batches = 1 + draw(4);
  const endings = ENDINGS[server.name];
  const ending = endings[draw(endings.length)];
  const gives = draw(20) === 0; // up in the middle of a request
  const wire = await Transport.to(server.port, habit, chance).catch((error) => {
    if (!files || server.cuts.length === 0) throw error;
  });
  if (!wire) return tally.count("refused");
  let fragile = server.cuts.length > 0 && !stops;
  let over = false; // the server has said so
  let history = `${server.name}, ${JSON.stringify(habit)}, ${ending}`;
  let count = 0;
  try {
    for (let batch = 1; batch <= batches && !over; batch++) {
      const asks: Ask[] = [];
      const final = batch === batches;
      const many = files && draw(20) === 0;
      for (let left = 1 + draw(many ? 300 : 6); left > 0; left--) {
        const requestHead = drawAsk(draw, site, server, `${seed}.${count++}`, many);
        asks.push(requestHead);
        if (requestHead.last && server.name === "Bun.serve") left = 1;
      }
      tally.requests += asks.length;
      let loose = false; // it may end early
      const texts = asks.map((requestHead) => requestHead.text);
      // Behind the first line.
      if (final && ending === "closes") texts.push(texts.pop()!.replace("\r\n", "\r\nConnection: close\r\n"));
      if (final && ending === "babbles") {
        const babble = [
          "\0\r\n\r\n",
          "GET\r\n\r\n",
          "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        ];
        texts.push(babble[draw(3)]);
        // What comes behind is to be read over, so that no reset takes the answers from the client.
        if (files && draw(2) === 0) texts.push(POOL.toString("latin1", 0, draw(100_000)));
        wire.babbled = true;
        loose = !files;
      }
      const text = texts.join("");
      const cuts = cutsOf(draw, text);
      history += `\n${texts.map((text) => JSON.stringify(text.slice(0, 300))).join("\n")}\n-- ${cuts}`;
      fragile ||= asks.some(({ cut }) => cut);
      // Where one is cut off while requests are still to be read, the reset takes what came before from the client.
      loose ||= fragile || asks.some(({ changing }) => changing === site.truncated);
      loose ||= final && ending === "closes" && asks.at(-1)!.burdened!; // it may be answered before it is read
      // node:http drops what it still holds when a client shuts down its sending direction, and a transfer that
      // takes longer than a second sees that the socket is destroyed.
      if (final && ending === "shuts down" && !files) loose ||= asks.length > 1 || !asks[0].prompt;
      const upTo = gives && final ? draw(text.length) : text.length;
      const sending = wire.send(text.slice(0, upTo), cuts.filter((at) => at < upTo), chance).then(() => {
        if (upTo < text.length) wire.leave(draw(2) === 0 ? "destroy" : "reset");
        else if (final && ending === "shuts down") wire.socket.end();
      });
      for (const requestHead of asks) {
        const { whole, connection, truncated } = await takeReply(wire, requestHead, chance);
        if (whole) {
          tally.count("whole");
          tally.done.push({ server, requestHead });
          over = files && connection === "close";
          if (files && !(over && stops)) assertEquals(connection, requestHead.connection, "Connection");
          if (over) break;
          continue;
        }
        await sending;
        // What nobody answered need not have come before the end.
        const stopped = stops && !server.requestHead.has(requestHead.id);
        assert(
          wire.left || loose || truncated || stopped,
          `${requestHead.id}: ended after ${wire.total} bytes; ${
            JSON.stringify(server.sent.get(requestHead.id))
          }`,
        );
        return tally.count(wire.left ? "left" : truncated ? "truncated" : stopped ? "stopped" : "cut off");
      }
      await sending;
    }
    if (!wire.left && (over || ending !== "leaves")) {
      const rest = (await wire.take(Infinity)).toString("latin1");
      const refused = /^HTTP\/1\.1 400 /.test(rest);
      assert(rest === "" || wire.babbled && refused && !over, `at the end: ${rest.slice(0, 200)}`);
      if (files && wire.babbled && !over && !wire.left && server.cuts.length === 0) {
        assert(rest.endsWith("\r\nConnection: close\r\n\r\n400 Bad Request\n"), `no 400: ${rest}`);
      }
    } else if (!wire.babbled) assertEquals(wire.waiting, 0, "bytes that nobody asked for");
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`SEED=${seed}: ${message}\nafter ${wire.total} bytes of ${history}`, { cause: error });
  } finally {
    wire.socket.destroy();
  }
}

/** What a client does when it has all that it asked for. */
const ENDINGS: Record<Running["name"], string[]> = {
  "Deno.serve": ["leaves", "closes"],
  "Bun.serve": ["leaves", "closes"],
  "node:http": ["leaves", "closes", "shuts down", "babbles"],
  "FileServer": ["leaves", "shuts down", "babbles"], // each request may want it to be the last
};

function sockets(): number {
  return descriptors().filter((text) => text.includes(" socket:")).length;
}

/** What the servers say they have sent is what was taken. */
function checkSent(servers: readonly Running[], { done, counts, requests }: Tally): void {
  for (const { server, requestHead } of done) {
    if (requestHead.fromFile === undefined || !reports(server)) continue;
    const sent = server.sent.get(requestHead.id);
    assertEquals(sent?.status, requestHead.status, requestHead.text);
    assertEquals(sent?.bytes, requestHead.fromFile, requestHead.text);
    assertEquals(sent?.problem, undefined, requestHead.text);
  }
  for (const { sent } of servers) {
    for (const { way, problem = "none" } of sent.values()) {
      for (const key of [way, `problem: ${problem}`]) counts[key] = (counts[key] ?? 0) + 1;
      assert(
        ["none", "the client left", "the file became shorter", "TruncatedError"].includes(problem),
        problem,
      );
    }
  }
  if (requests < 500) return; // too few for all to happen
  assert(counts.whole > requests / 3, `${counts.whole} of ${requests} responses came whole`);
  assert(counts.sendfile > 0, "nothing went by sendfile");
}

async function round(seed: number, requests: number): Promise<void> {
  const site = new Site();
  const servers: Running[] = [];
  const tally = new Tally();
  const began = performance.now();
  try {
    servers.push(
      await serveNode(site, {}),
      await serveNode(site, { narrow: true }),
      await serveNode(site, { narrow: true, cuts: CUTS }),
      serveNative(site),
      serveFiles(site, {}),
      serveFiles(site, { narrow: true }),
      serveFiles(site, { limited: true }),
      serveFiles(site, { cuts: ["stop"] }),
      serveFiles(site, { narrow: true, cuts: ["stop"] }),
      serveFiles(site, { narrow: true, cuts: ["close"] }),
    );
    await site.learn(servers[0].port);
    const before = sockets();
    let next = seed;
    let failed = false;
    const worker = async () => {
      while (tally.requests < requests && !failed) {
        await connection(next++, site, servers, tally).catch((error) => {
          failed = true;
          throw error;
        });
      }
    };
    const ended = await Promise.allSettled(Array.from({ length: AT_ONCE }, worker));
    for (const result of ended) if (result.status === "rejected") throw result.reason;
    await until("the files are closed", () => openBelow(site.root).length === 0);
    await until("the sockets are closed", () => sockets() <= before);
    for (const { port } of servers) {
      const { name, content } = site.files.at(-1)!;
      assertSame(
        (await ask(port, `/static/${name}`)).body,
        Buffer.from(content),
        "the process still answers",
      );
    }
    await until("all is reported", () => {
      return tally.done.every(({ server, requestHead }) =>
        requestHead.fromFile === undefined || !reports(server) || server.sent.has(requestHead.id)
      );
    });
    checkSent(servers, tally);
    for (const { name, errors } of servers) {
      // A stream that must end early can only fail, and Deno.serve tells its onError of that.
      assertEquals(errors.filter((error) => !/became shorter/.test(String(error))), [], name);
    }
    if (process.env.SOAK) {
      console.log(tally.requests, tally.counts, Math.round(performance.now() - began), "ms");
    }
  } finally {
    await Promise.all([site.renamed.settled(), site.truncated.settled()]);
    await Promise.all(servers.map((server) => server.close()));
    fs.rmSync(site.root, { recursive: true });
  }
}

for (let from = 0; from < REQUESTS; from += ROUND) {
  const requests = Math.min(ROUND, REQUESTS - from);
  test(`what ${requests} requests bring that are drawn by lot, from seed ${SEED + from} on`, () =>
    round(SEED + from, requests));
}
