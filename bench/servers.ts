/**
 * Starts servers on core 0 in the link's namespace, and checks their responses before they are measured.
 *
 * A server reads from its environment where to listen (BENCH_HOST), and the value of an additional field X-Pad
 * (BENCH_PAD, unless empty): see `startAll`.
 */
import { Buffer } from "node:buffer";
import { type File, type Place, signal, spawn, type SpawnOptions } from "./harness.ts";
import type { Link } from "./link.ts";
import { KIB } from "./numbers.ts";

/** Milliseconds that a server has to answer. */
const ANSWER_TIMEOUT = 30_000;

/** Milliseconds that a server has to shut down. */
const END_TIMEOUT = 2000;

/** More bytes than the head of a response has. */
const HEAD_MAX = 16 * KIB;

/** Heads that differ by at most this many bytes count as equal: "X-Pad: " and the end of the line are 9. */
export const HEAD_TOLERANCE = 9;

/** The settings that a server is started with. */
export interface Setting {
  readonly place: Place;
  readonly link: Link;
  readonly pad: string;
  /** Ends the server. */
  readonly signal: AbortSignal;
}

export interface Server {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  readonly end: () => Promise<void>;
  /** The shape of the response for each file, after the check. */
  readonly shapes: Map<File, Shape>;
}

/** Lengths in bytes, and the names of the header fields in lower case. */
export interface Shape {
  readonly head: number;
  readonly whole: number;
  readonly fields: readonly string[];
}

/** A server that takes part. */
export interface Contender {
  readonly name: string;
  readonly what: string;
  /** The program that it needs besides Deno. */
  readonly needs?: Requirement;
  /** Starts the server. `program` is the path that `needs` found. */
  readonly start: (name: string, setting: Setting, program: string) => Promise<Server>;
}

/** A program that a machine may lack. */
export interface Requirement {
  readonly name: string;
  /** Its path and its version, if it is there. */
  readonly find: () => Promise<Program | undefined>;
}

export interface Program {
  readonly path: string;
  readonly version: string;
}

/**
 * Starts servers whose heads have the same length: on loopback the length of the head alone can change the requests
 * per second by a quarter. The server with the longest head stays, and the others are started again with a field that
 * pads their heads.
 */
export async function startAll(
  contenders: readonly { readonly contender: Contender; readonly program: string }[],
  { place, link }: Pick<Setting, "place" | "link">,
  file: File,
): Promise<Server[]> {
  const begin = async ({ contender: { name, start }, program }: typeof contenders[number], pad: string) => {
    const stop = new AbortController();
    const server = await start(name, { place, link, pad, signal: stop.signal }, program);
    await check(server, file);
    return server;
  };
  const servers: Server[] = [];
  for (const which of contenders) servers.push(await begin(which, ""));
  const longest = Math.max(...servers.map((server) => server.shapes.get(file)!.head));
  for (const [i, server] of servers.entries()) {
    const missing = longest - server.shapes.get(file)!.head;
    if (missing < HEAD_TOLERANCE) continue;
    await server.end();
    servers[i] = await begin(contenders[i], "x".repeat(missing - HEAD_TOLERANCE));
    const length = servers[i].shapes.get(file)!.head;
    if (Math.abs(longest - length) > HEAD_TOLERANCE) {
      throw new Error(`${server.name} sends a head of ${length} bytes where others send ${longest}`);
    }
  }
  return servers;
}

/** Starts a server that prints a line with its port, alone or in a URL. */
export async function start(
  name: string,
  setting: Setting,
  command: readonly string[],
  env: Record<string, string> = {},
): Promise<Server> {
  const child = spawnServer(setting, command, { env, stdout: "piped" });
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    signal.throwIfAborted();
    if (done) throw new Error(`the server for ${name} did not start: ${command.join(" ")}`);
    text += value;
    const port = /^(?:http:\/\/[\d.]+:)?(\d+)\/?\n/m.exec(text)?.[1];
    if (!port) continue;
    void ignore(reader);
    return describe(name, setting, child, Number(port));
  }
}

/** Starts a server that gets its port as an argument, and waits until it listens. */
export async function startAt(
  name: string,
  setting: Setting,
  port: number,
  command: readonly string[],
  env: Record<string, string> = {},
): Promise<Server> {
  const child = spawnServer(setting, command, { env });
  let exited = false;
  void child.status.then(() => exited = true);
  for (const began = Date.now(); !await listens(setting.link.host, port);) {
    signal.throwIfAborted();
    if (exited || Date.now() - began > ANSWER_TIMEOUT) {
      throw new Error(`${name} does not listen: ${command.join(" ")}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return describe(name, setting, child, port);
}

let nextPort = 20_000;

/** A port for `startAt`, below the kernel's range of ephemeral ports, and not used by another server. */
export function freePort({ host }: Link): number {
  for (;;) {
    const port = nextPort++;
    try {
      Deno.listen({ hostname: host, port }).close();
      return port;
    } catch (error) {
      // The servers have their own namespace, so none of its ports is taken.
      if (error instanceof Deno.errors.AddrNotAvailable) return port;
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

async function listens(hostname: string, port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname, port })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}

function spawnServer({ link, pad, signal }: Setting, command: readonly string[], options: SpawnOptions) {
  const env = { ...options.env, BENCH_HOST: link.host, BENCH_PAD: pad };
  return spawn([...link.server.enter, "taskset", "-c", "0", ...command], { ...options, env, signal });
}

function describe(name: string, { link }: Setting, child: Deno.ChildProcess, port: number): Server {
  const end = async () => {
    const timer = setTimeout(() => child.kill("SIGKILL"), END_TIMEOUT);
    try {
      child.kill("SIGTERM");
    } catch { /* it has ended */ }
    await child.status;
    clearTimeout(timer);
  };
  return { name, host: link.host, port, pid: child.pid, end, shapes: new Map() };
}

/** Reads and discards a server's output, so that its pipe is never closed or full. */
async function ignore(reader: ReadableStreamDefaultReader<string>): Promise<void> {
  while (!(await reader.read()).done);
}

/**
 * Throws unless the server sends exactly the right response, and a second one if the connection stays open. The head
 * must be `head`, or any with the right length.
 */
export async function check(server: Server, file: File, head?: Uint8Array): Promise<void> {
  const conn = await Deno.connect({ hostname: server.host, port: server.port });
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("no answer")), ANSWER_TIMEOUT);
  try {
    for (let response = 0; response < 2; response++) {
      const { shape, closes } = await Promise.race([ask(conn, server, file, head), expired]);
      server.shapes.set(file, shape);
      if (closes) break;
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw new Error(`${server.name} does not serve ${file.name} correctly`, { cause });
  } finally {
    clearTimeout(timer);
    conn.close();
  }
}

/**
 * Requests the file as drain does; returns the shape of the response, and whether the server announces that it
 * closes.
 */
async function ask(
  conn: Deno.TcpConn,
  { host, port }: Server,
  file: File,
  head?: Uint8Array,
): Promise<{ shape: Shape; closes: boolean }> {
  await conn.write(new TextEncoder().encode(`GET /${file.name} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`));
  const received = Buffer.alloc(HEAD_MAX + file.body.length);
  let at = 0;
  let body = -1;
  while (body < 0 || at < body + file.body.length) {
    const read = await conn.read(received.subarray(at));
    if (read === null) throw new Error(`the response ended after ${at} bytes`);
    at += read;
    if (body < 0) body = checkHead(received.subarray(0, Math.min(at, HEAD_MAX)), file, head);
  }
  checkBody(received.subarray(body, at), file);
  const text = received.toString("latin1", 0, body);
  const fields = [...text.matchAll(/^([^:\s]+):/gm)].map(([, name]) => name.toLowerCase());
  const closes = /^connection: *close\r$/im.test(text);
  return { shape: { head: body, whole: at, fields }, closes };
}

/** Where the body begins, or -1 if that has not arrived. */
function checkHead(received: Buffer, file: File, head?: Uint8Array): number {
  const end = received.indexOf("\r\n\r\n") + 4;
  if (end < 4) {
    if (received.length < HEAD_MAX) return -1;
    throw new Error("the head has no end");
  }
  const text = received.toString("latin1", 0, end);
  const length = /^content-length: *(\d+)\r$/im.exec(text)?.[1];
  const right = head ? received.subarray(0, end).equals(head) : text.startsWith("HTTP/1.1 200 ");
  if (!right || Number(length) !== file.body.length) throw new Error(`the head is wrong: ${text}`);
  return end;
}

function checkBody(received: Buffer, { body }: File): void {
  if (received.equals(body)) return;
  const wrong = received.findIndex((byte, i) => byte !== body[i]);
  throw new Error(wrong < 0 ? "the body is too short" : `the response is wrong at byte ${wrong} of the body`);
}
