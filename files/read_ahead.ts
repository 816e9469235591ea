import type { Libc } from "../ffi/libc.ts";
import { sleep } from "../runtime.ts";
import { FRESH, isInMemory, rememberInMemory } from "./in_memory.ts";

/** Bytes of a file that are checked at a time. */
const ASKED = 4 * 1024 * 1024;

/** Step in bytes in which we check how far a file that is being read has arrived. */
const STEP = 64 * 1024;

/**
 * Bytes sent at a time if the system does not report what is in memory, as on overlayfs and network file systems. They
 * limit how long one call can block the thread.
 */
const BLIND = 128 * 1024;

/**
 * If such a call took longer than this many milliseconds, it has waited for the disk. From then on a thread of the
 * runtime reads the last byte of each piece before the piece is sent (20 to 80 µs, measured), until QUICK reads in a
 * row took less than a millisecond.
 */
const WAITED = 2;
const QUICK = 8;

/** Milliseconds for which we assume that the other files of this thread are on a slow disk, too. */
const WARNED = 5000;

/** When a call last waited for the disk (`performance.now`). */
let warned = -Infinity;

/**
 * How many bytes are read ahead of the transfer: LEAST at first and if the disk is slow, MOST if it is fast. Other
 * reads wait behind these, and the windows of all transfers add up.
 */
const LEAST = 512 * 1024;
const MOST = 4 * 1024 * 1024;

/** Waits for the disk below SHORT milliseconds enlarge the window; waits above LONG shrink it. */
const SHORT = 4;
const LONG = 40;

/** The longest pause in milliseconds between two checks. Pauses double from 1. */
const LOOK = 50;

/** Milliseconds after which we request the read again: pages may be evicted before they are sent. */
const AGAIN = 200;

/**
 * Milliseconds after which we call sendfile(2) anyway: a page that cannot be read never arrives, and sendfile reports
 * the error.
 */
const DISK_WAIT_MS = 10_000;

/** The range of a file that the next step would send. */
export interface Range {
  readonly fd: number;
  readonly position: number;
  /** Bytes that the step would send. */
  readonly count: number;
  /** Bytes that the transfer will send from `position` on. */
  readonly remaining: number;
}

/**
 * Keeps a transfer from waiting for the disk inside sendfile(2), which would block the whole thread: finds how much of
 * the file is in memory, and makes the system read the rest.
 */
export class ReadAhead {
  readonly #libc: Libc;
  readonly #inode: bigint | undefined;
  /** The end of the range found in memory at `#foundAt` (`performance.now`). */
  #found = 0;
  #foundAt = 0;
  /** The system was requested to read up to here. */
  #asked = 0;
  #window = LEAST;
  /** Reads the byte at a position in another thread. */
  readonly #read: (position: number) => number | Promise<number>;
  /** Set if the system cannot tell what is in memory. */
  #isBlind = false;
  /** Pieces in a row that were read quickly. After QUICK of them the next is sent without reading it first. */
  #quick = 0;

  constructor(libc: Libc, inode: bigint | undefined, read: (position: number) => number | Promise<number>) {
    this.#libc = libc;
    this.#inode = inode;
    this.#read = read;
  }

  /**
   * The number of bytes, at most `count`, that can be sent without waiting for the disk. 0: none, and the system is
   * reading them.
   */
  ready(range: Range): number {
    const { position, count } = range;
    const now = performance.now();
    // Checked again before the known range ends, so that no step is cut short there.
    const isKnown = position + count <= this.#found && now - this.#foundAt <= FRESH;
    if (!this.#isBlind && !isKnown) this.#find(range, now);
    if (this.#isBlind) this.#readOn(range);
    if (this.#found > position) return Math.min(count, this.#found - position);
    return this.#isBlind && this.#quick >= QUICK ? Math.min(count, BLIND) : 0;
  }

  /** Runs a call that sends a part of the range, and measures whether it waited for the disk. */
  time({ fd, position, remaining }: Range, call: () => number): number {
    if (!this.#isBlind) return call();
    const began = performance.now();
    const result = call();
    const now = performance.now();
    if (result === remaining) rememberInMemory({ fd, ino: this.#inode }, position, position + result, now);
    if (now - began > WAITED) {
      this.#quick = 0;
      warned = now;
    }
    return result;
  }

  #find(range: Range, now: number): void {
    const { fd, position, remaining } = range;
    const end = position + Math.min(remaining, ASKED);
    this.#foundAt = now;
    if (isInMemory(this.#libc, { fd, ino: this.#inode }, position, end, now)) {
      this.#found = end;
      return;
    }
    this.#readOn(range);
    this.#found = position;
    const first = this.#libc.canReadNow(fd, position);
    if (first === undefined) this.#goBlind(now);
    // Checks only bytes whose reading was requested, in order. Checking a byte after those would make the kernel read
    // it before the bytes between.
    const limit = Math.min(end, this.#asked);
    while (first && this.#found < limit) {
      const next = Math.min(this.#found + STEP, limit);
      if (!this.#libc.canReadNow(fd, next - 1)) break;
      this.#found = next;
    }
  }

  #goBlind(now: number): void {
    this.#isBlind = true;
    this.#quick = now - warned > WARNED ? QUICK : 0;
  }

  /** Waits until a thread of the runtime has read the last byte of the next piece. */
  async #readBlindly({ position, remaining }: Range): Promise<void> {
    const end = position + Math.min(remaining, BLIND);
    const began = performance.now();
    try {
      await this.#read(end - 1);
    } catch {
      // sendfile(2) will report the error
    }
    this.#quick = performance.now() - began < 1 ? this.#quick + 1 : 0;
    this.#found = end;
  }

  /** Requests the read of the window that begins at `position`, once half of the last window was used. */
  #readOn({ fd, position, remaining }: Range): void {
    if (this.#asked - position > this.#window / 2) return;
    const from = Math.max(this.#asked, position);
    this.#asked = position + Math.min(this.#window, remaining);
    if (this.#asked > from) this.#libc.readAhead(fd, from, this.#asked - from);
  }

  /** Resolves when some of a range that was not ready has become ready. */
  async wait(range: Range, stop: AbortSignal): Promise<void> {
    const began = performance.now();
    let again = began + AGAIN;
    for (let pause = 1; this.ready(range) === 0; pause = Math.min(2 * pause, LOOK)) {
      if (this.#isBlind) {
        await this.#readBlindly(range); // not ended by `stop`: the descriptor is in use until the read is over
        stop.throwIfAborted();
        return;
      }
      await sleep(pause, stop);
      const now = performance.now();
      if (now - began > DISK_WAIT_MS) {
        this.#goBlind(now);
      } else if (now > again) {
        this.#asked = range.position;
        again = now + AGAIN;
      }
    }
    const waited = performance.now() - began;
    if (waited < SHORT) this.#window = Math.min(2 * this.#window, MOST);
    else if (waited > LONG) this.#window = Math.max(this.#window / 2, LEAST);
  }
}
