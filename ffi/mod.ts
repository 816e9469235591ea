/**
 * Readiness of descriptors as promises: what Python's `loop.add_reader` and `loop.add_writer` are for callbacks.
 * One waiter serves the whole thread (epoll on Linux, kqueue on macOS and FreeBSD), away from JavaScript; it keeps
 * nothing alive once nobody waits.
 *
 * @module
 */

import { SendfileNotAvailableError } from "../errors.ts";
import type { WebAbortSignal } from "../types.ts";
import { libc } from "./load.ts";
import { poller } from "./poller.ts";

export type { AbortSignalLike, WebAbortSignal } from "../types.ts";

/** Options of {@link writable} and {@link readable}. */
export interface WaitOptions {
  /** Ends the wait: the promise rejects with the signal's reason. */
  signal?: WebAbortSignal;
}

function wait(fd: number, direction: "readable" | "writable", { signal }: WaitOptions): Promise<void> {
  if (!Number.isInteger(fd)) return Promise.reject(new TypeError(`fd must be an integer, not ${String(fd)}`));
  if (fd < 0 || fd > 0x7fffffff) return Promise.reject(new RangeError(`fd ${fd} is no descriptor`));
  const c = libc();
  if (typeof c === "string") return Promise.reject(new SendfileNotAvailableError(c));
  return poller(c).wait(fd, direction, signal);
}

/**
 * Resolves when `fd` can be written to without blocking, or has failed: the write then says how. The caller owns
 * `fd` and keeps it open until the promise is settled; closing it earlier can leave the promise pending.
 *
 * Rejects with `TypeError`/`RangeError` for what is no descriptor, `SendfileNotAvailableError` without FFI, and
 * `SendfileError` (code `EBADF`, or on Linux `EPERM` for a regular file) where the kernel refuses it.
 *
 * Source: epoll(7), kqueue(2).
 *
 * @example Wait until a socket takes more
 * ```ts
 * import { writable } from "@zerocopy/sendfile/ffi";
 *
 * async function drained(fd: number): Promise<void> {
 *   await writable(fd, { signal: AbortSignal.timeout(5000) });
 * }
 * ```
 */
export function writable(fd: number, options: WaitOptions = {}): Promise<void> {
  return wait(fd, "writable", options);
}

/**
 * Resolves when `fd` has something to read, was closed by its peer, or has failed: the read then says which.
 * Ownership and errors as for {@link writable}.
 *
 * @example Wait for a request before reading it
 * ```ts
 * import { readable } from "@zerocopy/sendfile/ffi";
 *
 * async function hasInput(fd: number): Promise<void> {
 *   await readable(fd);
 * }
 * ```
 */
export function readable(fd: number, options: WaitOptions = {}): Promise<void> {
  return wait(fd, "readable", options);
}
