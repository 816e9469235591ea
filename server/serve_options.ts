import type { ServeFetch, ServeHandler, ServeOptions, ServeSettings } from "./serve_types.ts";

/** The type of each option. */
const OPTIONS: Readonly<Record<string, string>> = {
  hostname: "string",
  port: "number",
  reusePort: "boolean",
  signal: "object",
  onListen: "function",
  onError: "function",
  cert: "string",
  key: "string",
  handler: "function",
  fetch: "function",
};

/** Options of `Deno.serve` that this server does not support. */
const NOT_HERE: Readonly<Record<string, string>> = {
  path: "unix sockets",
  cid: "vsock",
  tunnel: "tunnels",
  automaticCompression: "automatic compression",
  tcpBacklog: "tcpBacklog",
  alpnProtocols: "alpnProtocols",
};

/** Parses the arguments of `serve` in each of their forms. Throws `TypeError` or `RangeError`. */
export function settingsOf(
  first: unknown,
  second: unknown,
): { handler: ServeHandler; settings: ServeSettings } {
  const isHandler = typeof first === "function";
  const options = isHandler ? {} : first;
  if (typeof options !== "object" || options === null) {
    throw new TypeError("serve needs a handler, or options with one");
  }
  // A framework's application has other properties than `fetch`, which are not options.
  const isApplication = second === undefined && !isHandler && isFetch(options) &&
    !Object.hasOwn(options, "fetch");
  const handler = handlerOf(isHandler ? first : second ?? options);
  const given = (isApplication ? {} : options) as ServeOptions;
  checkOptions(given as Record<string, unknown>);
  const { hostname = "0.0.0.0", port = 8000, reusePort = false, signal, cert, key } = given;
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new RangeError(`port must be an integer from 0 to 65535, not ${port}`);
  }
  if ((cert === undefined) !== (key === undefined)) {
    throw new TypeError("Both cert and key must be provided to enable HTTPS");
  }
  const tls = cert === undefined || key === undefined ? undefined : { cert, key };
  return {
    handler,
    settings: {
      hostname,
      port,
      reusePort,
      signal,
      tls,
      onListen: given.onListen ?? ((addr) => console.log(`Listening on ${urlsOf(addr, tls !== undefined)}`)),
      onError: given.onError ?? answerError,
    },
  };
}

function isFetch(value: object): value is ServeFetch {
  return typeof (value as Partial<ServeFetch>).fetch === "function";
}

/** The function behind a handler, an object with `fetch`, or options with either. */
function handlerOf(value: unknown): ServeHandler {
  if (typeof value === "function") return value as ServeHandler;
  const { handler, fetch } = (value ?? {}) as { handler?: unknown; fetch?: unknown };
  const found = fetch ?? handler; // an h3 application also has `handler`, which is something else
  if (typeof found !== "function") {
    throw new TypeError(`handler must be a function or an object with a function fetch, not ${typeof found}`);
  }
  return found.bind(value) as ServeHandler;
}

function checkOptions(options: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const type = OPTIONS[name];
    if (type === undefined) {
      const what = NOT_HERE[name];
      if (what) throw new TypeError(`serve has no ${name}: use Deno.serve for ${what}`);
      if (name === "certFile" || name === "keyFile") {
        throw new TypeError(`serve has no ${name}: give the file's text as ${name.slice(0, -4)}`);
      }
      throw new TypeError(`serve has no option ${name}`);
    }
    if (typeof value !== type || value === null) throw new TypeError(`${name} must be a ${type}`);
    if (name === "signal" && !(value instanceof AbortSignal)) {
      throw new TypeError("signal must be an AbortSignal");
    }
  }
}

/** The URL, as Deno.serve prints it. */
function urlsOf({ hostname, port }: { hostname: string; port: number }, tls: boolean): string {
  const scheme = tls ? "https" : "http";
  const url = `${scheme}://${authorityOf(hostname)}:${port}/`;
  return isEverywhere(hostname) ? `${url} (${scheme}://localhost:${port}/)` : url;
}

/** Formats an IP address for a URL. */
export function authorityOf(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}

export function isEverywhere(hostname: string): boolean {
  return hostname === "0.0.0.0" || hostname === "::";
}

function answerError(error: unknown): Response {
  console.error(error);
  return new Response("Internal Server Error", { status: 500 });
}
