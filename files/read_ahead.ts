import type { Libc } from "../ffi/libc.ts";
import { FRESH, isInMemory, rememberInMemory } from "./in_memory.ts";

/** Bytes of a file that are asked about at a time. */
const ASKED = 4 * 1024 * 1024;

/** Bytes in which a file goes on that is being read. */
const STEP = 64 * 1024;

/**
 * Bytes that are sent at a time where nothing tells what is in memory, as on overlayfs and network file systems: the
 * thread waits for no more.
 */
const BLIND = 128 * 1024;

/**
 * Milliseconds above which such a call has waited for the disk. From then on a thread of the runtime's reads the last
 * byte of each piece before it is sent, until so many in a row have come in less than a millisecond: that takes 20 to
 * 80 µs (measured).
 */
const WAITED = 2;
const QUICK = 8;

/** Milliseconds for which other files of a thread are taken to be on a slow disk, too. */
const WARNED = 5000;

/** When a call has waited for the disk last, by `performance.now`. */
let warned = -Infinity;

/**
 * Bytes that are read ahead of what is sent, at least (where the disk takes its time, and at first) and at most.
 * Whatever else is to be read waits behind them, for all transfers together.
 */
const LEAST = 512 * 1024;
const MOST = 4 * 1024 * 1024;

/** Milliseconds for which a wait for the disk was short, and from which on it was long. */
const SHORT = 4;
const LONG = 40;

/** Milliseconds between two looks: at most. They double from 1. */
const LOOK = 50;

/** Milliseconds after which the system is asked again to read: pages may be evicted before they are sent. */
const AGAIN = 200;

/** Milliseconds after which a step is taken as it is: a page that cannot be read never comes, and sendfile says why. */
const DISK_WAIT_MS = 10_000;

/** A range of a file, as the next step would send it. */
export interface Range {
  readonly fd: number;
  readonly position: number;
  /** Bytes that the step would send. */
  readonly count: number;
  /** Bytes that the transfer will send from `position` on. */
  readonly remaining: number;
}

/**
 * Keeps a transfer from waiting for the disk inside of sendfile(2), which would hold the whole thread: says how much is
 * in memory, and lets the system read what is not.
 */
export class ReadAhead {
  readonly #libc: Libc;
  readonly #inode: bigint | undefined;
  /** What is in memory ends here, as was found at that time (`performance.now`). */
  #found = 0;
  #foundAt = 0;
  /** The system was asked to read up to here. */
  #asked = 0;
  #window = LEAST;
  /** Reads the byte at a position, away from this thread. */
  readonly #read: (position: number) => number | Promise<number>;
  /** Nothing tells what is in memory. */
  #isBlind = false;
  /** Pieces that came quickly, one after the other; with enough of them the next is sent as it is. */
  #quick = 0;

  constructor(libc: Libc, inode: bigint | undefined, read: (position: number) => number | Promise<number>) {
    this.#libc = libc;
    this.#inode = inode;
    this.#read = read;
  }

  /** Bytes, `count` at most, that can be sent without a wait for the disk; 0: none, and they are being read. */
  ready(range: Range): number {
    const { position, count } = range;
    const now = performance.now();
    // Asked before the end of what was found, so that no step is cut short there.
    const isKnown = position + count <= this.#found && now - this.#foundAt <= FRESH;
    if (!this.#isBlind && !isKnown) this.#find(range, now);
    if (this.#isBlind) this.#readOn(range);
    if (this.#found > position) return Math.min(count, this.#found - position);
    return this.#isBlind && this.#quick >= QUICK ? Math.min(count, BLIND) : 0;
  }

  /** Runs a call that sends a part of the range. */
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
    // No further than is being read already, from its first byte to its last. The question alone for a byte behind that
    // makes the kernel read it, before what lies between.
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

  /** Waits for the last byte of the next piece in a thread of the runtime's. */
  async #readBlindly({ position, remaining }: Range): Promise<void> {
    const end = position + Math.min(remaining, BLIND);
    const began = performance.now();
    try {
      await this.#read(end - 1);
    } catch {
      // sendfile(2) says why
    }
    this.#quick = performance.now() - began < 1 ? this.#quick + 1 : 0;
    this.#found = end;
  }

  /** Has the window read that begins at the position, once half of the one before was used. */
  #readOn({ fd, position, remaining }: Range): void {
    if (this.#asked - position > this.#window / 2) return;
    const from = Math.max(this.#asked, position);
    this.#asked = position + Math.min(this.#window, remaining);
    if (this.#asked > from) this.#libc.readAhead(fd, from, this.#asked - from);
  }

  /** Resolves when some of a range that was not ready is. */
  async wait(range: Range, stop: AbortSignal): Promise<void> {
    const began = performance.now();
    let again = began + AGAIN;
    for (let pause = 1; this.ready(range) === 0; pause = Math.min(2 * pause, LOOK)) {
      if (this.#isBlind) {
        await this.#readBlindly(range); // to its end: until then the descriptor is in use
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

async function sleep(ms: number, stop: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      stop.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    stop.addEventListener("abort", wake);
  });
  stop.throwIfAborted();
}
