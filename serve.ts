/**
 * A server for fetch handlers that sends files by sendfile(2), with the interface of `Deno.serve`.
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
 * Serves HTTP with a handler, as `Deno.serve` does, and sends the files of `serveFile` and `serveDir` by sendfile(2)
 * at every size, on keep-alive connections. The Response may pass through any router and middleware that does not
 * replace its body.
 *
 * On Deno this package's own HTTP/1.1 server answers GET and HEAD. A connection that brings anything else (a body,
 * another method, `Upgrade`, `Expect`, cleartext HTTP/2) is tunneled from there on, over loopback, to a `Deno.serve`
 * of the same handler: the runtime handles WebSockets and uploads, and `info.remoteAddr` is still the client's
 * address. With `cert` and `key`, or without permission to connect to 127.0.0.1, `Deno.serve` handles everything. On
 * Bun, `Bun.serve` does.
 *
 * Differences from `Deno.serve`: a request head that RFC 9112 calls invalid (no Host, lines that end in LF alone)
 * gets 400; a client that half-closes still receives its response; a connection that has waited 75 s for a request is
 * closed; `request.signal` is aborted if the client leaves, and not after a response that the client received.
 *
 * Throws `TypeError` or `RangeError` for bad arguments, and the runtime's error if it cannot listen.
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
/** `serve` with the handler as an option, or with an application that has `fetch`. */
export function serve(options: ServeOptions & ({ handler: ServeHandler } | ServeFetch)): Server;
export function serve(first: unknown, second?: unknown): Server {
  const { handler, settings } = settingsOf(first, second);
  if (isBun) return serveBun(handler, settings);
  if (isDeno) return serveDeno(handler, settings);
  throw new Error("serve runs on Deno and Bun");
}
