import { yieldToEventLoop } from "../runtime.ts";

/** Steps between two reads of the clock: reading the clock costs more than counting steps. */
const STEPS = 32;

/** Bytes after which the clock is read, too: sending them takes some tenths of a millisecond. */
const BYTES = 1024 * 1024;

/**
 * Milliseconds for which the steps of all transfers together may hold the thread. A yield costs Deno 60 to 90 µs,
 * even if nothing else had to run.
 */
const LONGEST = 2;

/*
 * How much this thread may send, over all sockets, before it yields to the event loop. An `await` of something that is
 * already settled lets only promises run, and transfers that have waited may all resume at once: a loop of small
 * transfers would hold the thread for as long as its peer reads fast, and a dozen large ones for a dozen steps.
 */

let steps = 0;
let bytes = 0;
/** When this thread last yielded to the event loop, as far as we know, by `performance.now()`. */
let turned = 0;

/** Records a step that has sent `sent` bytes. */
export function spend(sent: number): void {
  steps++;
  bytes += sent;
}

/** Whether this thread must yield before the next step. */
export function isTurnDue(): boolean {
  if (steps < STEPS && bytes < BYTES) return false;
  if (performance.now() - turned >= LONGEST) return true; // stays true for all callers until the yield
  steps = bytes = 0;
  return false;
}

/** Yields to the event loop and resets the budget. */
export async function rest(): Promise<void> {
  await yieldToEventLoop();
  steps = bytes = 0;
  turned = performance.now();
}

/** The transfers whose next step has to wait, longest waiting first. */
const waiting: (() => void)[] = [];
let waking = false;

/**
 * Resolves when a large transfer may take its next step, in the order of the calls. If all were woken together,
 * either all would take a step without a yield between them, or the same few would take every step.
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
    await undefined; // the woken transfer takes its step here
    if (isTurnDue()) await rest();
  }
  waking = false;
}

/** Returns the result of an ended transfer, after a yield if one is due. */
export function endInTurn(sent: number | Promise<number>): number | Promise<number> {
  if (typeof sent !== "number") return sent.then(endInTurn); // a promise does not prove that the loop has run
  spend(0);
  return isTurnDue() ? rest().then(() => sent) : sent;
}
