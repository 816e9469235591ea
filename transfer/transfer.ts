import {
  ConnectionClosedError,
  SendfileError,
  SendfileNotAvailableError,
  SendfileTimeoutError,
} from "../errors.ts";
import type { SendfileOptions, SendfileStart, Via } from "./options.ts";
import { aheadOf, LONGEST_TIMER, pieceOf, sleepWhile } from "./rate_limit.ts";
import type { Source } from "../files/source.ts";
import { eachSecond } from "./each_second.ts";
import { counters } from "./stats.ts";
import { acknowledgedBy } from "../sockets/acknowledged.ts";
import type { SocketAdapter } from "../sockets/adapter.ts";

const NOTHING = new Uint8Array(0);

/** A `timeout` in milliseconds; undefined if there is none, or if it is longer than a timer can wait. */
export function limitOf(timeout: number | undefined): number | undefined {
  return timeout !== undefined && timeout <= LONGEST_TIMER ? timeout : undefined;
}

/** Bytes requested at a time from a file whose size is 0 by stat. */
const UNSIZED = 64 * 1024;

/** Seconds between two checks of a socket that the observer holds open; each check takes three system calls. */
const SELDOM = 8;

/**
 * How often in one `timeout` a wait reads the peer's acknowledged bytes. The timeout may come late by at most one such
 * interval.
 */
const LOOKS = 8;

/** Error codes for a connection that has ended: the peer left or reset it, or it was closed on this side. */
const LOST = new Set([
  "EPIPE",
  "ECONNRESET",
  "ECONNABORTED",
  "ENOTCONN",
  "EPROTOTYPE", // Darwin: the peer left while the call was under way
  "ETIMEDOUT",
  "ENETUNREACH",
  "EHOSTUNREACH",
  // The runtimes' own codes and classes for the same
  "ECANCELED", // a write under way when the socket was destroyed
  "ERR_STREAM_DESTROYED",
  "ERR_STREAM_WRITE_AFTER_END",
  "ERR_SOCKET_CLOSED",
  "BrokenPipe",
  "ConnectionReset",
  "ConnectionAborted",
  "NotConnected",
  "BadResource",
  "Interrupted",
]);

/** Whether an error's code (or the class of an error of Deno) says that the connection has ended. */
export function isLost(code: string): boolean {
  return LOST.has(code);
}

/**
 * An internal listener that is called like `onStart` and `onProgress`. It is trusted not to touch the socket or the
 * file, so no descriptor has to be duplicated before calling it, and a small file is sent without any wait.
 */
export interface Observer {
  started(start: SendfileStart): void;
  /** Called after `bytes` more bytes of the file have been sent. */
  moved(bytes: number): void;
  /**
   * True if the observer keeps the socket's descriptor open until the transfer has ended, or aborts `signal` before
   * the descriptor is closed. Then the socket needs no duplicate.
   */
  readonly holdsSocket?: boolean;
}

/** The state of one transfer: parameters, progress, timeout and cancellation. Sendfile and copy share it. */
export class Transfer {
  readonly target: SocketAdapter;
  readonly source: Source;
  readonly options: SendfileOptions;
  /** The unsent rest of the header and the trailer. */
  header: Uint8Array;
  trailer: Uint8Array;
  /** Bytes of the file sent. */
  sent = 0;
  /** Whether any byte may have been sent to the peer. */
  begun = false;
  /** Bytes of the file still to send, as far as is known. */
  remaining: number;
  /** Whether to send to the end of the file, and not a given count. */
  readonly #toEnd: boolean;
  #hasEnded = false;
  readonly #start: number;
  /**
   * False if stat reports 0 bytes: procfs reports 0 also for files with content, so the size is known only after
   * reading.
   */
  isSized = true;
  /** When the transfer began (performance.now). 0 without a rate limit, so that small files need not read the clock. */
  readonly #began: number;
  /** When progress was last made (performance.now); undefined before the first wait. */
  #lastProgress: number | undefined;
  /** Reads how many bytes the peer's system has acknowledged; set if the transfer has a descriptor of the socket. */
  acknowledged: (() => number | undefined) | undefined;
  /** The last acknowledged count; undefined before the first wait. */
  #acked: number | undefined;
  #clock: ReturnType<typeof setTimeout> | undefined;
  readonly #observer: Observer | undefined;
  #stop: AbortController | undefined;
  #endWatch = () => {};
  #onAbort: (() => void) | undefined;

  /**
   * `calledAt`: if the transfer had to wait before it began, the time of the call (performance.now); `timeout` counts
   * from then.
   */
  constructor(
    target: SocketAdapter,
    source: Source,
    options: SendfileOptions,
    observer?: Observer,
    calledAt?: number,
  ) {
    this.#observer = observer;
    this.#lastProgress = calledAt;
    this.target = target;
    this.source = source;
    this.options = options;
    this.#began = options.rateLimit === undefined ? 0 : performance.now();
    this.header = options.header ?? NOTHING;
    this.trailer = options.trailer ?? NOTHING;
    const offset = options.offset ?? 0;
    this.#start = source.start + offset;
    const inRegion = source.limit === undefined ? Infinity : Math.max(0, source.limit - offset);
    const promised = Math.min(options.count ?? Infinity, inRegion);
    this.#toEnd = promised === Infinity;
    this.remaining = promised;
    if (this.#toEnd) this.#toFileEnd();
  }

  /** The absolute position in the file of the next byte to send. */
  get position(): number {
    return this.#start + this.sent;
  }

  #toFileEnd(): void {
    const size = this.attempt(() => this.source.size());
    this.isSized = size > 0;
    this.remaining = this.isSized ? Math.max(0, size - this.position) : UNSIZED;
  }

  /**
   * Whether more of the file is to be sent. Without a count, reads the file's size again, because the file may have
   * grown.
   */
  hasMore(): boolean {
    if (this.remaining === 0 && this.#toEnd && this.sent > 0 && !this.#hasEnded) this.#toFileEnd();
    return this.remaining > 0;
  }

  /** Records that a call returned 0: the file ends here, even if stat gives a larger size. */
  ended(): void {
    this.#hasEnded = true;
    this.remaining = 0;
  }

  /** Whether the socket's descriptor needs no duplicate. */
  get holdsSocket(): boolean {
    return this.#observer?.holdsSocket === true;
  }

  /** Whether callbacks of the caller run in the middle of a step. */
  get callsBack(): boolean {
    return this.options.onStart !== undefined || this.options.onProgress !== undefined;
  }

  /** Reports how the file is sent from here on. */
  announce(start: SendfileStart): void {
    this.#observer?.started(start);
    this.options.onStart?.(start);
  }

  /** Records `bytes` sent bytes of the file. */
  moved(bytes: number, via: Via): void {
    this.sent += bytes;
    this.remaining -= bytes;
    counters[via].bytes += bytes;
    this.progress();
    this.#observer?.moved(bytes);
    this.options.onProgress?.(this.sent);
  }

  /** Records that the next `bytes` bytes of the header or the trailer have been sent. */
  left(part: "header" | "trailer", bytes: number): void {
    // The part is mostly sent whole; creating another view of the buffer costs more than the rest of this method.
    this[part] = bytes === this[part].length ? NOTHING : this[part].subarray(bytes);
    this.progress();
  }

  /** Records that bytes of the file, the header or the trailer were sent. */
  progress(): void {
    this.begun = true;
    this.#restart();
  }

  #restart(): void {
    if (this.#lastProgress !== undefined) this.#lastProgress = performance.now();
    this.target.touch?.();
  }

  /** The largest piece in bytes that the rate limit allows at once. */
  get piece(): number {
    return pieceOf(this.options.rateLimit);
  }

  /** Milliseconds until the rate limit allows the next piece. */
  get ahead(): number {
    return aheadOf(this.options.rateLimit, this.#began, this.sent);
  }

  /** The signal that ends what the transfer awaits. Created at the first wait, because most transfers have none. */
  get stop(): AbortSignal {
    if (this.#stop) return this.#stop.signal;
    const { signal } = this.options;
    const stop = this.#stop = new AbortController();
    if (signal?.aborted) stop.abort(signal.reason);
    else if (signal) {
      this.#onAbort = () => stop.abort(signal.reason);
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
    return stop.signal;
  }

  /**
   * From now on, ends the transfer when the runtime has closed its socket. Our duplicate would keep the connection
   * open, and no event reports the close, so we check once a second. An observer that holds the socket aborts
   * `signal` itself, so that rare checks are enough.
   */
  watch(alive: () => boolean): void {
    void this.stop;
    this.#endWatch(); // if a copy continues the transfer, it watches with its own check
    const every = this.holdsSocket ? SELDOM : 1;
    let seconds = 0;
    this.#endWatch = eachSecond(() => {
      if (++seconds % every !== 0 || alive()) return;
      this.#stop!.abort(this.failure("ENOTCONN", 0, "sendfile"));
    });
  }

  /** Starts the timer of `timeout`, which ends the transfer. Stop it after the wait. */
  startClock(): void {
    const timeout = limitOf(this.options.timeout);
    if (timeout === undefined) return;
    this.#clock = setTimeout(() => {
      if (this.isStalled(timeout)) this.#stop!.abort(timedOut(timeout, this.sent));
      else this.startClock();
    }, this.untilLook(timeout));
  }

  stopClock(): void {
    clearTimeout(this.#clock);
  }

  /** Milliseconds until a wait has to call {@link isStalled}. */
  untilLook(timeout: number): number {
    const now = performance.now();
    this.#lastProgress ??= now;
    this.#acked ??= this.acknowledged?.() ?? -1;
    return Math.max(0, Math.min(timeout / LOOKS, this.#lastProgress + timeout - now));
  }

  /**
   * Whether for `timeout` milliseconds no byte could be sent and the peer acknowledged none. Sent bytes alone cannot
   * show that: a full socket becomes writable only after a third of its buffer was sent, which is 1.4 MB, three minutes
   * at 8 KiB/s.
   */
  isStalled(timeout: number): boolean {
    const acked = this.acknowledged ? this.acknowledged() : acknowledgedBy(this.target);
    if (acked !== undefined && acked > this.#acked!) {
      this.#acked = acked;
      this.#restart();
    }
    return performance.now() - this.#lastProgress! >= timeout;
  }

  /** Waits for `work`, until `timeout` without progress or an abort ends the wait. */
  async guard<T>(work: Promise<T>): Promise<T> {
    const { stop } = this;
    this.startClock();
    let onStop = () => {};
    const stopped = new Promise<never>((_, reject) => onStop = () => reject(stop.reason));
    stop.addEventListener("abort", onStop, { once: true });
    try {
      stop.throwIfAborted();
      return await Promise.race([work, stopped]);
    } finally {
      this.stopClock();
      stop.removeEventListener("abort", onStop);
      work.catch(() => {/* it lost the race: the abort's reason is reported */});
    }
  }

  /** Sleeps until the rate limit allows the next piece. */
  async pause(): Promise<void> {
    if (this.ahead <= 0) return;
    await sleepWhile(() => this.ahead, this.stop);
    this.#lastProgress = performance.now(); // a pause is not a lack of progress
  }

  /** The error for a failed call, with the number of bytes sent before it. */
  failure(code: string, errno: number, syscall: string, cause?: unknown): SendfileError {
    const details = { code, errno, syscall, sent: this.sent, cause };
    return isLost(code)
      ? new ConnectionClosedError(`the connection is gone after ${this.sent} bytes: ${code}`, details)
      : new SendfileError(`${syscall} failed after ${this.sent} bytes: ${code}`, details);
  }

  /** Runs `work` and converts the errors it throws: see {@link asFailure}. */
  attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.asFailure(error);
    }
  }

  /**
   * Converts an error of the system, the runtime or the source into an error of this package, with the number of
   * bytes sent before it.
   */
  asFailure(error: unknown): unknown {
    if (this.#stop?.signal.aborted) return this.#stop.signal.reason;
    if (!(error instanceof Error) || error instanceof SendfileNotAvailableError) return error;
    if (error instanceof TypeError || error instanceof RangeError) return error; // a bug, or a bad argument
    const { name, code, errno = 0, syscall = "write" } = error as {
      name: string;
      code?: string;
      errno?: number;
      syscall?: string;
    };
    // Some errors of Deno have only a class, and those of a TLS write have neither class nor code.
    const known = code === undefined || isLost(name) && !isLost(code) ? name : code;
    return this.failure(known === "Error" ? "UNKNOWN" : known, Math.abs(errno), syscall, error);
  }

  /** Removes the transfer's watch and listener, sets the file position and closes the file. */
  close(): void {
    this.#endWatch();
    if (this.#onAbort) this.options.signal!.removeEventListener("abort", this.#onAbort);
    this.source.seek(this.position);
    this.source.close();
  }

  /** Releases what the transfer holds, and closes or abandons the socket if `error` requires it. */
  fail(error: unknown): void {
    this.close();
    if (error instanceof ConnectionClosedError) this.target.lost?.();
    // The peer cannot tell where the incomplete data ends.
    else if (this.options.signal?.aborted && this.begun) this.target.abandon();
  }
}

/** The error for an expired `timeout`. */
export function timedOut(timeout: number, sent: number): SendfileTimeoutError {
  const details = { code: "ETIMEDOUT", syscall: "sendfile", sent };
  return new SendfileTimeoutError(`no byte could be sent for ${timeout} ms, after ${sent} bytes`, details);
}
