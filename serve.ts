/**
 * A server for fetch handlers that sends files by sendfile(2), in the shapes of `Deno.serve`.
 *
 * @module
 */

import { isBun, isDeno } from "./runtime.ts";
import { serveBun } from "./server/serve_bun.ts";
import { serveDeno } from "./server/serve_deno.ts";
import { settingsOf } from "./server/serve_options.ts";
import type { ServeFetch, ServeHandler, ServeOptions, Server } from "./server/serve_types.ts";

export type { WebAbortSignal, WebRequest, WebResponse } from "./types.ts";
export type {
  AsyncDisposal,
  RunningServer,
  ServeAddr,
  ServeFetch,
  ServeHandler,
  ServeHandlerInfo,
  ServeOptions,
  Server,
} from "./server/serve_types.ts";

/**
 * Serves HTTP by a handler, as `Deno.serve` does, and sends the files of `serveFile` and `serveDir` by sendfile(2) at
 * every size, on connections that go on: through any router and middleware that leaves the body as it is.
 *
 * On Deno GET and HEAD are answered by this package's own HTTP/1.1 server. A connection that brings anything else (a
 * body, another method, `Upgrade`, `Expect`, cleartext HTTP/2) goes from there on through a `Deno.serve` of the same
 * handler, by way of loopback: WebSockets and uploads are the runtime's own, and `info.remoteAddr` is the client's. With
 * `cert` and `key`, or without permission to connect to 127.0.0.1, all of it is `Deno.serve`. On Bun it is `Bun.serve`.
 *
 * What differs from `Deno.serve`: heads of requests that RFC 9112 calls invalid are 400 (no Host, lines that end in LF
 * alone); a client that half-closes still gets its response; connections that wait for a request for 75 s are closed;
 * `request.signal` is aborted where the client leaves, and not after a response that it got.
 *
 * Throws `TypeError` or `RangeError` for bad arguments, and the runtime's error where it cannot listen.
 *
 * Source: RFC 9110 and 9112; `Deno.serve`.
 *
 * @example Files and an application
 * ```ts no-eval
 * import { serve } from "@zerocopy/sendfile/serve";
 * import { serveDir } from "@zerocopy/sendfile/http";
 *
 * const server = serve({ port: 8000 }, (request) => {
 *   const { pathname } = new URL(request.url);
 *   if (pathname.startsWith("/files/")) return serveDir(request, { fsRoot: "public", urlRoot: "files" });
 *   return new Response("hello");
 * });
 * await server.finished;
 * ```
 *
 * @example An application of a framework
 * ```ts no-eval
 * import { serve } from "@zerocopy/sendfile/serve";
 *
 * const application = { fetch: (request: Request) => new Response(`you asked for ${request.url}`) };
 * serve({ port: 8000, hostname: "127.0.0.1" }, application);
 * ```
 */
export function serve(handler: ServeHandler | ServeFetch): Server;
/** `serve` with options, as `Deno.serve(options, handler)`. */
export function serve(options: ServeOptions, handler: ServeHandler | ServeFetch): Server;
/** `serve` with the handler among the options, or an application with `fetch`. */
export function serve(options: ServeOptions & ({ handler: ServeHandler } | ServeFetch)): Server;
export function serve(first: unknown, second?: unknown): Server {
  const { handler, settings } = settingsOf(first, second);
  if (isBun) return serveBun(handler, settings);
  if (isDeno) return serveDeno(handler, settings);
  throw new Error("serve runs on Deno and Bun");
}
