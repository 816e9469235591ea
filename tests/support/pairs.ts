import * as fs from "node:fs";
import * as http from "node:http";
import * as net from "node:net";
import * as tls from "node:tls";
import { fromFileUrl, join } from "@std/path";
import type { SendfileSocket } from "../../mod.ts";
import { type Connection, findConnection, parseConnection } from "../../ffi/find.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { concat, folder } from "./data.ts";
import { isBun } from "./harness.ts";

const read = (name: string) =>
  fs.readFileSync(fromFileUrl(new URL(`../tls/${name}.pem`, import.meta.url)), "utf8");
const cert = read("cert");
const key = read("key");

/** Two ends of one connection: the socket under test, and its peer. */
export interface Pair {
  /** What is handed to `sendfile`. */
  readonly socket: SendfileSocket;
  readonly peer: Peer;
  /** Writes by the runtime's own means; resolves when all is written. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends the connection from the side under test, which lets `peer.all()` resolve. */
  end(): void;
  /** Closes everything. */
  close(): void;
}

/** A kind of socket. */
export interface Kind {
  readonly name: string;
  /** Whether sendfile(2) can serve it. */
  readonly native: boolean;
  open(options?: { small?: boolean }): Promise<Pair>;
}

/** The peer: a node:net socket that does not read until it is told to. */
export class Peer {
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  readonly #ended = Promise.withResolvers<void>();
  readonly socket: net.Socket;

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.pause();
    socket.on("data", (chunk: Uint8Array) => {
      this.#chunks.push(new Uint8Array(chunk));
      this.#length += chunk.length;
    });
    socket.on("close", () => this.#ended.resolve());
    socket.on("end", () => this.#ended.resolve());
    socket.on("error", () => this.#ended.resolve());
  }

  get received(): Uint8Array {
    return concat(...this.#chunks);
  }

  get length(): number {
    return this.#length;
  }

  /** Reads on, and resolves to all that came once the other side has ended. */
  async all(): Promise<Uint8Array> {
    this.socket.resume();
    await this.#ended.promise;
    return this.received;
  }

  /** Reads on, and resolves once at least `length` bytes have come. */
  async atLeast(length: number): Promise<Uint8Array> {
    this.socket.resume();
    while (this.#length < length) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const ended = () => reject(new Error(`the connection ended after ${this.#length} of ${length} bytes`));
      this.socket.once("data", () => resolve());
      this.socket.once("close", ended);
      await promise;
      this.socket.removeListener("close", ended);
    }
    return this.received;
  }
}

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;

function connectionOf(libc: Libc, socket: net.Socket): Connection {
  const local = { hostname: socket.localAddress!, port: socket.localPort! };
  const remote = { hostname: socket.remoteAddress!, port: socket.remotePort! };
  return parseConnection(libc, local, remote)!;
}

/** Smaller ones than 16 KiB meet loopback's 64 KiB segments, and then TCP's silly-window timers (20 s for 1 MiB). */
const SMALL = 32768;

/** Buffers so small that a transfer of more than some kilobytes must wait. */
function shrink(libc: Libc, socket: net.Socket): void {
  const { local, remote } = connectionOf(libc, socket);
  const here = findConnection(libc, { local, remote });
  const there = findConnection(libc, { local: remote, remote: local });
  if (here === undefined || there === undefined) throw new Error("the pair's descriptors were not found");
  libc.setOption(here, SOL_SOCKET, SO_RCVBUF, SMALL);
  libc.setOption(there, SOL_SOCKET, SO_SNDBUF, SMALL);
}

/** So that a test may close a pair, and its `finally` again. */
function once(close: () => void): () => void {
  let open = true;
  return () => {
    if (open) close();
    open = false;
  };
}

function makePeer(socket: net.Socket, small = false): Peer {
  const libc = loadLibc();
  if (small && typeof libc !== "string" && socket.localPort !== undefined) shrink(libc, socket);
  return new Peer(socket);
}

function listening(server: net.Server): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  server.listen(0, "127.0.0.1", () => resolve((server.address() as net.AddressInfo).port));
  return promise;
}

function connected(socket: net.Socket): Promise<net.Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<net.Socket>();
  socket.once(socket instanceof tls.TLSSocket ? "secureConnect" : "connect", () => resolve(socket));
  socket.once("error", reject);
  return promise;
}

/** The pair around a node socket under test. */
function nodePair(socket: net.Socket, peer: Peer, closeMore: () => void): Pair {
  socket.on("error", () => {/* a test looks at what sendfile rejects with */});
  return {
    socket,
    peer,
    write: (bytes) => new Promise((resolve) => socket.write(bytes, () => resolve())),
    end: () => void socket.end(),
    close: once(() => {
      socket.destroy();
      peer.socket.destroy();
      closeMore();
    }),
  };
}

export const nodeAccepted: Kind = {
  name: "node:net accepted",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const client = await connected(net.connect(await listening(server), "127.0.0.1"));
    return nodePair(await promise, makePeer(client, small), () => server.close());
  },
};

export const nodeConnected: Kind = {
  name: "node:net connected",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const client = await connected(net.connect(await listening(server), "127.0.0.1"));
    return nodePair(client, makePeer(await promise, small), () => server.close());
  },
};

export const nodeTls: Kind = {
  name: "node:tls",
  native: false,
  async open() {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = tls.createServer({ cert, key }, resolve);
    const port = await listening(server);
    const client = await connected(tls.connect({ port, host: "127.0.0.1", ca: cert }));
    return nodePair(await promise, makePeer(client), () => server.close());
  },
};

/** The socket of a node:http request that is under way. The peer gets a head first, without a length. */
export const nodeHttp: Kind = {
  name: "node:http",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<http.ServerResponse>();
    const server = http.createServer((_request, response) => {
      response.writeHead(200, { "Content-Length": "0", "Connection": "close" });
      response.flushHeaders();
      resolve(response);
    });
    const client = await connected(net.connect(await listening(server), "127.0.0.1"));
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    const response = await promise;
    const peer = makePeer(client, small); // now that the server's end is accepted
    const socket = response.socket!;
    return { ...nodePair(socket, peer, () => server.close()), end: () => void response.end() };
  },
};

export function listenDeno(options: { tls?: boolean; unix?: string } = {}): Deno.Listener {
  if (options.unix) return Deno.listen({ transport: "unix", path: options.unix }) as unknown as Deno.Listener;
  if (options.tls) return Deno.listenTls({ port: 0, hostname: "127.0.0.1", cert, key });
  return Deno.listen({ port: 0, hostname: "127.0.0.1" });
}

function denoPair(conn: Deno.Conn, peer: Peer, closeMore: () => void): Pair {
  const close = once(() => conn.close());
  return {
    socket: conn,
    peer,
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    },
    end: close,
    close: once(() => {
      close();
      peer.socket.destroy();
      closeMore();
    }),
  };
}

export const denoAccepted: Kind = {
  name: "Deno.listen",
  native: true,
  async open({ small } = {}) {
    const listener = listenDeno();
    const { port } = listener.addr as Deno.NetAddr;
    const [conn, client] = await Promise.all([listener.accept(), connected(net.connect(port, "127.0.0.1"))]);
    return denoPair(conn, makePeer(client, small), () => listener.close());
  },
};

export const denoConnected: Kind = {
  name: "Deno.connect",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: await listening(server) });
    return denoPair(conn, makePeer(await promise, small), () => server.close());
  },
};

export const denoTls: Kind = {
  name: "Deno.listenTls",
  native: false,
  async open() {
    const listener = listenDeno({ tls: true });
    const { port } = listener.addr as Deno.NetAddr;
    const client = tls.connect({ port, host: "127.0.0.1", ca: cert });
    const conn = await listener.accept();
    await Promise.all([(conn as Deno.TlsConn).handshake(), connected(client)]);
    return denoPair(conn, makePeer(client), () => listener.close());
  },
};

export const denoUnix: Kind = {
  name: "Deno.listen unix",
  native: false,
  async open() {
    const dir = folder();
    const path = join(dir, "socket");
    const listener = listenDeno({ unix: path });
    const [conn, client] = await Promise.all([listener.accept(), connected(net.connect(path))]);
    return denoPair(conn, makePeer(client), () => {
      listener.close();
      fs.rmSync(dir, { recursive: true });
    });
  },
};

/** The part of Bun in use. */
interface BunSocket {
  readonly fd: number;
  readonly readyState: number;
  write(bytes: Uint8Array): number;
  end(): void;
  terminate(): void;
  shutdown(): void;
  reload(handlers: unknown): void;
}
interface BunGlobal {
  listen(options: unknown): { port: number; stop(all: boolean): void };
  connect(options: unknown): Promise<BunSocket>;
}
const bun = (globalThis as unknown as { Bun: BunGlobal }).Bun;

function bunPair(socket: BunSocket, drained: () => Promise<void>, peer: Peer, closeMore: () => void): Pair {
  return {
    socket,
    peer,
    async write(bytes) {
      for (let at = 0; at < bytes.length;) {
        const written = socket.write(bytes.subarray(at));
        if (written < 0) throw new Error("the socket is closed");
        at += written;
        if (at < bytes.length) await drained();
      }
    },
    end: () => socket.end(),
    close: once(() => {
      socket.terminate();
      peer.socket.destroy();
      closeMore();
    }),
  };
}

function bunHandlers() {
  let drain = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<BunSocket>();
  const shaken = Promise.withResolvers<BunSocket>();
  const handlers = {
    data() {},
    error() {},
    open: (socket: BunSocket) => opened.resolve(socket),
    handshake: (socket: BunSocket) => shaken.resolve(socket),
    drain() {
      drain.resolve();
      drain = Promise.withResolvers();
    },
  };
  return { handlers, opened: opened.promise, shaken: shaken.promise, drained: () => drain.promise };
}

async function openBun(
  { listen, connect, secure }: { listen: object; connect: (port: number) => net.Socket; secure?: boolean },
  small?: boolean,
): Promise<Pair> {
  const { handlers, opened, shaken, drained } = bunHandlers();
  const listener = bun.listen({ ...listen, socket: handlers });
  const client = await connected(connect(listener.port));
  const socket = await (secure ? shaken : opened);
  return bunPair(socket, drained, makePeer(client, small), () => listener.stop(true));
}

export const bunAccepted: Kind = {
  name: "Bun.listen",
  native: true,
  open: ({ small } = {}) =>
    openBun({
      listen: { port: 0, hostname: "127.0.0.1" },
      connect: (port) => net.connect(port, "127.0.0.1"),
    }, small),
};

export const bunConnected: Kind = {
  name: "Bun.connect",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const { handlers, drained } = bunHandlers();
    const port = await listening(server);
    const socket = await bun.connect({ hostname: "127.0.0.1", port, socket: handlers });
    return bunPair(socket, drained, makePeer(await promise, small), () => server.close());
  },
};

export const bunTls: Kind = {
  name: "Bun.listen TLS",
  native: false,
  open: () =>
    openBun({
      listen: { port: 0, hostname: "127.0.0.1", tls: { cert, key } },
      connect: (port) => tls.connect({ port, host: "127.0.0.1", ca: cert }),
      secure: true,
    }),
};

export const bunUnix: Kind = {
  name: "Bun.listen unix",
  native: true,
  async open() {
    const dir = folder();
    const unix = join(dir, "socket");
    const pair = await openBun({ listen: { unix }, connect: () => net.connect(unix) });
    return {
      ...pair,
      close: once(() => {
        pair.close();
        fs.rmSync(dir, { recursive: true });
      }),
    };
  },
};

/** The number of a node:net socket's descriptor. */
export const descriptor: Kind = {
  name: "descriptor",
  native: true,
  async open(options) {
    const pair = await nodeAccepted.open(options);
    const libc = loadLibc() as Libc;
    return { ...pair, socket: findConnection(libc, connectionOf(libc, pair.socket as net.Socket))! };
  },
};

/** What came of a transfer over `kind`: on a node:http socket a head precedes it. */
export function bodyOf(kind: Kind, received: Uint8Array): Uint8Array {
  if (kind !== nodeHttp) return received;
  const end = new TextDecoder("latin1").decode(received).indexOf("\r\n\r\n");
  if (end <= 0) throw new Error("the body came before the head");
  return received.subarray(end + 4);
}

/** The descriptor of a TCP pair's socket under test, at this moment. */
export function descriptorOf({ peer: { socket } }: Pair): number {
  const libc = loadLibc() as Libc;
  const { local, remote } = connectionOf(libc, socket);
  const fd = findConnection(libc, { local: remote, remote: local });
  if (fd === undefined) throw new Error("the pair's descriptor was not found");
  return fd;
}

/** The runtime's own raw socket. */
export const raw: Kind = isBun ? bunAccepted : denoAccepted;

/** The runtime's own TLS socket. */
export const secure: Kind = isBun ? bunTls : denoTls;

/** Every kind of socket of this runtime. */
export const kinds: readonly Kind[] = [
  ...(isBun
    ? [bunAccepted, bunConnected, bunUnix, bunTls]
    : [denoAccepted, denoConnected, denoUnix, denoTls]),
  nodeAccepted,
  nodeConnected,
  nodeTls,
  nodeHttp,
  descriptor,
];
