/** HTTP/2 by hand, on a socket: a client library sends no field that is forbidden, and hides what is no frame. */
import { assert } from "@std/assert";
import { Buffer } from "node:buffer";
import * as net from "node:net";
import { DEADLINE } from "./http_client.ts";

export const DATA = 0;
export const RST_STREAM = 3;
export const GOAWAY = 7;

const HEADERS = 1;
const SETTINGS = 4;
const PING = 6;
const WINDOW_UPDATE = 8;
const CONTINUATION = 9;

const ACK = 1;
const END_STREAM = 1;
const END_HEADERS = 4;

const INITIAL_WINDOW_SIZE = 4;
const LARGEST_WINDOW = 2 ** 31 - 1;
const DEFAULT_WINDOW = 65_535;

/** RFC 9113, 4.2: larger ones need a setting that is not sent here. */
const LARGEST_FRAME = 16_384;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** RFC 7541, 6.2.2: literal fields that go into no table, without Huffman. */
function encode(fields: readonly (readonly [string, string])[]): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value, "latin1")]);
  return Buffer.concat(
    fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])),
  );
}

/** A connection that takes nothing but frames for an answer, and sets no limit to what may come. */
export class Http2 {
  readonly frames: Frame[] = [];
  readonly socket: net.Socket;
  ended = false;
  #rest = Buffer.alloc(0);
  #chunks: Buffer[] = [];
  #wake = () => {};

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#wake();
    });
    const end = () => {
      this.ended = true;
      this.#wake();
    };
    socket.on("error", end);
    socket.on("close", end);
    const window = Buffer.alloc(6);
    window.writeUInt16BE(INITIAL_WINDOW_SIZE);
    window.writeUInt32BE(LARGEST_WINDOW, 2);
    const more = Buffer.alloc(4);
    more.writeUInt32BE(LARGEST_WINDOW - DEFAULT_WINDOW);
    socket.write(Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      frame(SETTINGS, 0, 0, window),
      frame(WINDOW_UPDATE, 0, 0, more),
    ]));
  }

  static async to(port: number): Promise<Http2> {
    const socket = net.connect({ port, host: "127.0.0.1" });
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return new Http2(socket);
  }

  /** Sends a request that has no body. `fields`: beside those that every request has. */
  get(stream: number, path: string, fields: readonly (readonly [string, string])[] = []): void {
    const all = [[":method", "GET"], [":scheme", "http"], [":authority", "test"], [":path", path], ...fields];
    this.socket.write(
      frame(HEADERS, END_STREAM | END_HEADERS, stream, encode(all as [string, string][])),
    );
  }

  /** Resolves once everything that the other side did before is here. */
  async settled(): Promise<void> {
    this.socket.write(frame(PING, 0, 0, Buffer.alloc(8, 7)));
    await this.until(({ type, flags }) => type === PING && (flags & ACK) !== 0);
  }

  /** The first frame, of those that came or are to come, which `wanted` is true of. */
  async until(wanted: (frame: Frame) => boolean): Promise<Frame> {
    for (let at = 0;; at++) {
      while (at >= this.frames.length) await this.#read();
      if (wanted(this.frames[at])) return this.frames[at];
    }
  }

  /** The body of a response, once it has ended. */
  async body(stream: number): Promise<Buffer> {
    await this.until((frame) => {
      if (frame.stream === stream && frame.type === RST_STREAM) throw new Error("the stream was reset");
      if (frame.type === GOAWAY) throw new Error("the connection was given up");
      return frame.stream === stream && frame.type === DATA && (frame.flags & END_STREAM) !== 0;
    });
    return Buffer.concat(
      this.frames.filter(({ stream: of, type }) => of === stream && type === DATA).map(({ payload }) =>
        payload
      ),
    );
  }

  async #read(): Promise<void> {
    while (this.#chunks.length === 0) {
      if (this.ended) throw new Error("the connection has ended");
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const timer = setTimeout(() => reject(new Error("no more frames came")), DEADLINE);
      this.#wake = resolve;
      await promise.finally(() => clearTimeout(timer));
    }
    let rest = Buffer.concat([this.#rest, ...this.#chunks]);
    this.#chunks = [];
    while (rest.length >= 9) {
      const [length, type, flags] = [rest.readUIntBE(0, 3), rest[3], rest[4]];
      const stream = rest.readUInt32BE(5);
      assert(
        length <= LARGEST_FRAME && type <= CONTINUATION && stream < 2 ** 31,
        `no frame: ${rest.subarray(0, 40).toString("latin1")}`,
      );
      if (rest.length < 9 + length) break;
      this.frames.push({ type, flags, stream, payload: rest.subarray(9, 9 + length) });
      rest = rest.subarray(9 + length);
      if (type === SETTINGS && (flags & ACK) === 0) {
        this.socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
      }
    }
    this.#rest = rest;
  }

  close(): void {
    this.socket.destroy();
  }
}
