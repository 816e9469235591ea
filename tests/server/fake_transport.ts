/** A connection without a socket: the test is its transport and its clock. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { Connection } from "../../server/connection.ts";
import type { Transport } from "../../server/transport.ts";
import type { SendfileSocket } from "../../sockets/mod.ts";
import { openBelow } from "../support/data.ts";
import { Place, type ServingOptions, soon, turn } from "./serving.ts";

/** A transport whose other end is the test. It has no descriptor, so files are copied. */
export class FakeTransport implements Transport {
  readonly client = undefined;
  /** What the connection has sent. */
  output = "";
  finished = false;
  closed = false;
  /** Bytes that may still be sent. */
  room = Infinity;
  #input: Buffer[] = [];
  #ended = false;
  #wake = () => {};
  #roomy = () => {};

  /** In the shape of a Deno.TlsConn, which has no descriptor. */
  readonly socket = {
    localAddr: {},
    remoteAddr: {},
    handshake() {},
    read() {},
    closeWrite: () => Promise.resolve(this.finish()),
    write: (bytes: Uint8Array) => this.#write(bytes),
  } as unknown as SendfileSocket;

  push(...pieces: string[]): void {
    for (const piece of pieces) this.#input.push(Buffer.from(piece, "latin1"));
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  makeRoom(bytes: number): void {
    this.room += bytes;
    this.#roomy();
  }

  async read(into: Uint8Array): Promise<number> {
    while (this.#input.length === 0 && !this.#ended && !this.closed) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    if (this.#input.length === 0 || this.closed) return 0;
    const piece = this.#input.shift()!;
    const bytes = piece.subarray(0, into.length);
    into.set(bytes);
    if (bytes.length < piece.length) this.#input.unshift(piece.subarray(bytes.length));
    return bytes.length;
  }

  async #write(bytes: Uint8Array): Promise<number> {
    while (this.room === 0 && !this.closed) await new Promise<void>((resolve) => this.#roomy = resolve);
    if (this.closed || this.finished) throw Object.assign(new Error("closed"), { code: "EPIPE" });
    const count = Math.min(bytes.length, this.room);
    this.room -= count;
    this.output += Buffer.from(bytes.subarray(0, count)).toString("latin1");
    return count;
  }

  finish(): void {
    this.finished = true;
  }

  close(): void {
    this.closed = true;
    this.#wake();
    this.#roomy();
  }
}

/** Runs `body` with one connection of a place that listens nowhere. */
export async function alone(
  body: (transport: FakeTransport, connection: Connection, place: Place) => Promise<void>,
  plan?: ServingOptions["plan"],
): Promise<void> {
  const place = new Place(plan);
  const transport = new FakeTransport();
  const connection = new Connection(transport, place.site);
  const running = connection.run();
  try {
    await body(transport, connection, place);
    assertEquals(place.errors, []);
    transport.end();
    connection.close();
    await soon(running, "the end of the connection");
    assertEquals(openBelow(place.root), []);
  } finally {
    connection.close();
    fs.rmSync(place.root, { recursive: true });
  }
}

/** Does what the server does each second, so many times. */
export async function passSeconds(connection: Connection, seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    connection.look();
    if (i % 10 === 0) await turn();
  }
  await turn();
}
