import * as fs from "node:fs";
import { ConnectionClosedError, SendfileTimeoutError } from "../../errors.ts";
import { isSameFile } from "../../ffi/file_id.ts";
import type { Libc } from "../../ffi/libc.ts";
import type { Via } from "../../transfer/options.ts";
import { readAt } from "../../files/read_file.ts";
import { nextRound } from "../../runtime.ts";
import { sendParts } from "../../sendfile.ts";
import { SeenFile } from "../../files/source.ts";
import type { Observer } from "../../transfer/transfer.ts";
import { TruncatedError } from "./body.ts";
import { type FileBody, type OpenFile, openRegular } from "../root/open_file.ts";
import { countOf, optionsOf } from "./parts.ts";
import type { FileStream } from "./fetch_response.ts";
import { stallLimit } from "./stall.ts";
import {
  codeOf,
  CONNECTION_ENDED,
  FILE_GONE,
  FILE_REPLACED,
  HEAD_LATE,
  OTHER_HEAD,
  type ReasonCode,
  SERVER_CLOSED,
} from "../../reasons.ts";

/** A connection of the server's, as it stood before the response. */
export interface Connection {
  readonly libc: Libc;
  /** The server's own descriptor, which it may close at any await; and the number that only its socket has. */
  readonly fd: number;
  readonly cookie: bigint;
  /** Bytes that the server had written. */
  readonly written: number;
  /** Whether the client had ended its own direction. */
  readonly halfClosed: boolean;
}

/** How the response is to be told from what else the server might write. */
export interface Plan {
  readonly connection: Connection;
  /** Bytes of the head that the server will write, {@link CLOSE} aside. */
  readonly head: number;
  /**
   * Whether the server may compress the body: then the head must have left before any of that is given, as a longer head
   * and a shorter body can come to the same.
   */
  readonly compressible: boolean;
}

/** Which way a body goes. */
export interface BodyWay {
  /** Past the server by sendfile(2) or (rarely) by read and write; or by the server itself. */
  via: Via | "native";
  /** Why not by sendfile(2). A server that uses it itself, as Bun's does, has "native" and no reason. */
  reason?: string;
  /** The reason in a word, which stays the same where its text is put better. */
  code?: ReasonCode;
}

/** The server sends some bytes of the file, at most so many: how many, nobody can foresee. */
export const FIRST = 16 * 1024;

/** And at least so many: more than what it may add to the head. */
const LEAST = 64;

/**
 * What hyper adds where it has decided by itself to end the connection, also to a head that says so: the request asked
 * for that, or its body was not read.
 */
const CLOSE = "connection: close\r\n";

/** Milliseconds for which the head may take to leave. */
const HEAD_TIMEOUT_MS = 100;

/** Turns of the event loop after which waiting for the head is given to a timer. */
const TURNS = 20;

/** Milliseconds between two looks at whether the client's system has acknowledged all: first, and at most. */
const LOOK = [1, 50];

/** Milliseconds for which a client that has all may keep the connection open. */
const LINGER = 2000;

const HAS_LEFT = "";

/** What sending takes, open and checked. */
interface Held {
  readonly file: OpenFile;
  /** A duplicate of the server's descriptor. */
  readonly out: number;
}

/**
 * The body of a response that the server begins and sendfile(2) goes on with.
 *
 * The server is given some of the file's first bytes. Once the connection has written exactly the head and these, it
 * is the right one, speaks plain HTTP/1, and nothing is left before the next byte, which from there on comes from the
 * kernel. Where it comes out different, or not in time, the server gets the rest too.
 */
export class Handoff {
  readonly #plan: Plan;
  readonly #original: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly #stream: FileStream;
  readonly #told: (way: BodyWay) => void;
  readonly #abort = new AbortController();
  #held: Held | undefined;
  /** Set once the rest is the server's. */
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
  /** Bytes of the body that the server was given before the rest. */
  #given = 0;
  #running: Promise<unknown> | undefined;

  /** `original`: the body that `stream` stands for. */
  constructor(
    plan: Plan,
    original: ReadableStream<Uint8Array<ArrayBuffer>>,
    stream: FileStream,
    told: (way: BodyWay) => void,
  ) {
    this.#plan = plan;
    this.#original = original;
    this.#stream = stream;
    this.#told = told;
  }

  /** As a body. */
  toStream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    const sent = this.#plan.connection.halfClosed ? this.#sendAlone() : undefined;
    this.#running = sent?.catch(() => {});
    return new ReadableStream({
      pull: async (controller) => {
        if (sent && await sent) return controller.close();
        const next = this.#next();
        this.#running = next.catch(() => {});
        const chunk = await next;
        if (chunk) controller.enqueue(chunk);
        else controller.close();
      },
      cancel: () => this.#cancel(),
    }, { highWaterMark: 0 });
  }

  /**
   * Sends all of the body once the server has closed its descriptor, and tells whether it did. The server (hyper) gives
   * a client up that has ended its own direction, as soon as the head has left and perhaps before it asks for the body.
   * The duplicate keeps the connection up, and nobody else can write to it then.
   */
  async #sendAlone(): Promise<boolean> {
    const held = this.#hold();
    if (typeof held === "string") return false; // the next try says why
    this.#held = held;
    try {
      const { connection: { libc, fd, cookie, written }, head } = this.#plan;
      if (!await this.#soon(() => libc.cookie(fd) !== cookie)) return false;
      const now = libc.tcp(held.out)?.written;
      if (now !== written + head && now !== written + head + CLOSE.length) return false;
      await this.#send(held);
      return true;
    } finally {
      this.#release();
    }
  }

  async #next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    try {
      if (this.#reader) return await this.#feed(this.#reader);
      if (!this.#held) {
        const held = this.#hold();
        if (typeof held === "string") return await this.#leave(held);
        this.#held = held;
        const missing = this.#plan.compressible ? await this.#hasLeft(held) : undefined;
        return missing === undefined ? await this.#first(held) : await this.#leave(missing);
      }
      const missing = await this.#hasLeft(this.#held);
      if (missing !== undefined) return await this.#leave(missing);
      await this.#send(this.#held);
    } catch (error) {
      await this.#close();
      throw error;
    }
    await this.#close();
    return undefined;
  }

  /** The file opened anew, and the socket's descriptor made ours; or why not. */
  #hold(): Held | string {
    const { libc, fd, cookie } = this.#plan.connection;
    const { real } = this.#stream.body.file;
    const file = openRegular(real);
    if (file.kind === "failure") return FILE_GONE;
    const out = isSameFile(file, this.#stream.body.file) ? libc.dup(fd) : -1;
    // Looked at after the duplicate was made: from here on nobody can put another in its place.
    if (out >= 0 && libc.cookie(out) === cookie) return { file, out };
    fs.closeSync(file.fd);
    if (out >= 0) libc.close(out);
    return out >= 0 ? SERVER_CLOSED : FILE_REPLACED;
  }

  /** What frames the first part, and the first bytes of that. */
  async #first({ file }: Held): Promise<Uint8Array<ArrayBuffer>> {
    const [{ header, offset }] = this.#stream.body.parts;
    const frame = new TextEncoder().encode(header);
    const random = crypto.getRandomValues(new Uint16Array(1))[0];
    const bytes = new Uint8Array(frame.length + LEAST + random % (FIRST - LEAST));
    bytes.set(frame);
    for (let at = frame.length; at < bytes.length;) {
      const read = await readAt(file, bytes.subarray(at), offset + at - frame.length);
      if (read === 0) throw new TruncatedError();
      at += read;
    }
    this.#given = bytes.length;
    return bytes;
  }

  /** Undefined once the head and what was given have left, and the connection takes more; otherwise why that is not so. */
  async #hasLeft({ out }: Held): Promise<string | undefined> {
    const { connection: { libc, written }, head } = this.#plan;
    const expected = written + head + this.#given;
    const outcome = await this.#soon(() => {
      if (this.#abort.signal.aborted) return CONNECTION_ENDED;
      const now = libc.tcp(out)?.written ?? Infinity;
      if (now === expected || now === expected + CLOSE.length) return HAS_LEFT;
      return now > expected && OTHER_HEAD;
    });
    if (outcome === HAS_LEFT) return undefined;
    return outcome ?? HEAD_LATE;
  }

  /** What `look` gives, once it is something; undefined where it stays false for too long. */
  async #soon<T>(look: () => T | false): Promise<T | undefined> {
    const deadline = performance.now() + HEAD_TIMEOUT_MS;
    for (let i = 0; i < TURNS || performance.now() < deadline; i++) {
      const seen = look();
      if (seen !== false) return seen;
      await (i < TURNS ? nextRound() : new Promise((resolve) => setTimeout(resolve, 1)));
    }
    return undefined;
  }

  async #send({ file, out }: Held): Promise<void> {
    const { libc } = this.#plan.connection;
    const { body, rateLimit } = this.#stream;
    const rest = skip(body, this.#given);
    const options = optionsOf(rest, rateLimit, "", this.#abort.signal);
    let via: Via | undefined;
    const observer: Observer = {
      started: (start) => { // each part for itself
        if (start.via !== via) this.#told(start);
        via = start.via;
      },
      moved: () => {},
      holdsSocket: true,
    };
    // The server's own stream of the file is not needed any more.
    const closed = this.#original.cancel();
    try {
      if (await sendParts(out, new SeenFile(file.fd, file), options, observer) < countOf(rest)) {
        throw new TruncatedError();
      }
      libc.shutdown(out);
      await this.#acknowledged(out, file);
    } catch (error) {
      libc.shutdown(out); // before its end, which the client sees by the length
      // A client that leaves or stalls is not the handler's error, nor is a server that shuts down.
      const isClients = error instanceof ConnectionClosedError || error instanceof SendfileTimeoutError;
      if (!isClients && !this.#abort.signal.aborted) throw error;
    } finally {
      await closed;
    }
  }

  /**
   * Waits until the client's system has all of it, and some time for the client to close (RFC 9112, 9.6). The server
   * closes the connection when the body ends early for it, and where pipelined requests are unread then or come after,
   * the kernel resets it and throws away what is on its way.
   */
  async #acknowledged(out: number, file: OpenFile): Promise<void> {
    const { libc } = this.#plan.connection;
    const end = Math.max(...this.#stream.body.parts.map(({ offset, count }) => offset + count));
    const { signal } = this.#abort;
    let [pause] = LOOK;
    let acked = -1;
    let since = performance.now();
    for (;;) {
      const state = libc.tcp(out);
      if (!state || state.closed || signal.aborted) return;
      const stat = libc.stat(file.fd);
      if (state.acked < state.written && typeof stat === "object" && stat.size < end) {
        libc.reset(out); // the kernel may send zeros for what was cut off
        throw new TruncatedError();
      }
      if (state.acked > acked) since = performance.now();
      else if (performance.now() - since > (acked < state.written ? stallLimit() : LINGER)) return;
      acked = state.acked;
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(2 * pause, LOOK[1]);
    }
  }

  /** Leaves the rest to the server. */
  async #leave(reason: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    this.#told({ via: "native", reason, code: codeOf(reason) });
    this.#release();
    this.#reader = this.#original.getReader();
    return await this.#feed(this.#reader);
  }

  /** The next chunk of the original behind what was given already. */
  async #feed(
    reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return undefined;
      const rest = value.subarray(Math.min(this.#given, value.length));
      this.#given -= value.length - rest.length;
      if (rest.length > 0) return rest;
    }
  }

  /** The server has done with the body before its end. */
  async #cancel(): Promise<void> {
    // It gives a client up that has ended its own direction; our duplicate still leads there.
    const { libc } = this.#plan.connection;
    if (!this.#held || !libc.tcp(this.#held.out)?.halfClosed) this.#abort.abort();
    await this.#running;
    await this.#close();
  }

  #release(): void {
    if (!this.#held) return;
    fs.closeSync(this.#held.file.fd);
    this.#plan.connection.libc.close(this.#held.out);
    this.#held = undefined;
  }

  async #close(): Promise<void> {
    this.#release();
    if (this.#reader) await this.#reader.cancel();
    else if (!this.#original.locked) await this.#original.cancel();
  }
}

/** A body without its first `bytes`, which do not reach behind the first part. */
function skip(body: FileBody, bytes: number): FileBody {
  if (bytes === 0) return body;
  const { file, parts, trailer, length } = body;
  const [{ header, offset, count }, ...others] = parts;
  const done = bytes - header.length;
  const first = { header: "", offset: offset + done, count: count - done };
  return { file, parts: [first, ...others], trailer, length: length - bytes };
}
