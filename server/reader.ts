import { canBecomeHead, endOfHead } from "./request_head.ts";
import type { Transport } from "./transport.ts";

/** Bytes of a request's head, as in Node.js. */
const MAX_HEAD = 16 * 1024;

const CR = 13;
const LF = 10;

/** What a client sends, in the pieces that HTTP has. One call at a time. */
export class Reader {
  readonly #transport: Transport;
  #buffer = new Uint8Array(4096);
  /** What was read and is not taken yet: from `#from` to `#to`. */
  #from = 0;
  #to = 0;
  /** The read under way that {@link watch} has begun: until it is over nobody else reads or moves the buffer. */
  #ahead: Promise<boolean> | undefined;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Bytes that were read and not taken. */
  get waiting(): number {
    return this.#to - this.#from;
  }

  /**
   * The next request's head, valid until the next call; the status that says why there is none; undefined where the
   * client has ended its side.
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

  /** Bytes of an empty line before a request, which is to be read over (RFC 9112, 2.2). */
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

  /** Reads over so many bytes; false where the client has ended its side before. */
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

  /** Reads over all that comes, until the client has ended its side. */
  async drain(): Promise<void> {
    do this.#empty(); while (await this.#more());
  }

  #empty(): void {
    if (!this.#ahead) this.#from = this.#to = 0;
    else this.#from = this.#to; // the read under way writes behind it
  }

  /**
   * Reads ahead while a response is made, and calls `onEnd` where the client has ended its side. Of one that has sent
   * another request meanwhile that is not learned.
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

  /** Puts back the head that {@link head} has just given, as what comes next. */
  putBack(head: Uint8Array): void {
    this.#from -= head.length;
  }

  /** Some of what comes next, as of {@link Transport}. */
  async read(into: Uint8Array): Promise<number> {
    await this.#ahead;
    if (this.waiting === 0) return await this.#transport.read(into);
    const bytes = this.#buffer.subarray(this.#from, Math.min(this.#to, this.#from + into.length));
    into.set(bytes);
    this.#from += bytes.length;
    return bytes.length;
  }
}
