import { checkCount, checkOffset } from "../files/region.ts";
import type { ReasonCode } from "../reasons.ts";
import type { WebAbortSignal } from "../types.ts";

/** How a transfer sends the file: by sendfile(2), or by read and write. */
export type Via = "sendfile" | "copy";

/** The argument of {@link SendfileOptions.onStart}. */
export interface SendfileStart {
  /** How the file's bytes are sent from here on. */
  via: Via;
  /** If `via` is "copy": why sendfile(2) is not used. */
  reason?: string;
  /** A stable code for the reason. It does not change when the text is improved. */
  code?: ReasonCode;
}

/** Options of `sendfile`. */
export interface SendfileOptions {
  /**
   * Where to start, in bytes from the start of the file (or of the {@link SendfileRegion}); never relative to the
   * file's own position.
   *
   * @default {0}
   */
  offset?: number;
  /**
   * Bytes to send. Fewer are sent if the file ends first; never more, even if the file grows. Default: to the end of
   * the file.
   */
  count?: number;
  /**
   * Whether to send by read and write if sendfile(2) cannot be used. If false, `sendfile` rejects with
   * `SendfileNotAvailableError` instead.
   *
   * @default {true}
   */
  fallback?: boolean;
  /**
   * Whether to try sendfile(2) at all.
   *
   * @default {true}
   */
  zeroCopy?: boolean;
  /**
   * Ends the transfer: the promise rejects with the signal's reason. If bytes have already been sent, the connection
   * is closed too, because the peer cannot tell where the incomplete data ends.
   */
  signal?: WebAbortSignal;
  /** Called before the file's first byte, and again if a transfer by sendfile(2) continues as a copy. */
  onStart?: (start: SendfileStart) => void;
  /** Called with the bytes of the file sent so far, after each step. */
  onProgress?: (sent: number) => void;
  /** Bytes to send before the file, in one segment with its first bytes. */
  header?: Uint8Array;
  /** Bytes to send after the file, in one segment with its last bytes. */
  trailer?: Uint8Array;
  /** Bytes of the file per second, at most. Default: no limit. */
  rateLimit?: number;
  /**
   * Milliseconds without progress after which the transfer fails with `SendfileTimeoutError`; not a limit on the
   * whole. Progress is a byte handed to the socket or, over TCP on Linux with FFI, one that the peer's system has
   * acknowledged: a peer that reads slowly but steadily is never timed out there. The acknowledged count is read
   * eight times in one timeout, so the error may come late by an eighth of it. Elsewhere (unix sockets, other
   * systems, no FFI) a socket buffer of some megabytes can hide a slow peer's progress: choose a timeout in which the
   * slowest peer reads that much. Default: none.
   *
   * Source: tcp(7), TCP_INFO's tcpi_bytes_acked.
   */
  timeout?: number;
}

/** Throws `TypeError` or `RangeError` for invalid options; makes no system call. */
export function checkOptions(options: SendfileOptions): void {
  checkOffset(options.offset ?? 0);
  checkCount(options.count);
  checkPositive("rateLimit", options.rateLimit);
  checkPositive("timeout", options.timeout);
  checkBytes("header", options.header);
  checkBytes("trailer", options.trailer);
}

function checkPositive(name: string, value: unknown): void {
  if (value === undefined) return;
  if (typeof value !== "number") throw new TypeError(`${name} must be a number above 0`);
  if (!(value > 0)) throw new RangeError(`${name} must be a number above 0, not ${value}`);
}

function checkBytes(name: string, value: unknown): void {
  if (value !== undefined && !(value instanceof Uint8Array)) {
    throw new TypeError(`${name} must be a Uint8Array`);
  }
}
