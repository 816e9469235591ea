/** The kinds of HTTP server that this runtime has, in this process and behind one type. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { planPath } from "../../http/file_response.ts";
import { planDirectory } from "../../http/directory.ts";
import { serveDir, type ServeDirectoryOptions, serveFile } from "../../http/mod.ts";
import { sendFile, serveStatic } from "../../http/node.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import { FileServer } from "../../server/server.ts";
import { isBun } from "./harness.ts";

export type Options = ServeDirectoryOptions;

/** What is served: all below a directory, or one file whatever the URL says. */
export type Subject = { root: string } | { file: string };

export interface Running {
  readonly name: string;
  readonly port: number;
  /** What handlers have thrown. */
  readonly errors: unknown[];
  /** Also ends the connections. */
  close(): Promise<void>;
}

/** A kind of server. */
export interface Kind {
  readonly name: "Deno.serve" | "Bun.serve" | "node:http" | "FileServer";
  start(subject: Subject, options?: Options): Promise<Running>;
}

type NodeListener = (request: IncomingMessage, response: ServerResponse) => unknown;

/** A node:http server with a listener of the test's own. */
export async function startNode(listener: NodeListener): Promise<Running> {
  const errors: unknown[] = [];
  const server = createServer(async (request, response) => {
    try {
      await listener(request, response);
    } catch (error) {
      errors.push(error);
      response.destroy();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    name: "node:http",
    port: (server.address() as AddressInfo).port,
    errors,
    close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  };
}

const nodeHttp: Kind = {
  name: "node:http",
  start(subject, options = {}) {
    const here = nodeOptions(options);
    if ("root" in subject) return startNode(serveStatic(subject.root, here));
    return startNode((request, response) => sendFile(request, response, subject.file, here));
  },
};

/** The same options as serve-static has them: milliseconds, and a Cache-Control by default. */
function nodeOptions({ maxAge, cacheControl, ...options }: Options): Options & { cacheControl?: string } {
  const none = (maxAge === undefined && cacheControl === undefined && { cacheControl: false }) || {};
  const ms = maxAge === undefined ? {} : { maxAge: maxAge * 1000 };
  return { ...options, ...none, ...ms, ...(cacheControl === undefined ? {} : { cacheControl }) } as Options;
}

function fetchHandler(subject: Subject, options: Options = {}): (request: Request) => Promise<Response> {
  if ("file" in subject) return (request) => serveFile(request, subject.file, options);
  const all = { ...options, fsRoot: subject.root, quiet: true };
  return (request) => serveDir(request, all);
}

/** What a server answers where its handler failed. */
export const FAILED = { status: 500, headers: { "Content-Length": "0" } };

/** Where a Deno.serve of the tests listens. What goes wrong in its handler is in `errors`, its client gets FAILED. */
export function collecting(errors: unknown[]) {
  return {
    hostname: "127.0.0.1",
    port: 0,
    onListen() {},
    onError(error: unknown): Response {
      errors.push(error);
      return new Response(null, FAILED);
    },
  };
}

/** A Deno.serve with a handler, which its `close` aborts. */
export function startDenoServe(handler: Deno.ServeHandler<Deno.NetAddr>): Running {
  const errors: unknown[] = [];
  const ending = new AbortController();
  const server = Deno.serve({ ...collecting(errors), signal: ending.signal }, handler);
  return {
    name: "Deno.serve",
    port: server.addr.port,
    errors,
    close() {
      ending.abort();
      return server.finished;
    },
  };
}

const denoServe: Kind = {
  name: "Deno.serve",
  start: (subject, options) => Promise.resolve(startDenoServe(fetchHandler(subject, options))),
};

/** The part of Bun in use. */
export interface BunGlobal {
  serve(options: {
    hostname: string;
    port: number;
    development: boolean;
    idleTimeout?: number;
    fetch(request: Request): Promise<Response>;
    error(error: unknown): Response;
  }): { readonly port: number; stop(closeConnections: boolean): Promise<void> };
}

const bunServe: Kind = {
  name: "Bun.serve",
  start(subject, options) {
    const errors: unknown[] = [];
    const server = (globalThis as unknown as { Bun: BunGlobal }).Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      development: false,
      fetch: fetchHandler(subject, options),
      error(error) {
        errors.push(error);
        return new Response(null, FAILED);
      },
    });
    return Promise.resolve({
      name: "Bun.serve",
      port: server.port,
      errors,
      close: () => server.stop(true),
    });
  },
};

/** What the static server is made of. */
const fileServer: Kind = {
  name: "FileServer",
  start(subject, options = {}) {
    const errors: unknown[] = [];
    const resolved = resolveDirectoryOptions(options);
    const server = new FileServer({
      resolved,
      plan: (request) =>
        "file" in subject
          ? planPath(request, resolved, subject.file)
          : planDirectory(request, resolved, subject.root, parseTarget(request.target, resolved.urlRoot)),
      onError: (error) => errors.push(error),
    });
    const port = server.listen({ host: "127.0.0.1", port: 0, shared: false });
    return Promise.resolve({
      name: "FileServer",
      port,
      errors,
      close() {
        server.close();
        return Promise.resolve();
      },
    });
  },
};

export const KINDS: readonly Kind[] = [isBun ? bunServe : denoServe, nodeHttp, fileServer];
