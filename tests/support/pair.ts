/** What every kind of socket in the tests has: two ends of one connection, of which one is under test. */
import { fromFileUrl } from "@std/path";
import * as fs from "node:fs";
import type * as net from "node:net";
import * as tls from "node:tls";
import { type Connection, findConnection, parseConnection } from "../../ffi/find.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import type { SendfileSocket } from "../../mod.ts";
import { concat } from "./data.ts";

const read = (name: string) =>
  fs.readFileSync(fromFileUrl(new URL(`../tls/${name}.pem`, import.meta.url)), "utf8");
export const cert = read("cert");
export const key = read("key");

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

export function connectionOf(libc: Libc, socket: net.Socket): Connection {
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
export function once(close: () => void): () => void {
  let open = true;
  return () => {
    if (open) close();
    open = false;
  };
}

export function makePeer(socket: net.Socket, small = false): Peer {
  const libc = loadLibc();
  if (small && typeof libc !== "string" && socket.localPort !== undefined) shrink(libc, socket);
  return new Peer(socket);
}

export function listening(server: net.Server): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  server.listen(0, "127.0.0.1", () => resolve((server.address() as net.AddressInfo).port));
  return promise;
}

export function connected(socket: net.Socket): Promise<net.Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<net.Socket>();
  socket.once(socket instanceof tls.TLSSocket ? "secureConnect" : "connect", () => resolve(socket));
  socket.once("error", reject);
  return promise;
}
