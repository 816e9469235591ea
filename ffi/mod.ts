/**
 * Promises for the readiness of descriptors, like the callbacks of Python's `loop.add_reader` and `loop.add_writer`.
 * One poller serves the whole thread (epoll on Linux, kqueue on macOS and FreeBSD) and waits outside of the
 * JavaScript thread; it does not keep the process alive when nothing waits.
 *
 * @module
 */

import { SendfileNotAvailableError } from "../errors.ts";
import type { WebAbortSignal } from "../types.ts";
import { checkDescriptor } from "./descriptor.ts";
import { libc } from "./load.ts";
import { poller } from "./poller.ts";

export type { AbortSignalLike, WebAbortSignal } from "../types.ts";

/** Options of {@link writable} and {@link readable}. */
export interface WaitOptions {
  /** Ends the wait: the promise rejects with the signal's reason. */
  signal?: WebAbortSignal;
}

async function wait(fd: number, direction: "readable" | "writable", { signal }: WaitOptions): Promise<void> {
  checkDescriptor(fd);
  const c = libc();
  if (typeof c === "string") throw new SendfileNotAvailableError(c);
  await poller(c).wait(fd, direction, signal);
}

/**
 * Resolves when `fd` can be written to without blocking, or has failed: the next write then reports the error. The
 * caller owns `fd` and keeps it open until the promise settles; closing it earlier can leave the promise pending
 * forever.
 *
 * Rejects with `TypeError` or `RangeError` if `fd` is not a descriptor number, `SendfileNotAvailableError` without
 * FFI, and `SendfileError` (code `EBADF`, or on Linux `EPERM` for a regular file) if the kernel refuses it.
 *
 * Source: epoll(7), kqueue(2).
 *
 * @example Wait until a socket is writable
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
 * Resolves when `fd` has something to read, was closed by its peer, or has failed: the next read then tells which.
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
