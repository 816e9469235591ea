/** The same handler under `serve` and under the runtime's own server, and what a client gets of both. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { serve, type ServeHandler, type ServeOptions } from "../../serve.ts";
import { isBun } from "./harness.ts";
import { Client } from "./http_client.ts";

/** What runs. */
export interface Served {
  readonly name: string;
  readonly port: number;
  shutdown(): Promise<void>;
  /** Ends all connections. */
  abort(): Promise<void>;
}

type Options = Omit<ServeOptions, "signal">;

/** `serve` itself. */
export function served(handler: ServeHandler, options: Options = {}): Served {
  const stop = new AbortController();
  const { addr, finished, shutdown } = serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen() {},
    ...options,
    signal: stop.signal,
  }, handler);
  const abort = () => {
    stop.abort();
    return finished;
  };
  return { name: "serve", port: addr.port, shutdown, abort };
}

/** `Deno.serve`. */
export function servedByDeno(handler: ServeHandler, options: Options = {}): Served {
  const stop = new AbortController();
  const all = { hostname: "127.0.0.1", port: 0, onListen() {}, ...options, signal: stop.signal };
  const server = Deno.serve(all as Deno.ServeTcpOptions, handler as Deno.ServeHandler<Deno.NetAddr>);
  const abort = () => {
    stop.abort();
    return server.finished;
  };
  return { name: "Deno.serve", port: server.addr.port, shutdown: () => server.shutdown(), abort };
}

/** Runs `body` with a server, and ends it. */
export async function withServed<T>(server: Served, body: (server: Served) => Promise<T>): Promise<T> {
  try {
    return await body(server);
  } finally {
    await server.abort();
  }
}

/** What `body` comes to under both servers has to be the same; gives it. */
export async function assertSameUnderBoth<T>(
  handler: ServeHandler,
  body: (server: Served) => Promise<T>,
  options: Options = {},
): Promise<T> {
  const ours = await withServed(served(handler, options), body);
  if (isBun) return ours; // there `serve` is the runtime's own server
  assertEquals(ours, await withServed(servedByDeno(handler, options), body));
  return ours;
}

/** A response on the wire. */
export interface Message {
  readonly line: string;
  /** Names in lower case, in the order of names; the date taken out. */
  readonly fields: readonly string[];
  readonly body: string;
  /** Whether all of the body has come. */
  readonly whole: boolean;
}

/** Sends bytes, and gives all responses until the server ends the connection. `methods`: of the requests, if not GET. */
export async function exchange(
  port: number,
  request: string,
  { methods = [], half = false }: { methods?: string[]; half?: boolean } = {},
): Promise<Message[]> {
  const client = await Client.to(port);
  try {
    client.send(request);
    if (half) client.finish();
    return parseMessages(await client.rest(), methods);
  } finally {
    client.close();
  }
}

export function parseMessages(all: Buffer, methods: readonly string[]): Message[] {
  const messages: Message[] = [];
  for (let at = 0; at < all.length;) {
    const end = all.indexOf("\r\n\r\n", at);
    assert(end >= 0, `no head of a response: ${all.subarray(at)}`);
    const [line, ...lines] = all.subarray(at, end).toString("latin1").split("\r\n");
    const fields = lines.map((field) => {
      const colon = field.indexOf(":");
      const name = field.slice(0, colon).toLowerCase();
      return `${name}: ${name === "date" ? "now" : field.slice(colon + 1).trim()}`;
    }).sort();
    const hasNone = methods[messages.length] === "HEAD" || / (1\d\d|204|205|304) /.test(line);
    const { body, next, whole } = hasNone
      ? { body: Buffer.alloc(0), next: end + 4, whole: true }
      : bodyOf(all, end + 4, fields);
    messages.push({ line, fields, body: body.toString("latin1"), whole });
    at = next;
  }
  return messages;
}

function bodyOf(all: Buffer, from: number, fields: string[]): { body: Buffer; next: number; whole: boolean } {
  const length = fields.find((field) => field.startsWith("content-length: "));
  if (length !== undefined) {
    const next = from + Number(length.slice("content-length: ".length));
    return { body: all.subarray(from, next), next, whole: next <= all.length };
  }
  if (!fields.includes("transfer-encoding: chunked")) {
    return { body: all.subarray(from), next: all.length, whole: true };
  }
  const chunks: Buffer[] = [];
  for (let at = from;;) {
    const end = all.indexOf("\r\n", at);
    if (end < 0) return { body: Buffer.concat(chunks), next: all.length, whole: false };
    const size = parseInt(all.subarray(at, end).toString("latin1"), 16);
    assert(Number.isInteger(size), `no size of a chunk: ${all.subarray(at, end)}`);
    chunks.push(all.subarray(end + 2, end + 2 + size));
    at = end + 2 + size;
    assertEquals(all.subarray(at, at + 2).toString("latin1"), "\r\n");
    at += 2;
    if (size === 0) return { body: Buffer.concat(chunks), next: at, whole: true };
  }
}
