import * as fs from "node:fs";
import { rememberInMemory } from "../../files/in_memory.ts";
import { canRead, readAway, readFully } from "../../files/read_file.ts";
import { aheadOf, pieceOf, sleepWhile } from "../../transfer/rate_limit.ts";
import { assemble } from "../rfc9110/multipart.ts";
import type { FileBody } from "../root/open_file.ts";

/** Bytes read at a time from a file that is streamed. */
const CHUNK = 64 * 1024;

const text = new TextEncoder();

/** The file became shorter after the head of its response was made. */
export class TruncatedError extends Error {
  override readonly name = "TruncatedError";
  constructor() {
    super("the file became shorter");
  }
}

/**
 * Reads a small body whole, without a promise if its file is in memory: then into `scratch` (if given), which the
 * next call overwrites. A caller that keeps the bytes must copy them, as `new Response` does (Fetch standard, 6.5).
 * Closes the file.
 */
export function readWhole(
  body: FileBody,
  scratch?: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> | Promise<Uint8Array<ArrayBuffer>> {
  const { file, parts, length } = body;
  const isAtOnce = parts.every(({ offset, count }) => canRead(file, offset, offset + count));
  if (!isAtOnce) return readWholeAway(body);
  try {
    return assemble(body, scratch ?? new Uint8Array(length), (into, offset) => {
      if (readFully(file.fd, into, offset) < into.length) throw new TruncatedError();
    });
  } finally {
    fs.closeSync(file.fd);
  }
}

async function readWholeAway(body: FileBody): Promise<Uint8Array<ArrayBuffer>> {
  const into = new Uint8Array(body.length);
  const chunks = new Chunks(body, undefined);
  try {
    let at = 0;
    for (let chunk; (chunk = await chunks.next()); at += chunk.length) into.set(chunk, at);
    for (const { offset, count } of body.parts) rememberInMemory(body.file, offset, offset + count);
    return into;
  } finally {
    chunks.close();
  }
}

/**
 * The chunks of a body, one after another, at most `rateLimit` bytes per second. This is not a generator, because a
 * generator that was never started would not close the file.
 */
export class Chunks {
  readonly #body: FileBody;
  readonly #rateLimit: number | undefined;
  readonly #piece: number;
  readonly #began = performance.now();
  readonly #stop: AbortController | undefined;
  /** Bytes of the file read so far. */
  sent = 0;
  /** The current part, and its next byte; -1: its header comes next. */
  #part = 0;
  #at = -1;
  #open = true;

  constructor(body: FileBody, rateLimit: number | undefined) {
    this.#body = body;
    this.#rateLimit = rateLimit;
    this.#stop = rateLimit === undefined ? undefined : new AbortController();
    this.#piece = Math.min(CHUNK, pieceOf(rateLimit));
  }

  /**
   * The next chunk; undefined after the last. Throws {@link TruncatedError} if the file ends before the promised
   * length.
   */
  async next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { parts, trailer } = this.#body;
    while (this.#part < parts.length) {
      const { header, offset, count } = parts[this.#part];
      if (this.#at < 0) {
        this.#at = 0;
        if (header !== "") return text.encode(header);
      }
      if (this.#at < count) return await this.#read(offset + this.#at, count - this.#at);
      this.#part++;
      this.#at = -1;
    }
    this.close();
    if (this.#part++ === parts.length && trailer !== "") return text.encode(trailer);
    return undefined;
  }

  async #read(offset: number, left: number): Promise<Uint8Array<ArrayBuffer>> {
    await sleepWhile(() => aheadOf(this.#rateLimit, this.#began, this.sent), this.#stop?.signal);
    const chunk = await this.#readChunk(Math.min(this.#piece, left), offset);
    this.#at += chunk.length;
    this.sent += chunk.length;
    return chunk;
  }

  async #readChunk(count: number, offset: number): Promise<Uint8Array<ArrayBuffer>> {
    const chunk = new Uint8Array(count);
    const bytes = await readAway(this.#body.file.fd, chunk, offset);
    if (bytes === 0) throw new TruncatedError();
    return chunk.subarray(0, bytes);
  }

  /** Ends a wait for the rate limit, which may be long: the pending `next` throws `reason`. */
  stop(reason: Error): void {
    this.#stop?.abort(reason);
  }

  /** Closes the file. No `next` may be pending. */
  close(): void {
    if (this.#open) fs.closeSync(this.#body.file.fd);
    this.#open = false;
  }
}
