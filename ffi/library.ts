/**
 * The FFI border: the interface between the OS files and a runtime's FFI. Everything here is independent of the
 * runtime; `deno.ts` and `bun.ts` implement it.
 */

import { LIBC_NOT_LOADED } from "../reasons.ts";

/** A C type that both runtimes can pass. `buffer` is our own memory, `pointer` an address from C. */
export type NativeType = "i32" | "u32" | "i64" | "usize" | "buffer" | "pointer";

/** One C function. `name` is the symbol, if it differs from the key. */
export interface Signature {
  readonly name?: string;
  readonly args: readonly NativeType[];
  readonly returns: "i32" | "usize" | "pointer";
}

/** The functions that an OS file needs, by key. */
export type Symbols = Readonly<Record<string, Signature>>;

// deno-lint-ignore no-explicit-any -- the FFI border: the C declaration decides the types
export type NativeFunction = (...args: any[]) => any;

/** A blocking C call that a runtime repeats in another thread: `epoll_wait` or `kevent`. */
export interface BlockingCall {
  readonly symbol: string;
  readonly signature: Signature;
  /** Arguments; the string "events" stands for the buffer that the call fills. */
  readonly args: readonly (number | null | "events")[];
  /** Size of the events buffer in bytes. */
  readonly bytes: number;
}

/** The callbacks of a {@link BlockingCall}. */
export interface WatchEvents {
  onReturn(result: number, events: Uint8Array): void;
  /** The call will not return again: its thread failed or was ended. Called at most once, and not after `close`. */
  onFailure(error: Error): void;
}

/** A {@link BlockingCall} under way. */
export interface Watch {
  /** Repeats the call and keeps the process alive, because there is a waiter. */
  start(): void;
  /** Lets the process end, because there is no waiter. True if the pending call must be woken for that. */
  rest(): boolean;
  /** Resolves when no thread is inside the call. The caller also wakes the call. */
  close(): Promise<void>;
}

/** The first library that `open` can load, or why none of them: for a {@link Loader}. */
export function loadFirst(paths: readonly string[], open: (path: string) => Library): Library | string {
  const failures: string[] = [];
  for (const path of paths) {
    try {
      return open(path);
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  return LIBC_NOT_LOADED + failures.join("; ");
}

/** A loaded C library. */
export interface Library {
  readonly path: string;
  readonly call: Readonly<Record<string, NativeFunction>>;
  /** A 64-bit argument (`usize`, `i64`) in the form this runtime passes fastest. */
  readonly wide: (n: number) => number | bigint;
  /** Whether `call` also has the blocking calls, as functions that return promises. */
  readonly callsAway: boolean;
  /** Milliseconds for which an idle {@link Watch} is kept for the next wait. */
  readonly linger: number;
  watch(call: BlockingCall, events: WatchEvents): Watch;
}

/** A runtime's FFI: loads a library, or returns the reason why it cannot. Never prompts, never throws. */
export interface Loader {
  load(candidates: readonly string[], symbols: Symbols, blocking: Symbols): Library | string;
}
