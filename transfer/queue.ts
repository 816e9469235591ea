import type { SendfileSocket } from "../sockets/mod.ts";
import { limitOf, timedOut } from "./transfer.ts";

type Sent = number | Promise<number>;

const QUEUE = Symbol.for("@zerocopy/sendfile.queue");

/** The last transfer of each socket that has one. Two copies of this module in one thread share this map. */
const last: Map<SendfileSocket, Promise<number>> =
  ((globalThis as { [QUEUE]?: Map<SendfileSocket, Promise<number>> })[QUEUE] ??= new Map());

/** Whether a transfer of this socket is under way. */
export function isBusy(socket: SendfileSocket): boolean {
  return last.has(socket);
}

/**
 * Runs `start` once the earlier transfers on this socket have settled, or at once if there are none. `quiet`: no
 * callback of the caller runs before `start` first waits. Otherwise a callback may begin another transfer, which has
 * to wait.
 */
export function inOrder(socket: SendfileSocket, quiet: boolean, start: () => Sent): Sent {
  const before = last.get(socket);
  if (before) return enter(socket, before.then(start, start));
  if (!quiet) {
    let settle!: (sent: Sent) => void;
    // Node.js 20 has no Promise.withResolvers.
    const running = new Promise<number>((resolve) => settle = resolve);
    enter(socket, running);
    try {
      settle(start());
    } catch (error) {
      settle(Promise.reject(error));
    }
    return running;
  }
  const running = start();
  return typeof running === "number" ? running : enter(socket, running);
}

function enter(socket: SendfileSocket, running: Promise<number>): Promise<number> {
  last.set(socket, running);
  const leave = () => {
    if (last.get(socket) === running) last.delete(socket);
  };
  running.then(leave, leave);
  return running;
}

/** Options that may end the wait before a transfer begins. */
export interface Limits {
  readonly signal?: AbortSignal;
  /** Milliseconds. */
  readonly timeout?: number;
}

/**
 * Passes `schedule` a function that begins a transfer, and returns the transfer's result. Rejects if `signal` or
 * `timeout` fires before the transfer begins; after that the function does nothing. If there is a timeout and the
 * transfer begins later than the call, `start` receives the time of the call (performance.now).
 */
export function beginWithin(
  { signal, timeout }: Limits,
  start: (calledAt?: number) => Sent,
  schedule: (begin: () => Sent) => Sent,
): Sent {
  const limit = limitOf(timeout);
  const state: { begun: boolean; over: boolean; calledAt?: number } = { begun: false, over: false };
  let stopWaiting = () => {};
  const result = schedule(() => {
    if (state.over) return 0;
    state.begun = true;
    stopWaiting();
    return start(state.calledAt);
  });
  if (typeof result === "number" || state.begun || (!signal && limit === undefined)) return result;
  if (limit !== undefined) state.calledAt = performance.now();
  return new Promise((resolve, reject) => {
    const giveUp = (error: unknown) => {
      state.over = true;
      stopWaiting();
      reject(error);
    };
    const onAbort = () => giveUp(signal!.reason);
    const timer = limit === undefined ? undefined : setTimeout(() => giveUp(timedOut(limit, 0)), limit);
    stopWaiting = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    signal?.addEventListener("abort", onAbort);
    result.finally(() => stopWaiting()).then(resolve, reject);
  });
}
