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

/** A `timeout` in milliseconds; undefined where there is none, as there is none beyond what a timer can wait. */
export function limitOf(timeout: number | undefined): number | undefined {
  return timeout !== undefined && timeout <= LONGEST_TIMER ? timeout : undefined;
}

/** Bytes asked for at a time of a file that has 0 by its size. */
const UNSIZED = 64 * 1024;

/** Seconds between two looks at a socket that is held for the transfer: three system calls each. */
const SELDOM = 8;

/** How often in one `timeout` a wait asks what the peer has acknowledged: an expiry comes late by one part at most. */
const LOOKS = 8;

/** The connection is over: the peer left or reset it, or it was closed here. */
const LOST = new Set([
  "EPIPE",
  "ECONNRESET",
  "ECONNABORTED",
  "ENOTCONN",
  "EPROTOTYPE", // Darwin: the peer left while the call was under way
  "ETIMEDOUT",
  "ENETUNREACH",
  "EHOSTUNREACH",
  // What runtimes call the same
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

/** Whether an error's code (or, of Deno's, its class) says that the connection is over. */
export function isLost(code: string): boolean {
  return LOST.has(code);
}

/**
 * Who is told of a transfer as `onStart` and `onProgress` are, and is trusted to touch neither socket nor file: so no
 * descriptor has to be duplicated for it, and a small file goes without any wait.
 */
export interface Observer {
  started(start: SendfileStart): void;
  /** So many more bytes of the file have been sent. */
  moved(bytes: number): void;
  /**
   * True: it holds the socket's descriptor open until the transfer has ended, or aborts `signal` before the descriptor
   * is closed. So that needs no duplicate either.
   */
  readonly holdsSocket?: boolean;
}

/** What is to be sent, how far it has come, and what may stop it: the part that both ways share. */
export class Transfer {
  readonly target: SocketAdapter;
  readonly source: Source;
  readonly options: SendfileOptions;
  /** What is left of the header and the trailer. */
  header: Uint8Array;
  trailer: Uint8Array;
  /** Bytes of the file sent. */
  sent = 0;
  /** Whether anything may have left for the peer. */
  begun = false;
  /** Bytes of the file still to send, as far as is known. */
  remaining: number;
  /** Whether the end is where the file ends, and not where a count says. */
  readonly #toEnd: boolean;
  #hasEnded = false;
  readonly #start: number;
  /** False: stat says 0 bytes, which procfs also says of files that have some. Only reading tells. */
  isSized = true;
  /** 0 where nothing depends on the clock, which would be asked for each small file. */
  readonly #began: number;
  /** By performance.now(); undefined before the first wait. */
  #lastProgress: number | undefined;
  /** Asks what the peer's system has acknowledged, where the transfer has a descriptor of the socket's. */
  acknowledged: (() => number | undefined) | undefined;
  /** The answer before; undefined before the first wait. */
  #acked: number | undefined;
  #clock: ReturnType<typeof setTimeout> | undefined;
  readonly #observer: Observer | undefined;
  #stop: AbortController | undefined;
  #endWatch = () => {};
  #onAbort: (() => void) | undefined;

  /** `calledAt`: performance.now() of a call whose transfer had to wait for its beginning; `timeout` counts from it. */
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

  /** Whether there is more of the file to send; a file without a count is looked at again, as it may have grown. */
  hasMore(): boolean {
    if (this.remaining === 0 && this.#toEnd && this.sent > 0 && !this.#hasEnded) this.#toFileEnd();
    return this.remaining > 0;
  }

  /** A call gave 0: the file has ended here, whatever its size in stat says. */
  ended(): void {
    this.#hasEnded = true;
    this.remaining = 0;
  }

  /** Whether the socket's descriptor needs no duplicate. */
  get holdsSocket(): boolean {
    return this.#observer?.holdsSocket === true;
  }

  /** Whether code of the caller's runs in the middle of a step. */
  get callsBack(): boolean {
    return this.options.onStart !== undefined || this.options.onProgress !== undefined;
  }

  /** Says which way it goes from here on. */
  announce(start: SendfileStart): void {
    this.#observer?.started(start);
    this.options.onStart?.(start);
  }

  /** Takes note of bytes of the file that have been sent. */
  moved(bytes: number, via: Via): void {
    this.sent += bytes;
    this.remaining -= bytes;
    counters[via].bytes += bytes;
    this.progress();
    this.#observer?.moved(bytes);
    this.options.onProgress?.(this.sent);
  }

  /** Takes note of the first bytes of the header or the trailer that have been sent. */
  left(part: "header" | "trailer", bytes: number): void {
    // Mostly all at once; another view of the buffer costs more than the rest of this.
    this[part] = bytes === this[part].length ? NOTHING : this[part].subarray(bytes);
    this.progress();
  }

  /** Takes note that something was sent, of the file or around it. */
  progress(): void {
    this.begun = true;
    this.#restart();
  }

  #restart(): void {
    if (this.#lastProgress !== undefined) this.#lastProgress = performance.now();
    this.target.touch?.();
  }

  /** The largest piece that the rate limit allows at once. */
  get piece(): number {
    return pieceOf(this.options.rateLimit);
  }

  /** Milliseconds until the rate limit lets the next piece go. */
  get ahead(): number {
    return aheadOf(this.options.rateLimit, this.#began, this.sent);
  }

  /** Ends what the transfer awaits. Made when the first wait comes: most transfers have none. */
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
   * From now on, ends the transfer when the runtime has closed its socket: a duplicate of ours would keep the
   * connection up, and no event tells. Who holds the socket tells by `signal`, so that seldom looks are enough.
   */
  watch(alive: () => boolean): void {
    void this.stop;
    const every = this.holdsSocket ? SELDOM : 1;
    let seconds = 0;
    this.#endWatch = eachSecond(() => {
      if (++seconds % every !== 0 || alive()) return;
      this.#stop!.abort(this.failure("ENOTCONN", 0, "sendfile"));
    });
  }

  /** Starts the clock of `timeout`, which ends the transfer; to be stopped after the wait. */
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

  /** Milliseconds of a wait until {@link isStalled} is to be asked. */
  untilLook(timeout: number): number {
    const now = performance.now();
    this.#lastProgress ??= now;
    this.#acked ??= this.acknowledged?.() ?? -1;
    return Math.max(0, Math.min(timeout / LOOKS, this.#lastProgress + timeout - now));
  }

  /**
   * Whether neither a byte could be sent nor the peer has acknowledged one for `timeout` milliseconds. A full socket
   * takes no more before a third of it has gone, which is 1.4 MB: at 8 KiB/s three minutes.
   */
  isStalled(timeout: number): boolean {
    const acked = this.acknowledged ? this.acknowledged() : acknowledgedBy(this.target);
    if (acked !== undefined && acked > this.#acked!) {
      this.#acked = acked;
      this.#restart();
    }
    return performance.now() - this.#lastProgress! >= timeout;
  }

  /** Waits for `work`, no longer than `timeout` allows since the last progress, nor than until the stop. */
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
      work.catch(() => {/* lost the race: the stop's reason is what is reported */});
    }
  }

  /** Sleeps until the rate limit lets the next piece go. */
  async pause(): Promise<void> {
    if (this.ahead <= 0) return;
    await sleepWhile(() => this.ahead, this.stop);
    this.#lastProgress = performance.now(); // a pause is not a lack of progress
  }

  /** The error of a failed call, with what was sent before it. */
  failure(code: string, errno: number, syscall: string, cause?: unknown): SendfileError {
    const details = { code, errno, syscall, sent: this.sent, cause };
    return isLost(code)
      ? new ConnectionClosedError(`the connection is gone after ${this.sent} bytes: ${code}`, details)
      : new SendfileError(`${syscall} failed after ${this.sent} bytes: ${code}`, details);
  }

  /** Runs what throws errors of the system's or of a runtime's: {@link asFailure}. */
  attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.asFailure(error);
    }
  }

  /** An error of the system's, of a runtime's own or of another part, as this package's, with what was sent before it. */
  asFailure(error: unknown): unknown {
    if (this.#stop?.signal.aborted) return this.#stop.signal.reason;
    if (!(error instanceof Error) || error instanceof SendfileNotAvailableError) return error;
    if (error instanceof TypeError || error instanceof RangeError) return error; // a defect, or an argument's
    const { name, code, errno = 0, syscall = "write" } = error as {
      name: string;
      code?: string;
      errno?: number;
      syscall?: string;
    };
    // Deno tells some by a class alone, and those of a write under TLS by nothing.
    const known = code === undefined || isLost(name) && !isLost(code) ? name : code;
    return this.failure(known === "Error" ? "UNKNOWN" : known, Math.abs(errno), syscall, error);
  }

  /** Gives back what the transfer holds. */
  close(): void {
    this.#endWatch();
    if (this.#onAbort) this.options.signal!.removeEventListener("abort", this.#onAbort);
    this.source.seek(this.position);
    this.source.close();
  }

  /** Gives back what the transfer holds, and leaves the socket as its end by `error` demands. */
  fail(error: unknown): void {
    this.close();
    if (error instanceof ConnectionClosedError) this.target.lost?.();
    // The peer cannot tell where the part that it got ends.
    else if (this.options.signal?.aborted && this.begun) this.target.abandon();
  }
}

/** The error of an expired `timeout`. */
export function timedOut(timeout: number, sent: number): SendfileTimeoutError {
  const details = { code: "ETIMEDOUT", syscall: "sendfile", sent };
  return new SendfileTimeoutError(`no byte could be sent for ${timeout} ms, after ${sent} bytes`, details);
}
