import { isTurnDue, spend, turn } from "./budget.ts";
import { type Corked, corkFor } from "./cork.ts";
import { SendfileError, SendfileNotAvailableError, TRUNCATED } from "../errors.ts";
import type { Libc } from "../ffi/libc.ts";
import { isExhausted } from "../sockets/exhausted.ts";
import { type Range, ReadAhead } from "../files/read_ahead.ts";
import type { Source } from "../files/source.ts";
import { counters } from "./stats.ts";
import { untilWritable } from "../sockets/wait_writable.ts";
import type { Descriptor } from "../sockets/adapter.ts";
import { limitOf, timedOut, type Transfer } from "./transfer.ts";
import { NO_DUPLICATE, SENDFILE_REFUSED } from "../reasons.ts";

/** Bytes requested by a transfer's first call: what fits into the socket's buffer (4 MiB at most by default). */
const FIRST = 4 * 1024 * 1024;

/**
 * Bytes requested by each later call. With eight peers that read at full speed a call of 4 MiB takes 2 ms and more
 * and cannot be interrupted: a small request at the same time took 20 ms at the median, against 3 ms with 1 MiB
 * (measured).
 */
const PIECE = 1024 * 1024;

/** Errors that mean that sendfile(2) does not support this file, socket or kernel; read and write may work. */
const TO_COPY = new Set([
  "EINVAL",
  "ENOSYS",
  "EOPNOTSUPP",
  "ENOTSUP",
  "EPERM",
  "EXDEV",
  "ENOTSOCK",
  "ESPIPE",
]);

/** Kernels that have no sendfile at all (ENOSYS), so that we try it only once. */
export const withoutSendfile = new WeakSet<Libc>();

/** All that sendfile(2) needs. */
export interface NativeRoute {
  readonly libc: Libc;
  readonly source: Source & { readonly descriptor: number };
  readonly socket: Descriptor;
}

/**
 * The result of a step. `again`: more can be sent at once; `wait`: the socket is full; `disk`: the file is not in
 * memory; `copy`: why the rest must be copied.
 */
export type Outcome = "done" | "again" | "wait" | "disk" | { copy: string };

/** One transfer by sendfile(2). `end` must be called once, also after an error. */
export class NativeTransfer {
  readonly #transfer: Transfer;
  readonly #route: NativeRoute;
  /** The socket's descriptor: at first the runtime's, from the first await on our own duplicate. */
  #out: number;
  #ours: boolean;
  #begun = false;
  #announced = false;
  #corked = false;
  /** For how much of the transfer a cork makes it faster. */
  #pays: Corked = "never";
  #hasWaited = false;
  /** Undefined if this thread may block on the disk, or if the system does not report whether files are in memory. */
  #readAhead: ReadAhead | undefined;
  /** A header was sent with MSG_MORE and nothing has pushed it out yet. */
  #held = false;

  constructor(transfer: Transfer, route: NativeRoute) {
    this.#transfer = transfer;
    this.#route = route;
    this.#out = route.socket.fd;
    this.#ours = route.socket.owned;
    const { libc, source } = route;
    if (libc.tellsCached && transfer.isSized) {
      this.#readAhead = new ReadAhead(
        libc,
        source.inode,
        (position) => source.read(new Uint8Array(1), position),
      );
    }
  }

  /** Returns the reason to copy if a duplicate is needed and cannot be had. */
  #begin(): string | undefined {
    const { libc } = this.#route;
    const { header, trailer, remaining, callsBack, options } = this.#transfer;
    this.#begun = true;
    const missing = callsBack ? this.#own() : undefined;
    if (missing !== undefined) return missing;
    // With a rate limit nothing may be held back between the pieces.
    if (options.rateLimit === undefined) this.#pays = corkFor(libc, this.#out, remaining);
    // If only a header has to share a segment with the file, MSG_MORE saves the cork's two system calls.
    this.#corked = this.#pays !== "never" || trailer.length > 0 || (header.length > 0 && !libc.hasMore);
    if (this.#corked) libc.cork(this.#out, true);
    return undefined;
  }

  /** Sends what can be sent without waiting. Throws the system's errors. */
  step(): Outcome {
    const transfer = this.#transfer;
    const missing = this.#begun ? undefined : this.#begin();
    if (missing !== undefined) return { copy: missing };
    if (transfer.header.length > 0) {
      const outcome = this.#bytes("header", transfer.remaining > 0 || transfer.trailer.length > 0);
      if (outcome !== "done") return outcome;
    }
    while (transfer.hasMore()) {
      const outcome = this.#file();
      if (outcome !== "done") return outcome;
    }
    return transfer.trailer.length > 0 ? this.#bytes("trailer", false) : "done";
  }

  #bytes(part: "header" | "trailer", more: boolean): Outcome {
    const { libc } = this.#route;
    const transfer = this.#transfer;
    while (transfer[part].length > 0) {
      const sent = libc.send(this.#out, transfer[part], more);
      if (sent < 0) return this.#refused(sent, "send");
      transfer.left(part, sent);
      this.#held = more;
    }
    return "done";
  }

  /**
   * Makes one sendfile(2) call. "done": the piece was sent whole and more may follow at once, or the file has ended.
   */
  #file(): Outcome {
    const { libc, source } = this.#route;
    const transfer = this.#transfer;
    if (transfer.ahead > 0) return "again";
    if (!this.#announced && transfer.isSized) this.#announce();
    const range = this.#next();
    const count = this.#readAhead ? this.#readAhead.ready(range) : range.count;
    if (count === 0) return "disk";
    counters.sendfile.calls++;
    const call = () => libc.sendfile(this.#out, source.descriptor, range.position, count);
    const sent = this.#readAhead ? this.#readAhead.time(range, call) : call();
    if (sent < 0) return this.#refused(sent, "sendfile");
    if (sent === 0) {
      transfer.ended();
      return "done";
    }
    this.#held = false;
    spend(sent);
    if (!this.#announced) this.#announce(); // a file of unknown size is announced when it has sent its first bytes
    transfer.moved(sent, "sendfile");
    if (transfer.remaining === 0) return "done";
    // A short count means that the socket's buffer is full or nearly full: waiting is faster than calling again
    // (measured).
    return sent < count ? "wait" : "again";
  }

  /** The range that the next call sends. */
  #next(): Range {
    const { sent, piece, position, remaining } = this.#transfer;
    const count = Math.min(sent === 0 ? FIRST : PIECE, piece, remaining);
    return { fd: this.#route.source.descriptor, position, count, remaining };
  }

  #announce(): void {
    this.#announced = true;
    counters.sendfile.transfers++;
    this.#transfer.announce({ via: "sendfile" });
  }

  #refused(result: number, syscall: "send" | "sendfile"): Outcome {
    const { libc } = this.#route;
    const code = libc.errorName(result);
    if (code === "EAGAIN") return "wait";
    if (code === "EINTR" || code === "EBUSY") return "again";
    if (syscall === "sendfile" && TO_COPY.has(code)) {
      if (code === "ENOSYS") withoutSendfile.add(libc);
      return { copy: SENDFILE_REFUSED + code };
    }
    throw this.#transfer.failure(code, -result, syscall);
  }

  /**
   * Continues after a step that did not finish the transfer. Resolves to the reason why sendfile(2) cannot send the
   * rest, or to undefined once all is sent.
   */
  async go(first: Outcome): Promise<string | undefined> {
    this.#hasWaited = true; // from here on other code may run, also if the caller copies the rest
    if (typeof first === "object") return first.copy;
    const { socket } = this.#route;
    const transfer = this.#transfer;
    this.#flow();
    const missing = this.#own();
    if (missing !== undefined) return missing;
    this.#observe();
    transfer.watch(() => socket.alive(this.#out));
    const { stop } = transfer;
    let outcome = first;
    while (outcome !== "done") {
      if (outcome === "wait") await this.#writable(stop);
      else if (outcome === "disk") await this.#readable(stop);
      else if (transfer.ahead > 0) await transfer.pause();
      // Many sockets may have become writable at once: some transfers continue now, the others after a yield.
      if (isTurnDue()) await turn();
      stop.throwIfAborted();
      if (!this.#isSocket()) throw transfer.failure("ENOTCONN", 0, "sendfile");
      const next = this.step();
      if (typeof next === "object") return next.copy;
      outcome = next;
    }
    return undefined;
  }

  /**
   * Throws if the file was truncated below what was sent. The socket's queue refers to the file's own pages. If the
   * file is truncated, the bytes after its new end may have become zeros in the queue (up to 2 MiB on ext4,
   * measured), and only a reset keeps them from the peer. Call it once all has been sent.
   */
  checkLength(): void {
    const { libc, source } = this.#route;
    const { position, sent } = this.#transfer;
    if (sent === 0 || !this.#transfer.attempt(() => source.isShorterThan(position))) return;
    if (this.#isSocket()) libc.reset(this.#out);
    throw new SendfileError("the file became shorter", { code: TRUNCATED, syscall: "sendfile", sent });
  }

  /**
   * Duplicates both descriptors before any other code runs. At any await, and in any callback of the caller, the
   * runtime's descriptors may be closed and their numbers reused, and the bytes would come from another file or go to
   * another connection. Returns the reason to copy if the process has no descriptor left for the socket: the
   * runtime's own write needs none.
   */
  #own(): string | undefined {
    const { libc, source } = this.#route;
    this.#transfer.attempt(() => source.dupDescriptor());
    if (this.#ours || this.#transfer.holdsSocket) return undefined;
    const dup = libc.dup(this.#out);
    if (dup < 0) {
      const error = this.#transfer.failure(libc.errorName(dup), -dup, "dup");
      if (isExhausted(error)) return NO_DUPLICATE + error.code;
      throw error;
    }
    this.#out = dup;
    this.#ours = true;
    return undefined;
  }

  /**
   * Whether the descriptor still belongs to the socket. A borrowed descriptor's number may belong to another socket
   * after a wait.
   */
  #isSocket(): boolean {
    return this.#ours || !this.#hasWaited || this.#route.socket.alive(this.#out);
  }

  #observe(): void {
    this.#transfer.acknowledged = () => this.#route.libc.tcp(this.#out)?.acked;
  }

  #writable(stop: AbortSignal): Promise<void> {
    counters.waits++;
    return this.#wait(() => untilWritable(this.#route.libc, this.#out, stop));
  }

  #readable(stop: AbortSignal): Promise<void> {
    counters.diskWaits++;
    return this.#wait(() => this.#readAhead!.wait(this.#next(), stop));
  }

  /** Runs a wait under the clock of `timeout`. */
  async #wait(until: () => Promise<void>): Promise<void> {
    this.#transfer.startClock();
    try {
      await until();
    } catch (error) {
      throw this.#transfer.asFailure(error);
    } finally {
      this.#transfer.stopClock();
    }
  }

  /** Uncorks a transfer that takes more than one step, unless the cork pays throughout. */
  #flow(): void {
    if (!this.#corked || this.#pays === "throughout" || this.#transfer.trailer.length > 0) return;
    this.#route.libc.cork(this.#out, false);
    this.#corked = false;
  }

  /** Runs the transfer to its end and blocks this thread. */
  block(): void {
    const { libc } = this.#route;
    const transfer = this.#transfer;
    const timeout = limitOf(transfer.options.timeout);
    this.#readAhead = undefined;
    this.#observe();
    for (;;) {
      const outcome = this.step();
      if (outcome === "done") return this.checkLength();
      this.#flow();
      if (typeof outcome === "object") throw new SendfileNotAvailableError(outcome.copy, transfer.sent);
      // poll(2) takes whole milliseconds; a negative value means no limit.
      const wait = () => timeout === undefined ? -1 : Math.ceil(transfer.untilLook(timeout));
      while (outcome === "wait" && !libc.block(this.#out, "writable", wait())) {
        if (transfer.isStalled(timeout!)) throw timedOut(timeout!, transfer.sent);
      }
    }
  }

  /** Uncorks the socket and closes our duplicates. */
  end(): void {
    const { libc } = this.#route;
    if ((this.#corked || this.#held) && this.#isSocket()) libc.cork(this.#out, false);
    if (this.#ours) libc.close(this.#out);
  }
}
