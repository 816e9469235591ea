/** Which runtime this is, and how code that could go on for ever lets others run. */
import { setImmediate } from "node:timers";

export const isDeno: boolean = "Deno" in globalThis;
export const isBun: boolean = "Bun" in globalThis;

/**
 * Deno asks the kernel about sockets and timers where it has nothing else to do, or once in 61 rounds of its loop
 * (tokio's `event_interval`). Each immediate is one round and gives it something to do: so many in a row are sure to
 * contain the question. They take 60 to 90 µs; a timer, which does the same, takes 1 to 2 ms, and a MessageChannel
 * never lets Deno ask (all measured).
 */
const ROUNDS = 62;

/**
 * Milliseconds for which Deno's sockets and timers may be left alone. In between one immediate, which takes 1.5 µs,
 * lets the promises run that can. At 2 ms the rounds cost 3 % of a thread that yields all the time.
 */
const LONGEST = 2;

/** Deno 2.8 may sleep although an immediate is due; a timer wakes it. */
const oversleeps = isDeno && Deno.version.deno.startsWith("2.8.");

/** By `performance.now()`: when Deno last had to ask the kernel. */
let asked = 0;

/** The turn under way. */
let turn: Promise<void> | undefined;

/**
 * Lets everybody else run: sockets, timers, promises. To be awaited now and then by whatever could go on for long
 * without a wait. All that call it meanwhile go on together, so that they can share what time they take: each behind
 * an immediate of its own would begin a new measure, one after the other, with no turn of anybody else's in between.
 */
export function yieldToEventLoop(): Promise<void> {
  return turn ??= new Promise((resolve) => {
    const asks = isDeno && performance.now() - asked >= LONGEST;
    let left = asks ? ROUNDS : 1;
    const round = () => {
      if (left-- > 0) return soon(round);
      if (asks) asked = performance.now();
      turn = undefined;
      resolve();
    };
    round();
  });
}

/**
 * One round of the event loop, for code that waits for what the loop itself is about to do. It is no turn for others:
 * in Deno their sockets may wait for many.
 */
export function nextRound(): Promise<void> {
  return new Promise((resolve) => soon(resolve));
}

function soon(callback: () => void): void {
  if (!oversleeps) return void setImmediate(callback);
  let called = false;
  const once = () => {
    clearTimeout(alarm);
    if (!called) callback();
    called = true;
  };
  const alarm = setTimeout(once);
  setImmediate(once);
}
