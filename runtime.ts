/** Runtime detection, and the yield to the event loop for long-running code. */
import process from "node:process";
import { setImmediate } from "node:timers";

export const isDeno: boolean = "Deno" in globalThis;
export const isBun: boolean = "Bun" in globalThis;

/** Whether this is Bun, and older than `version`. */
export function isBunBefore(version: string): boolean {
  const [here, there] = [process.versions.bun, version].map((text) => text?.split(/[.-]/).map(Number));
  if (!here || !there) return false;
  const at = there.findIndex((number, index) => number !== here[index]);
  return at >= 0 && here[at] < there[at];
}

/** Whether Deno has granted a permission; always true in other runtimes. Queries, and never requests: no prompt. */
export function isGranted(permission: Deno.PermissionDescriptor): boolean {
  return !isDeno || Deno.permissions.querySync(permission).state === "granted";
}

/**
 * Deno polls the kernel for sockets and timers only when it is idle, or once in 61 rounds of its event loop (tokio's
 * `event_interval`). Each immediate takes one round, so 62 immediates in a row are sure to contain one poll. They
 * take 60 to 90 µs; a timer also makes Deno poll but takes 1 to 2 ms, and a MessageChannel never makes it poll (all
 * measured).
 */
const ROUNDS = 62;

/**
 * The longest time in milliseconds for which we may keep Deno from polling sockets and timers. Within that time one
 * immediate (1.5 µs) is enough, which lets pending promises run. At 2 ms the rounds cost 3 % of a thread that yields
 * all the time.
 */
const LONGEST = 2;

/** Deno 2.8 may sleep although an immediate is due; a timer wakes it up. */
const oversleeps = isDeno && Deno.version.deno.startsWith("2.8.");

/** When Deno last was made to poll the kernel, by `performance.now()`. */
let asked = 0;

/** The yield under way, if there is one. */
let turn: Promise<void> | undefined;

/**
 * Lets sockets, timers and promises run. Code that could run for long without waiting must await it now and then. All
 * callers that are waiting at the same time share one yield and resume together. With an immediate each, every caller
 * would resume separately and start its own time budget, so that together they would hold the thread many times as
 * long.
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
 * Waits for one round of the event loop, for code that waits for something the loop itself is about to do. It does
 * not let other sockets run: in Deno they may have to wait for many rounds.
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

/** Sleeps. If `stop` is aborted meanwhile, throws its reason at once. */
export async function sleep(ms: number, stop?: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      stop?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    stop?.addEventListener("abort", wake);
  });
  stop?.throwIfAborted();
}
