/**
 * The border: what an OS file may ask of a runtime's FFI. Everything here is neutral; `deno.ts` and `bun.ts`
 * translate it.
 */

/** A C type as both runtimes can pass it. `buffer` is memory of ours, `pointer` an address from C. */
export type NativeType = "i32" | "u32" | "i64" | "usize" | "buffer" | "pointer";

/** One C function. `name` is the symbol, where it differs from the key. */
export interface Signature {
  readonly name?: string;
  readonly args: readonly NativeType[];
  readonly returns: "i32" | "usize" | "pointer";
}

/** The functions an OS file needs, by the name it calls them. */
export type Symbols = Readonly<Record<string, Signature>>;

// deno-lint-ignore no-explicit-any -- the FFI border: C decides what goes in and what comes out
export type NativeFunction = (...args: any[]) => any;

/** A blocking C call that a runtime repeats away from the JavaScript thread: `epoll_wait` or `kevent`. */
export interface BlockingCall {
  readonly symbol: string;
  readonly signature: Signature;
  /** Arguments; the string "events" stands for the buffer that the call fills. */
  readonly args: readonly (number | null | "events")[];
  /** Size of the events buffer in bytes. */
  readonly bytes: number;
}

/** Told what becomes of a {@link BlockingCall}. */
export interface WatchEvents {
  onReturn(result: number, events: Uint8Array): void;
  /** It will not return again: what made it has failed or was ended. Told at most once, and not after `close`. */
  onFailure(error: Error): void;
}

/** A {@link BlockingCall} under way. */
export interface Watch {
  /** Somebody waits: repeat the call, and keep the process alive. */
  start(): void;
  /** Nobody waits: let the process end. True when the call under way must be woken for that. */
  rest(): boolean;
  /** To be called with the call woken: resolves when no thread is inside it any more. */
  close(): Promise<void>;
}

/** A loaded C library. */
export interface Library {
  readonly path: string;
  readonly call: Readonly<Record<string, NativeFunction>>;
  /** A 64-bit argument (`usize`, `i64`) in the form this runtime passes fastest. */
  readonly wide: (n: number) => number | bigint;
  /** Whether `call` has the blocking calls too, as functions that give promises. */
  readonly callsAway: boolean;
  /** Milliseconds an idle {@link Watch} is kept for the next wait. */
  readonly linger: number;
  watch(call: BlockingCall, events: WatchEvents): Watch;
}

/** A runtime's FFI: loads a library, or says in words why it cannot. Never prompts, never throws. */
export interface Loader {
  load(candidates: readonly string[], symbols: Symbols, blocking: Symbols): Library | string;
}
