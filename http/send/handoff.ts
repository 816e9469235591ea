import * as fs from "node:fs";
import { ConnectionClosedError, SendfileTimeoutError } from "../../errors.ts";
import { isSameFile } from "../../ffi/file_id.ts";
import type { Libc } from "../../ffi/libc.ts";
import type { Via } from "../../transfer/options.ts";
import { readAt } from "../../files/read_file.ts";
import { nextRound, sleep } from "../../runtime.ts";
import { sendParts } from "../../sendfile.ts";
import { SeenFile } from "../../files/source.ts";
import type { Observer } from "../../transfer/transfer.ts";
import { TruncatedError } from "./body.ts";
import { type FileBody, type OpenFile, openRegular } from "../root/open_file.ts";
import { countOf } from "../rfc9110/multipart.ts";
import { optionsOf } from "./parts.ts";
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

/** A connection of the server, in its state before the response. */
export interface Connection {
  readonly libc: Libc;
  /** The server's own descriptor, which it may close at any await, and the cookie that identifies its socket. */
  readonly fd: number;
  readonly cookie: bigint;
  /** Bytes that the server had written. */
  readonly written: number;
  /** Whether the client had half-closed the connection. */
  readonly halfClosed: boolean;
}

/** How to tell the response from other output of the server. */
export interface Plan {
  readonly connection: Connection;
  /** Bytes of the head that the server will write, {@link CLOSE} aside. */
  readonly head: number;
  /**
   * Whether the server may compress the body. Then the head must have been sent before we give the server any of the
   * body, because a longer head and a shorter body could add up to the same length.
   */
  readonly compressible: boolean;
}

/** How a body is sent. */
export interface BodyWay {
  /** "sendfile" or (rarely) "copy": past the server, on its socket. "native": by the server itself. */
  via: Via | "native";
  /**
   * Why sendfile(2) is not used. For a server that uses sendfile(2) itself, as Bun's does, `via` is "native" and
   * there is no reason.
   */
  reason?: string;
  /** A stable code for the reason. It does not change when the text is improved. */
  code?: ReasonCode;
}

/**
 * The most bytes of the file that the server sends itself. The number is random, so no other output can match it by
 * accident.
 */
export const FIRST = 16 * 1024;

/** The fewest such bytes: more than the server may add to the head. */
const LEAST = 64;

/**
 * The field that hyper adds if it decides to close the connection (the request asked for it, or its body was not
 * read), even if the head already has that field.
 */
const CLOSE = "connection: close\r\n";

/** Timeout in milliseconds for the server to write the head. */
const HEAD_TIMEOUT_MS = 100;

/** Rounds of the event loop after which we wait for the head with a timer instead. */
const TURNS = 20;

/**
 * Milliseconds between two checks whether the client's system has acknowledged everything: the first pause and the
 * longest.
 */
const LOOK = [1, 50];

/** Milliseconds for which a client that has received everything may keep the connection open. */
const LINGER = 2000;

const HAS_LEFT = "";

/** The open descriptors that the handoff sends with, both checked. */
interface Held {
  readonly file: OpenFile;
  /** A duplicate of the server's descriptor. */
  readonly out: number;
}

/**
 * A response body that the server begins to send and sendfile(2) continues.
 *
 * We give the server some of the file's first bytes. Once the connection has written exactly the head and these
 * bytes, we know that it is the right connection, that it speaks plain HTTP/1, and that the server has nothing left
 * to write; sendfile(2) then sends the rest. If the written count differs, or does not come in time, the server gets
 * the rest, too.
 */
export class Handoff {
  readonly #plan: Plan;
  readonly #original: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly #stream: FileStream;
  readonly #told: (way: BodyWay) => void;
  readonly #abort = new AbortController();
  #held: Held | undefined;
  /** Set once the server sends the rest. */
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
  /** Bytes of the body that the server was given before the rest. */
  #given = 0;
  #running: Promise<unknown> | undefined;

  /** `original`: the body of the handler's response, which `stream` describes. */
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

  /** The body to give to the server. */
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
   * Sends the whole body once the server has closed its descriptor; resolves to whether it was sent. The server
   * (hyper) drops a client that has half-closed as soon as the head is sent, perhaps before it pulls the body. Our
   * duplicate keeps the connection open, and nobody else can write to it then.
   */
  async #sendAlone(): Promise<boolean> {
    const held = this.#hold();
    if (typeof held === "string") return false; // #next() tries again and reports the reason
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

  /** Opens the file again and duplicates the socket's descriptor. Returns the reason if that fails. */
  #hold(): Held | string {
    const { libc, fd, cookie } = this.#plan.connection;
    const { real } = this.#stream.body.file;
    const file = openRegular(real);
    if (file.kind === "failure") return FILE_GONE;
    const out = isSameFile(file, this.#stream.body.file) ? libc.dup(fd) : -1;
    // The cookie is compared on the duplicate: nobody can put another socket in its place.
    if (out >= 0 && libc.cookie(out) === cookie) return { file, out };
    fs.closeSync(file.fd);
    if (out >= 0) libc.close(out);
    return out >= 0 ? SERVER_CLOSED : FILE_REPLACED;
  }

  /** The header of the first part (multipart only), and a random number of the part's first bytes. */
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

  /**
   * Resolves to undefined once the head and the given bytes have been written; otherwise to the reason to leave the
   * rest to the server.
   */
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

  /** Calls `look` until it returns something other than false, and returns that; undefined if that takes too long. */
  async #soon<T>(look: () => T | false): Promise<T | undefined> {
    const deadline = performance.now() + HEAD_TIMEOUT_MS;
    for (let i = 0; i < TURNS || performance.now() < deadline; i++) {
      const seen = look();
      if (seen !== false) return seen;
      await (i < TURNS ? nextRound() : sleep(1));
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
      started: (start) => { // called once for each part
        if (start.via !== via) this.#told(start);
        via = start.via;
      },
      moved: () => {},
      holdsSocket: true,
    };
    // The original stream of the file is no longer needed.
    const closed = this.#original.cancel();
    try {
      if (await sendParts(out, new SeenFile(file.fd, file), options, observer) < countOf(rest)) {
        throw new TruncatedError();
      }
      libc.shutdown(out);
      await this.#acknowledged(out, file);
    } catch (error) {
      libc.shutdown(out); // before the end of the body: the client notices that the length is wrong
      // If the client leaves or stalls, or the server shuts down, that is not an error of the handler.
      const isClients = error instanceof ConnectionClosedError || error instanceof SendfileTimeoutError;
      if (!isClients && !this.#abort.signal.aborted) throw error;
    } finally {
      await closed;
    }
  }

  /**
   * Waits until the client's system has acknowledged everything, and then some time for the client to close (RFC
   * 9112, 9.6). For the server the body ends early, so it closes the connection. If pipelined requests are unread
   * then, or arrive later, the kernel resets the connection and discards the bytes in flight.
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
        libc.reset(out); // the kernel may send zeros in place of the truncated bytes
        throw new TruncatedError();
      }
      if (state.acked > acked) since = performance.now();
      else if (performance.now() - since > (acked < state.written ? stallLimit() : LINGER)) return;
      acked = state.acked;
      await sleep(pause);
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

  /** The next chunk of the original body, without the bytes that the server was given already. */
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

  /** The server cancelled the body. */
  async #cancel(): Promise<void> {
    // The server drops a client that has half-closed, but our duplicate still reaches that client.
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

/** A body without its first `bytes`, which must lie within the first part. */
function skip(body: FileBody, bytes: number): FileBody {
  if (bytes === 0) return body;
  const { file, parts, trailer, length } = body;
  const [{ header, offset, count }, ...others] = parts;
  const done = bytes - header.length;
  const first = { header: "", offset: offset + done, count: count - done };
  return { file, parts: [first, ...others], trailer, length: length - bytes };
}
