import { SendfileNotAvailableError } from "./errors.ts";
import { copy } from "./fallback/copy.ts";
import type { Libc } from "./ffi/libc.ts";
import { libc as loadLibc } from "./ffi/load.ts";
import { checkFile, openSource, type SeenFile, type SendfileFile, type Source } from "./files/source.ts";
import type { SocketAdapter } from "./sockets/adapter.ts";
import { adapterOf, type SendfileSocket } from "./sockets/mod.ts";
import { endInTurn } from "./transfer/budget.ts";
import { type NativeRoute, NativeTransfer, type Outcome, withoutSendfile } from "./transfer/native.ts";
import { checkOptions, type SendfileOptions } from "./transfer/options.ts";
import { beginWithin, inOrder, isBusy } from "./transfer/queue.ts";
import { count, counters } from "./transfer/stats.ts";
import { type Observer, Transfer } from "./transfer/transfer.ts";
import { BUSY, codeOf, NO_SENDFILE, RUNTIME_HOLDS_BYTES, TURNED_OFF } from "./reasons.ts";

/**
 * Sends a file, or a range of it, over a connected stream socket by sendfile(2), or by read and write where
 * sendfile(2) cannot be used. Resolves to the number of the file's bytes that were sent.
 *
 * With `count`, that is `count` bytes, or fewer if the file ends first (also if the file is truncated during the
 * transfer, but not below what has been sent). Without `count`, it is everything from `offset` to the end of the
 * file. Afterwards the position of a `Deno.FsFile` is `offset` + sent, also when the call fails. The position of a
 * descriptor or FileHandle is neither used nor moved.
 *
 * Do not write to the socket until the promise settles, or the bytes mix. A second `sendfile` waits for the first if
 * both are given the same object or the same number; a `Deno.Conn` and the number of its descriptor count as two
 * sockets. Writes to a node:net socket, and to a node:http socket in Deno, are safe: earlier writes go first, later
 * ones wait.
 *
 * Rejects with `TypeError` or `RangeError` for bad arguments, before any system call; the error of node:fs if the
 * file cannot be opened; {@link SendfileNotAvailableError} if the file is not a regular file (the message names a
 * directory), or if sendfile(2) cannot be used and `fallback` is false; {@link ConnectionClosedError} if the peer
 * left or the socket is closed; {@link SendfileTimeoutError}; {@link SendfileError} with the code `ESTALE` if the
 * file was truncated below what has been sent: the peer may receive zeros, so the connection is reset; {@link
 * SendfileError} for any other error of the system; the signal's reason. After an error the peer has an unknown part
 * of the bytes: close the connection.
 *
 * Source: sendfile(2); Python's `loop.sock_sendfile` and `loop.sendfile`.
 *
 * @example A file over TCP, with a length before it
 * ```ts
 * import { sendfile } from "@zerocopy/sendfile";
 *
 * async function send(conn: Deno.Conn, path: string): Promise<void> {
 *   const header = new TextEncoder().encode(`${(await Deno.stat(path)).size}\n`);
 *   const sent = await sendfile(conn, path, { header, onStart: (start) => console.log(start) });
 *   console.log(`${sent} bytes`);
 * }
 * ```
 */
export function sendfile(
  socket: SendfileSocket,
  file: SendfileFile,
  options: SendfileOptions = {},
): Promise<number> {
  try {
    const sent = sendParts(socket, file, [options]);
    return typeof sent === "number" ? Promise.resolve(sent) : sent;
  } catch (error) {
    return Promise.reject(error);
  }
}

/**
 * {@link sendfile} for the rest of this package: sends several parts of a file in a row, with no other write between
 * them. Returns the total number of bytes, without a promise if the transfer never had to wait. Stops after a part
 * that was shorter than its count.
 */
export function sendParts(
  socket: SendfileSocket,
  file: SendfileFile | SeenFile,
  parts: readonly SendfileOptions[],
  observer?: Observer,
): number | Promise<number> {
  const target = adapterOf(socket);
  checkFile(file);
  parts.forEach(checkOptions);
  for (const { signal } of parts) signal?.throwIfAborted();
  const quiet = parts.every(({ onStart, onProgress }) => onStart === undefined && onProgress === undefined);
  const start = (calledAt?: number) => beginParts(target, file, parts, observer, calledAt);
  return beginWithin(parts[0], start, (begin) =>
    inOrder(socket, quiet, () => {
      const sent = target.runInWriteOrder ? target.runInWriteOrder(begin, quiet) : begin();
      return endInTurn(sent); // outside of the socket's write slot, so that other writers continue
    }));
}

/** Runs one transfer after another, without an `await` as long as no transfer has to wait. */
function beginParts(
  target: SocketAdapter,
  file: SendfileFile | SeenFile,
  [first, ...others]: readonly SendfileOptions[],
  observer: Observer | undefined,
  calledAt: number | undefined,
  before = 0,
): number | Promise<number> {
  const next = (sent: number): number | Promise<number> => {
    const isShort = first.count !== undefined && sent < first.count;
    if (isShort || others.length === 0) return before + sent;
    // After a wait the owner of the socket may have aborted and closed it.
    others[0].signal?.throwIfAborted();
    return beginParts(target, file, others, observer, undefined, before + sent);
  };
  const sent = begin(target, file, first, observer, calledAt);
  return typeof sent === "number" ? next(sent) : sent.then(next);
}

/** Picks sendfile(2) or the copy and starts it. A transfer that need not wait has ended on return. */
function begin(
  target: SocketAdapter,
  file: SendfileFile | SeenFile,
  options: SendfileOptions,
  observer: Observer | undefined,
  calledAt: number | undefined,
): number | Promise<number> {
  const route = choose(target, file, options.zeroCopy, observer?.holdsSocket);
  const transfer = openTransfer(target, route, options, observer, calledAt);
  if ("reason" in route) return settle(transfer, byCopy(transfer, route.reason));
  const native = new NativeTransfer(transfer, route);
  let outcome: Outcome;
  try {
    outcome = native.step();
  } catch (error) {
    native.end();
    transfer.fail(error);
    throw error;
  }
  if (outcome !== "done") return settle(transfer, finish(transfer, native, outcome));
  native.end();
  transfer.close();
  return transfer.sent;
}

/** Continues after the first step by sendfile(2). If sendfile(2) stops working in the middle, copies the rest. */
async function finish(transfer: Transfer, native: NativeTransfer, outcome: Outcome): Promise<void> {
  try {
    const reason = await native.go(outcome);
    if (reason !== undefined) await byCopy(transfer, reason);
    native.checkLength();
  } finally {
    native.end();
  }
}

/** Sends the rest by read and write. Throws `SendfileNotAvailableError` if `fallback` is false. */
async function byCopy(transfer: Transfer, reason: string): Promise<void> {
  const { fallback = true } = transfer.options;
  transfer.attempt(() => transfer.source.size()); // throws if it is not a regular file
  if (!fallback) throw new SendfileNotAvailableError(reason, transfer.sent);
  counters.copy.transfers++;
  count(reason);
  transfer.attempt(() => transfer.source.dupDescriptor());
  transfer.announce({ via: "copy", reason, code: codeOf(reason) });
  await copy(transfer);
}

async function settle(transfer: Transfer, work: Promise<void>): Promise<number> {
  try {
    await work;
  } catch (error) {
    transfer.fail(error);
    throw error;
  }
  transfer.close();
  return transfer.sent;
}

/**
 * As {@link sendfile}, but blocks this thread until the transfer has ended: for scripts and workers. There is no
 * fallback: it throws {@link SendfileNotAvailableError} if sendfile(2) cannot be used.
 *
 * `timeout`: milliseconds without progress, as for `sendfile`.
 *
 * @example In a worker that serves one connection
 * ```ts
 * import { sendfileSync } from "@zerocopy/sendfile";
 *
 * function send(conn: Deno.Conn, path: string): number {
 *   return sendfileSync(conn, path, { timeout: 30_000 });
 * }
 * ```
 */
export function sendfileSync(
  socket: SendfileSocket,
  file: SendfileFile,
  options: Pick<SendfileOptions, "offset" | "count" | "timeout"> = {},
): number {
  const target = adapterOf(socket);
  checkFile(file);
  checkOptions(options);
  if (isBusy(socket)) throw new SendfileNotAvailableError(BUSY);
  if (target.pending?.()) {
    throw new SendfileNotAvailableError(RUNTIME_HOLDS_BYTES);
  }
  const route = choose(target, file, true);
  const transfer = openTransfer(target, route, options);
  try {
    if ("reason" in route) throw new SendfileNotAvailableError(route.reason);
    const native = new NativeTransfer(transfer, route);
    try {
      native.block();
    } finally {
      native.end();
    }
  } catch (error) {
    transfer.fail(error);
    throw error;
  }
  transfer.close();
  return transfer.sent;
}

/** Opens the file. Returns all that sendfile(2) needs, or the open file and the reason why it must be copied. */
function choose(
  target: SocketAdapter,
  file: SendfileFile | SeenFile,
  zeroCopy = true,
  held = false,
): NativeRoute | { source: Source; reason: string } {
  const libc = loadLibc();
  const source = openSource(file, typeof libc === "string" ? undefined : libc);
  if (typeof libc === "string") return { source, reason: libc };
  try {
    if (!zeroCopy) return { source, reason: TURNED_OFF + "the option zeroCopy" };
    const missing = whyNotHere(libc);
    if (missing !== undefined) return { source, reason: missing };
    if (!hasDescriptor(source)) return { source, reason: String(source.descriptor) };
    const socket = target.open(libc, held);
    return typeof socket === "string" ? { source, reason: socket } : { libc, source, socket };
  } catch (error) {
    source.close();
    throw error;
  }
}

/** The reason, if this kernel is known to have no sendfile(2). */
function whyNotHere(libc: Libc): string | undefined {
  return withoutSendfile.has(libc) ? NO_SENDFILE : undefined;
}

function hasDescriptor(source: Source): source is NativeRoute["source"] {
  return typeof source.descriptor === "number";
}

function openTransfer(
  target: SocketAdapter,
  route: ReturnType<typeof choose>,
  options: SendfileOptions,
  observer?: Observer,
  calledAt?: number,
): Transfer {
  try {
    return new Transfer(target, route.source, options, observer, calledAt);
  } catch (error) {
    route.source.close();
    if ("socket" in route && route.socket.owned) route.libc.close(route.socket.fd);
    throw error;
  }
}

/**
 * The reason why sendfile(2) cannot be used in this process, or (with `socket`) on this socket; undefined if it can
 * be used. Never prompts and never throws.
 *
 * @example Say so at start
 * ```ts
 * import { whyNotSendfile } from "@zerocopy/sendfile";
 *
 * console.log(`zero-copy: ${whyNotSendfile() ?? "on"}`);
 * ```
 */
export function whyNotSendfile(socket?: SendfileSocket): string | undefined {
  const libc = loadLibc();
  if (typeof libc === "string") return libc;
  const missing = whyNotHere(libc);
  if (missing !== undefined || socket === undefined) return missing;
  try {
    const descriptor = adapterOf(socket).open(libc);
    if (typeof descriptor === "string") return descriptor;
    if (descriptor.owned) libc.close(descriptor.fd);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Whether sendfile(2) can be used in this process, or (with `socket`) on this socket. {@link whyNotSendfile} gives
 * the reason if not.
 *
 * @example
 * ```ts
 * import { canUseSendfile } from "@zerocopy/sendfile";
 *
 * if (!canUseSendfile()) console.log("files will be copied");
 * ```
 */
export function canUseSendfile(socket?: SendfileSocket): boolean {
  return whyNotSendfile(socket) === undefined;
}

/**
 * Returns `sendfile` bound to one socket, for code that should not have access to the socket.
 *
 * @example Two files in a row
 * ```ts
 * import { createSendfileCallable } from "@zerocopy/sendfile";
 *
 * async function both(conn: Deno.Conn): Promise<void> {
 *   const send = createSendfileCallable(conn);
 *   await send("head.bin");
 *   await send("tail.bin", 512);
 * }
 * ```
 */
export function createSendfileCallable(
  socket: SendfileSocket,
): (file: SendfileFile, offset?: number, count?: number) => Promise<number> {
  adapterOf(socket);
  return (file, offset, count) => sendfile(socket, file, { offset, count });
}
