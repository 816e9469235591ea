import { canBecomeHead, endOfHead } from "./request_head.ts";
import type { Transport } from "./transport.ts";

/** The most bytes of a request's head, as in Node.js. */
const MAX_HEAD = 16 * 1024;

const CR = 13;
const LF = 10;

/** Reads heads and bodies from a connection. One call at a time. */
export class Reader {
  readonly #transport: Transport;
  #buffer = new Uint8Array(4096);
  /** Bytes that were read but not consumed: from `#from` to `#to`. */
  #from = 0;
  #to = 0;
  /** The pending read that {@link watch} began. Until it is over nothing else may read or move the buffer. */
  #ahead: Promise<boolean> | undefined;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The number of bytes that were read but not consumed. */
  get waiting(): number {
    return this.#to - this.#from;
  }

  /**
   * The next request's head, valid until the next call; or the status to reject it with; or undefined if the client
   * has half-closed.
   */
  async head(): Promise<Uint8Array | 400 | 414 | 431 | undefined> {
    for (let looked = this.#from;;) {
      const start = this.#from + this.#emptyLine();
      const end = endOfHead(this.#buffer, start, looked, this.#to);
      if (end >= 0) {
        this.#from = end;
        return this.#buffer.subarray(start, end);
      }
      if (!canBecomeHead(this.#buffer, start, looked, this.#to)) return 400;
      if (this.waiting >= MAX_HEAD) return this.#buffer.subarray(start, this.#to).includes(LF) ? 431 : 414;
      if (!this.#ahead) this.#makeRoom();
      looked = this.#to;
      if (!await this.#more()) return undefined;
    }
  }

  /** Length of an empty line before a request, which must be skipped (RFC 9112, 2.2). */
  #emptyLine(): number {
    return this.#buffer[this.#from] === CR && this.#buffer[this.#from + 1] === LF ? 2 : 0;
  }

  #makeRoom(): void {
    if (this.#from > 0) {
      this.#buffer.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
    }
    if (this.#to < this.#buffer.length) return;
    const larger = new Uint8Array(this.#buffer.length * 2);
    larger.set(this.#buffer);
    this.#buffer = larger;
  }

  #more(): Promise<boolean> {
    return this.#ahead ?? this.#read();
  }

  async #read(): Promise<boolean> {
    const bytes = await this.#transport.read(this.#buffer.subarray(this.#to));
    this.#to += bytes;
    return bytes > 0;
  }

  /** Skips `bytes` bytes; false if the client half-closed before. */
  async skip(bytes: number): Promise<boolean> {
    for (let left = bytes;;) {
      const skipped = Math.min(left, this.waiting);
      this.#from += skipped;
      left -= skipped;
      if (left === 0) return true;
      this.#empty();
      if (!await this.#more()) return false;
    }
  }

  /** Skips everything until the client has half-closed. */
  async drain(): Promise<void> {
    do this.#empty(); while (await this.#more());
  }

  #empty(): void {
    if (!this.#ahead) this.#from = this.#to = 0;
    else this.#from = this.#to; // the pending read writes after it
  }

  /**
   * Reads ahead while a response is made, and calls `onEnd` if the client half-closes. If the client has already sent
   * another request, this is not noticed.
   */
  watch(onEnd: () => void): void {
    if (this.#ahead || this.waiting > 0) return;
    this.#makeRoom();
    this.#ahead = this.#read().then((more) => {
      this.#ahead = undefined;
      if (!more) onEnd();
      return more;
    });
  }

  /** Puts back the head that {@link head} has just returned, so that it is read again. */
  putBack(head: Uint8Array): void {
    this.#from -= head.length;
  }

  /** Reads some of the next bytes, as in {@link Transport}. */
  async read(into: Uint8Array): Promise<number> {
    await this.#ahead;
    if (this.waiting === 0) return await this.#transport.read(into);
    const bytes = this.#buffer.subarray(this.#from, Math.min(this.#to, this.#from + into.length));
    into.set(bytes);
    this.#from += bytes.length;
    return bytes.length;
  }
}
