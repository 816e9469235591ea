import type { WebAbortSignal, WebRequest, WebResponse } from "../types.ts";

/** Where a server listens, or a client's end of a connection. */
export interface ServeAddr {
  /** The transport: TCP. */
  readonly transport: "tcp";
  /** The IP address. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
}

/** The second argument of a handler, as in `Deno.serve`. */
export interface ServeHandlerInfo {
  /** The client's address. */
  readonly remoteAddr: ServeAddr;
  /**
   * Resolves when the response was passed to the system, and rejects if that failed. Bun does not report this: there
   * it resolves when the handler has returned its response.
   */
  readonly completed: Promise<void>;
}

/** Answers requests, as a handler of `Deno.serve` does. */
export type ServeHandler = (
  request: WebRequest,
  info: ServeHandlerInfo,
) => WebResponse | Promise<WebResponse>;

/** An object with a handler, such as an application of Hono, h3 or Elysia, or a module's `export default { fetch }`. */
export interface ServeFetch {
  /** The handler. */
  fetch: ServeHandler;
}

/** Options of `serve`: those of `Deno.serve`. */
export interface ServeOptions {
  /** The address to listen on. @default "0.0.0.0" */
  hostname?: string;
  /** The TCP port; 0 for any free port. @default 8000 */
  port?: number;
  /** Ends the server and all connections at once when it is aborted. @default none */
  signal?: WebAbortSignal;
  /** Whether other processes may listen on the port as well (Deno requires `--unstable-net` for it). @default false */
  reusePort?: boolean;
  /** Called once the server listens. @default a line on the console with its URL */
  onListen?: (addr: ServeAddr) => void;
  /** Makes the response if the handler has thrown. @default writes the error on the console and answers 500 */
  onError?: (error: unknown) => WebResponse | Promise<WebResponse>;
  /** A certificate in PEM, for HTTPS by the runtime's own server. @default none */
  cert?: string;
  /** The certificate's private key in PEM. @default none */
  key?: string;
}

/** The method that `await using` calls, in programs whose TypeScript library has it. */
export type AsyncDisposal = SymbolConstructor extends { readonly asyncDispose: infer Name extends symbol }
  ? { readonly [name in Name]: () => Promise<void> }
  : unknown;

/** A running server, as `Deno.serve` returns it. */
export type Server = RunningServer & AsyncDisposal;

/** A {@link Server} without its `[Symbol.asyncDispose]`, which is the same as `shutdown`. */
export interface RunningServer {
  /** Where it listens. */
  readonly addr: ServeAddr;
  /** Resolves once the server has ended and all its connections are closed. */
  readonly finished: Promise<void>;
  /** Stops accepting requests, finishes those under way, and then resolves. */
  shutdown(): Promise<void>;
  /** Makes the server keep the process running, which is the default. */
  ref(): void;
  /** Lets the process end although the server runs. */
  unref(): void;
}

/** Options with their defaults. */
export interface ServeSettings {
  readonly hostname: string;
  readonly port: number;
  readonly reusePort: boolean;
  readonly signal: WebAbortSignal | undefined;
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly onListen: (addr: ServeAddr) => void;
  readonly onError: (error: unknown) => WebResponse | Promise<WebResponse>;
}
