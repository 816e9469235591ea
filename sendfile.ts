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
 * Sends a file, or a range of it, over a connected stream socket by sendfile(2), and where that cannot be used by
 * read and write; resolves to the bytes of the file that were sent.
 *
 * That is `count`, or less where the file ends first (also when it is truncated behind what has been sent), or without
 * `count` all from `offset` to the end of the file. A `Deno.FsFile` stands at `offset` + sent afterwards, also when the
 * call fails; a descriptor's or FileHandle's own position is neither used nor moved.
 *
 * Until it settles nobody else may write to the socket, or the bytes mix; a second `sendfile` waits for the first, if
 * both are given the same object or both the same number: a `Deno.Conn` and its descriptor's number count as two.
 * For node:net sockets, and node:http's in Deno, it is safe: earlier writes go first, later ones wait.
 *
 * Rejects with `TypeError` or `RangeError` for bad arguments, before any system call; the error of node:fs where
 * the file cannot be opened; {@link SendfileNotAvailableError} where the file is not a regular file (of a directory
 * the message names it), or sendfile(2) cannot be used and `fallback` is false; {@link ConnectionClosedError} where
 * the peer left or the socket is closed; {@link SendfileTimeoutError}; {@link SendfileError} with the code `ESTALE`
 * where the file was truncated before what has been sent, which may arrive as zeros: the connection is reset;
 * {@link SendfileError} for anything else the system answers; the signal's reason. After an error the peer has an
 * unknown part of the bytes: close the connection.
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
 * {@link sendfile} for the rest of this package: several parts of a file in a row, with nothing of anybody else's
 * between them; gives the bytes of all, at once where it need not wait. Ends behind a part that came short of its count.
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
      return endInTurn(sent); // behind the socket's write slot: what others write goes on meanwhile
    }));
}

/** One transfer after another, without a wait as long as none of them has to. */
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
    return isShort || others.length === 0
      ? before + sent
      : beginParts(target, file, others, observer, undefined, before + sent);
  };
  const sent = begin(target, file, first, observer, calledAt);
  return typeof sent === "number" ? next(sent) : sent.then(next);
}

/** Picks sendfile(2) or the copy, and starts it; a transfer that need not wait has come to its end on return. */
function begin(
  target: SocketAdapter,
  file: SendfileFile | SeenFile,
  options: SendfileOptions,
  observer: Observer | undefined,
  calledAt: number | undefined,
): number | Promise<number> {
  const route = choose(target, file, options.zeroCopy);
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

/** Goes on after the first step: by sendfile(2), and where that stops in the middle, by copying from there. */
async function finish(transfer: Transfer, native: NativeTransfer, outcome: Outcome): Promise<void> {
  try {
    const reason = await native.go(outcome);
    if (reason !== undefined) await byCopy(transfer, reason);
    native.checkLength();
  } finally {
    native.end();
  }
}

/** Sends the rest by read and write, or says that it was not wanted. */
async function byCopy(transfer: Transfer, reason: string): Promise<void> {
  const { fallback = true } = transfer.options;
  transfer.attempt(() => transfer.source.size()); // throws where it is not a regular file
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
 * As {@link sendfile}, but blocks this thread until it is done: for scripts and workers. There is no fallback: where
 * sendfile(2) cannot be used it throws {@link SendfileNotAvailableError}.
 *
 * `timeout`: milliseconds without any byte sent, as for `sendfile`.
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

/** The file opened, and either all that sendfile(2) needs or the reason against it. */
function choose(
  target: SocketAdapter,
  file: SendfileFile | SeenFile,
  zeroCopy = true,
): NativeRoute | { source: Source; reason: string } {
  const libc = loadLibc();
  const source = openSource(file, typeof libc === "string" ? undefined : libc);
  if (typeof libc === "string") return { source, reason: libc };
  try {
    if (!zeroCopy) return { source, reason: TURNED_OFF + "the option zeroCopy" };
    const missing = whyNotHere(libc);
    if (missing !== undefined) return { source, reason: missing };
    if (!hasDescriptor(source)) return { source, reason: String(source.descriptor) };
    const socket = target.open(libc);
    return typeof socket === "string" ? { source, reason: socket } : { libc, source, socket };
  } catch (error) {
    source.close();
    throw error;
  }
}

/** Why this kernel is known not to do it. */
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
 * Why sendfile(2) cannot be used, in words; undefined where it can: in this process, or (with `socket`) on this
 * socket. Never prompts and never throws.
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
 * Whether sendfile(2) can be used: in this process, or (with `socket`) on this socket. {@link whyNotSendfile} says
 * why not.
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
 * `sendfile` bound to one socket, for code that should not know the socket.
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
