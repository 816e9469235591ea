/** The servers of the soak: every kind that this runtime has, some with small buffers, some that end their connections. */
import { join } from "@std/path";
import type { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type * as net from "node:net";
import { planPath, type ResponsePlan } from "../../http/file_response.ts";
import { planDirectory } from "../../http/directory.ts";
import { serveDir, serveFile } from "../../http/mod.ts";
import { sendFile, type Sent, serveStatic } from "../../http/node.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import type { Head as RequestHead } from "../../server/request_head.ts";
import { FileServer } from "../../server/server.ts";
import { serve } from "../../serve.ts";
import { isBun } from "../support/harness.ts";
import { type BunGlobal, collecting } from "../support/http_servers.ts";
import { turns } from "./lot.ts";
import { narrowDown } from "./narrow.ts";
import { MIB, type Site, TEXT } from "./site.ts";

// Servers: /static/NAME, /file/NAME, /limited/NAME, /pool/OFFSET/LENGTH/PIECES, /echo. In the query: `id`, which comes
// back as X-Asked; `wait`, the turns before anything is answered; and what `serveNode` takes.

export interface Running {
  readonly name: "Deno.serve" | "Bun.serve" | "node:http" | "FileServer" | "serve";
  readonly port: number;
  /** The ways in which it ends connections under way when it is told to. */
  readonly cuts: readonly string[];
  /** Its connections have small buffers. */
  readonly narrow: boolean;
  readonly errors: unknown[];
  readonly sent: Map<string, Sent>;
  /** Requests that have come to what makes the answers; only of the FileServer. */
  readonly asked: Set<string>;
  close(): Promise<void>;
}

const LIMIT = { rateLimit: 40 * MIB };

function idOf(url: string): string {
  return /[?&]id=([^&]+)/.exec(url)?.[1] ?? "";
}

/** The bytes of /pool/OFFSET/LENGTH/PIECES, in so many pieces; none: at once. */
function pool([offset, length, pieces]: string[]): Buffer[] {
  const all = TEXT.subarray(Number(offset), Number(offset) + Number(length));
  const size = Math.ceil(all.length / Math.max(1, Number(pieces))) || 1;
  return Array.from(
    { length: Math.max(1, Number(pieces)) },
    (_, i) => all.subarray(i * size, (i + 1) * size),
  );
}

/** Some of them are more than the system's buffers take, so that the runtime still has them when the file begins. */
const HINT = { link: "</style.css>; rel=preload; as=style", "x-pad": "x".repeat(8000) };

/** The ways in which a server can end a connection. */
export const CUTS = ["socket", "reset", "all", ...(isBun ? [] : ["response"])]; // oven-sh/bun#39366: Bun sends an empty 200

export async function serveNode(
  site: Site,
  { cuts = [], narrow = false }: { cuts?: string[]; narrow?: boolean },
): Promise<Running> {
  const errors: unknown[] = [];
  const sent = new Map<string, Sent>();
  const statics = serveStatic(site.root, {
    urlRoot: "static",
    onSent: (what, { url = "" }) => sent.set(idOf(url), what),
  });
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
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
    answer(request, response).catch((error) => {
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
    asked: new Set(),
    close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  };
}

/** The handler of Deno.serve and Bun.serve. */
function handlerOf(site: Site): (request: Request) => Promise<Response> {
  async function answer(request: Request): Promise<Response> {
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
    const response = await answer(request);
    response.headers.set("X-Asked", idOf(request.url));
    return response;
  };
}

export function serveNative(site: Site): Running {
  const errors: unknown[] = [];
  const fetch = handlerOf(site);
  const { hostname, port, onListen, onError } = collecting(errors);
  const common = { cuts: [], narrow: false, errors, sent: new Map<string, Sent>(), asked: new Set<string>() };
  if (isBun) {
    const server = (globalThis as unknown as { Bun: BunGlobal }).Bun.serve({
      hostname,
      port,
      development: false,
      idleTimeout: 120,
      fetch,
      error: onError,
    });
    return { ...common, name: "Bun.serve", port: server.port, close: () => server.stop(true) };
  }
  const ending = new AbortController();
  const server = Deno.serve(
    { hostname, port, onListen, onError, signal: ending.signal },
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

/** This package's own server of handlers; on Bun it would be Bun.serve. */
export function serveOwn(site: Site): Running {
  const errors: unknown[] = [];
  const server = serve(collecting(errors), handlerOf(site));
  const { port } = server.addr as { port: number };
  const ended = () => server.shutdown();
  return {
    name: "serve",
    port,
    cuts: [],
    narrow: false,
    errors,
    sent: new Map(),
    asked: new Set(),
    close: ended,
  };
}

/** How a FileServer is ended: what has been asked for comes whole, or it comes to an end at once. */
export type Ending = "stop" | "close";

/** All that it sends is under the rate limit where it is `limited`. Where it is told to end, another one takes its place. */
export function serveFiles(
  site: Site,
  { cuts = [], narrow = false, limited = false }: { cuts?: Ending[]; narrow?: boolean; limited?: boolean },
): Running {
  const errors: unknown[] = [];
  const sent = new Map<string, Sent>();
  const asked = new Set<string>();
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
    asked.add(idOf(request.target));
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
    asked,
    async close() {
      await Promise.all(stopping);
      server?.close();
    },
  };
}

/** Whether it tells of each response. */
export function reports({ name }: Running): boolean {
  return name === "node:http" || name === "FileServer";
}
