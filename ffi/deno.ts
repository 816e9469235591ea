import {
  type BlockingCall,
  type Library,
  type Loader,
  loadFirst,
  type NativeFunction,
  type NativeType,
  type Signature,
  type Symbols,
  type Watch,
  type WatchEvents,
} from "./library.ts";
import { NO_PERMISSION } from "../reasons.ts";
import { isGranted } from "../runtime.ts";

type DenoSymbol = {
  name: string;
  parameters: NativeType[];
  result: Signature["returns"];
  nonblocking: boolean;
};

function translate(symbols: Symbols, nonblocking: boolean): Record<string, DenoSymbol> {
  return Object.fromEntries(
    Object.entries(symbols).map(([key, { name = key, args, returns }]) => [
      key,
      { name, parameters: [...args], result: returns, nonblocking },
    ]),
  );
}

/** Deno's FFI. The permission is only queried, never requested: a library must not stop a server with a prompt. */
export const denoLoader: Loader = {
  load(candidates, symbols, blocking) {
    const granted = candidates.filter((path) => isGranted({ name: "ffi", path }));
    if (granted.length === 0) {
      return NO_PERMISSION;
    }
    const translated = { ...translate(symbols, false), ...translate(blocking, true) };
    return loadFirst(granted, (path) => {
      const { symbols: call } = Deno.dlopen(path, translated);
      return new DenoLibrary(path, call as Record<string, NativeFunction>);
    });
  },
};

class DenoLibrary implements Library {
  /** 0: an open descriptor or a running timer would fail the leak check of `Deno.test` in users' tests. */
  readonly linger = 0;
  readonly callsAway = true;
  /** Converts to bigint: a number as a 64-bit argument takes V8's slow call, 346 ns against 174 ns (measured). */
  readonly wide = BigInt;

  constructor(readonly path: string, readonly call: Record<string, NativeFunction>) {}

  watch(call: BlockingCall, { onReturn, onFailure }: WatchEvents): Watch {
    const events = new Uint8Array(call.bytes);
    const args = call.args.map((arg) => arg === "events" ? events : arg);
    const blocking = this.call[call.symbol];
    let wanted = false;
    let looping = false;
    let inside = false;
    let ended = Promise.resolve();

    async function repeat() {
      looping = true;
      try {
        while (wanted) {
          inside = true;
          const result: number = await blocking(...args);
          inside = false;
          onReturn(result, events);
        }
      } catch (error) {
        inside = false;
        onFailure(error as Error);
      } finally {
        looping = false;
      }
    }

    return {
      start() {
        wanted = true;
        // If rest() was called but the call has not returned yet, the loop continues by itself.
        if (!looping) ended = repeat();
      },
      rest() {
        wanted = false;
        return inside;
      },
      close: () => ended,
    };
  }
}
