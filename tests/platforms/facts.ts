/**
 * What no runtime promises, and this package rests on: private names, numbers and lengths. Plain JavaScript and the
 * runtime alone, so that every version can be asked.
 */
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** Each fact by its name. */
export type Facts = Record<string, string>;

/** As they are in the versions that package.json names. */
export const EXPECTED: Record<"deno" | "bun", Facts> = {
  deno: {
    "Deno.listen, symbol Deno.internal.fd": "a socket's number",
    "… after close()": "still a number", // so sockets/deno_conn.ts asks the resource first
    "Deno.connect, symbol Deno.internal.fd": "undefined",
    "node:net, _handle.fdForIpc()": "a new duplicate",
    "node:http, _handle.fdForIpc()": "a new duplicate",
    "node:fs, openSync": "the kernel's number",
    "Deno.serve, head of a response": "as long as counted",
    "Deno.serve, head if the request says close": "as long as counted",
    "Deno.serve, head with a Date of the handler's": "as long as counted",
  },
  bun: {
    "Bun.listen, fd": "a socket's number",
    "… after end()": "below 0",
    "Bun.connect, fd": "a socket's number",
    "node:net, _handle.fd": "a socket's number",
    "node:http, _handle": "null",
    "node:fs, openSync": "the kernel's number",
    "Bun.serve, slice whose body was looked at": "the slice",
  },
};

/** Asks the runtime that this runs on; Node.js has nothing of the kind. */
export async function askFacts(): Promise<Facts> {
  const own = "Deno" in globalThis ? await askDeno() : "Bun" in globalThis ? await askBun() : {};
  return own;
}

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

/** What a number is in the kernel's table of descriptors. */
function kindOf(fd: unknown): string {
  if (typeof fd !== "number") return String(fd);
  if (fd < 0) return "below 0";
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:")
      ? "a socket's number"
      : "a number of no socket";
  } catch {
    return "a number of nothing";
  }
}

function internalFd(conn: object): unknown {
  const symbol = Object.getOwnPropertySymbols(conn).find((symbol) =>
    symbol.description === "Deno.internal.fd"
  );
  return symbol === undefined ? "no symbol" : (conn as Record<symbol, unknown>)[symbol];
}

async function askDeno(): Promise<Facts> {
  const listener = Deno.listen(LOOPBACK);
  const [accepted, connected] = await Promise.all([
    listener.accept(),
    Deno.connect({ ...LOOPBACK, port: listener.addr.port }),
  ]);
  const facts: Facts = { "Deno.listen, symbol Deno.internal.fd": kindOf(internalFd(accepted)) };
  facts["Deno.connect, symbol Deno.internal.fd"] = kindOf(internalFd(connected));
  connected.close();
  accepted.close();
  listener.close();
  const after = internalFd(accepted);
  facts["… after close()"] = typeof after === "number" ? "still a number" : String(after);
  facts["node:net, _handle.fdForIpc()"] = await onNodeSocket(duplicateOf);
  facts["node:http, _handle.fdForIpc()"] = await onHttpSocket(duplicateOf);
  facts["node:fs, openSync"] = openedFile();
  facts["Deno.serve, head of a response"] = await headOf({}, []);
  facts["Deno.serve, head if the request says close"] = await headOf({ Connection: "close" }, []);
  const date: [string, string] = ["date", new Date(0).toUTCString()];
  facts["Deno.serve, head with a Date of the handler's"] = await headOf({}, [date]);
  return facts;
}

/** The members of Bun that are used. */
interface BunSocket {
  readonly fd?: number;
  end(): void;
}
interface BunGlobal {
  listen(options: object): { port: number; stop(): void };
  connect(options: object): Promise<BunSocket>;
  serve(options: object): { port: number; stop(closeActive: boolean): void };
  file(path: string): Blob;
}

async function askBun(): Promise<Facts> {
  const { Bun } = globalThis as unknown as { Bun: BunGlobal };
  const opened = Promise.withResolvers<BunSocket>();
  const closed = Promise.withResolvers<void>();
  const here = {
    data() {},
    open: (socket: BunSocket) => opened.resolve(socket),
    close: () => closed.resolve(),
  };
  const listener = Bun.listen({ ...LOOPBACK, socket: here });
  const connected = await Bun.connect({ ...LOOPBACK, port: listener.port, socket: { data() {} } });
  const accepted = await opened.promise;
  const facts: Facts = { "Bun.listen, fd": kindOf(accepted.fd), "Bun.connect, fd": kindOf(connected.fd) };
  connected.end();
  accepted.end();
  await closed.promise;
  listener.stop();
  facts["… after end()"] = kindOf(accepted.fd);
  facts["node:net, _handle.fd"] = await onNodeSocket((handle) => kindOf(handle?.fd));
  facts["node:http, _handle"] = await onHttpSocket(String);
  facts["node:fs, openSync"] = openedFile();
  facts["Bun.serve, slice whose body was looked at"] = await touchedSlice(Bun);
  return facts;
}

type Handle = { fd?: unknown; fdForIpc?(): unknown } | null | undefined;

/** Two calls must give two numbers of sockets, which are ours to close. */
function duplicateOf(handle: Handle): string {
  if (typeof handle?.fdForIpc !== "function") return "none";
  const [one, other] = [handle.fdForIpc(), handle.fdForIpc()];
  const kind = kindOf(one);
  if (kind !== "a socket's number") return kind;
  // node:fs closes only what it has opened.
  const libc = Deno.dlopen("libc.so.6", { close: { parameters: ["i32"], result: "i32" } });
  for (const fd of new Set([one, other])) libc.symbols.close(fd as number);
  libc.close();
  return one === other ? "the same number each time" : "a new duplicate";
}

function handleOf(socket: object): Handle {
  return (socket as { _handle?: Handle })._handle;
}

/** Whatever `look` says of the handle of an accepted node:net socket. */
async function onNodeSocket(look: (handle: Handle) => string): Promise<string> {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer(accepted.resolve);
  const client = connect(await listening(server), "127.0.0.1");
  const socket = await accepted.promise;
  try {
    return look(handleOf(socket));
  } finally {
    socket.destroy();
    client.destroy();
    server.close();
  }
}

/** The same of node:http, with a response under way. */
async function onHttpSocket(look: (handle: Handle) => string): Promise<string> {
  const looked = Promise.withResolvers<string>();
  const server = createHttpServer((_, response) => {
    try {
      looked.resolve(look(handleOf(response.socket!)));
    } catch (error) {
      looked.reject(error);
    }
    response.end();
  });
  const client = connect(await listening(server), "127.0.0.1");
  client.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  try {
    return await looked.promise;
  } finally {
    client.destroy();
    server.close();
  }
}

function listening(server: ReturnType<typeof createServer>): Promise<number> {
  return new Promise((resolve) =>
    server.listen({ host: "127.0.0.1", port: 0 }, () => resolve((server.address() as AddressInfo).port))
  );
}

function openedFile(): string {
  const fd = fs.openSync(process.execPath, "r");
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`) === fs.realpathSync(process.execPath)
      ? "the kernel's number"
      : "another number";
  } catch {
    return "another number";
  } finally {
    fs.closeSync(fd);
  }
}

/** What comes for a request, up to the end of the head at least, or of the connection. */
async function exchange(port: number, fields: Record<string, string>, all = false): Promise<Buffer> {
  const client = connect(port, "127.0.0.1");
  const lines = Object.entries({ Host: "x", ...fields }).map(([name, value]) => `${name}: ${value}\r\n`);
  client.write(`GET / HTTP/1.1\r\n${lines.join("")}\r\n`);
  let received = Buffer.alloc(0);
  for await (const chunk of client) {
    received = Buffer.concat([received, chunk]);
    if (!all && received.includes("\r\n\r\n")) break;
  }
  return received;
}

const CLOSE = "connection: close\r\n".length;
const DATE = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".length;

/** Compares the length of the head that Deno.serve writes with what http/send/with_sendfile.ts counts. */
async function headOf(request: Record<string, string>, more: [string, string][]): Promise<string> {
  const headers: [string, string][] = [
    ["content-length", "3"],
    ["content-type", "text/plain"],
    ["set-cookie", "a=1"],
    ["set-cookie", "b=2"],
    ...more,
  ];
  if (!("Connection" in request)) headers.unshift(["connection", "close"]);
  const body = () =>
    new ReadableStream({
      pull(controller) {
        controller.enqueue(new TextEncoder().encode("abc"));
        controller.close();
      },
    });
  const server = Deno.serve({ ...LOOPBACK, onListen() {} }, () => new Response(body(), { headers }));
  const response = await exchange(server.addr.port, request);
  await server.shutdown();
  const head = response.indexOf("\r\n\r\n") + 4;
  let counted = "HTTP/1.1 200 OK\r\n\r\n".length + (more.length > 0 ? 0 : DATE);
  for (const [name, value] of headers) counted += `${name}: ${value}\r\n`.length;
  // Both are known there: the server may add the field, also beside another.
  const isCounted = head === counted || head === counted + CLOSE;
  return isCounted ? "as long as counted" : `${head} bytes in place of ${counted}`;
}

async function touchedSlice(Bun: BunGlobal): Promise<string> {
  const root = fs.mkdtempSync(join(tmpdir(), "facts-"));
  const path = join(root, "file.txt");
  fs.writeFileSync(path, "0123456789");
  const server = Bun.serve({
    ...LOOPBACK,
    fetch() {
      const response = new Response(Bun.file(path).slice(2, 5), { status: 206 });
      return response.body && response;
    },
  });
  try {
    const response = (await exchange(server.port, { Connection: "close" }, true)).toString("latin1");
    // Chunked or not.
    return response.includes("0123456789")
      ? "the whole file"
      : response.includes("234")
      ? "the slice"
      : "neither";
  } finally {
    server.stop(true);
    fs.rmSync(root, { recursive: true });
  }
}
