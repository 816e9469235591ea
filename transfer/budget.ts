import { yieldToEventLoop } from "../runtime.ts";

/** Steps between two looks at the clock, which costs more than to count them. */
const STEPS = 32;

/** As many bytes have taken some tenths of a millisecond. */
const BYTES = 1024 * 1024;

/**
 * Milliseconds for which one step after the other, of whatever transfers, may keep others from running. A turn takes
 * Deno 60 to 90 µs, whether it was needed or not.
 */
const LONGEST = 2;

/*
 * What this thread may send, over whatever sockets, before others have a turn. An `await` of something that need not
 * wait lets only promises run, and transfers that have waited may all go on at once: a loop of small ones would hold
 * the thread for as long as its peer reads fast, and a dozen large ones for a dozen times their step.
 */

let steps = 0;
let bytes = 0;
/** By `performance.now()`: when this thread last had a turn, as far as is known here. */
let turned = 0;

/** Takes note of a step that has sent so many bytes. */
export function spend(sent: number): void {
  steps++;
  bytes += sent;
}

/** Whether others must have a turn before the next step. */
export function isTurnDue(): boolean {
  if (steps < STEPS && bytes < BYTES) return false;
  if (performance.now() - turned >= LONGEST) return true; // also for whoever asks before others have had it
  steps = bytes = 0;
  return false;
}

/** Lets everybody else run, and begins anew. */
export async function rest(): Promise<void> {
  await yieldToEventLoop();
  steps = bytes = 0;
  turned = performance.now();
}

/** Those whose next step has to wait, the one that has waited longest first. */
const waiting: (() => void)[] = [];
let waking = false;

/**
 * Resolves when a large transfer may take its next step, behind all that have asked before. Woken together they would
 * all take one, or the same few all of them.
 */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (!waking) void wake();
  });
}

async function wake(): Promise<void> {
  waking = true;
  await rest();
  for (let next; (next = waiting.shift());) {
    next();
    await undefined; // here it takes its step
    if (isTurnDue()) await rest();
  }
  waking = false;
}

/** The result of a transfer that has ended: behind a turn of everybody else's, where that is due. */
export function endInTurn(sent: number | Promise<number>): number | Promise<number> {
  if (typeof sent !== "number") return sent.then(endInTurn); // that it has waited for the loop is not sure
  spend(0);
  return isTurnDue() ? rest().then(() => sent) : sent;
}
