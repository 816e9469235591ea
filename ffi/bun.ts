import process from "node:process";
import type {
  BlockingCall,
  Library,
  Loader,
  NativeFunction,
  NativeType,
  Signature,
  Watch,
} from "./library.ts";

/** The part of `bun:ffi` in use. */
interface BunFFI {
  dlopen(
    path: string,
    symbols: Record<string, { args: string[]; returns: string }>,
  ): { symbols: Record<string, NativeFunction> };
}

function bunFFI(): BunFFI {
  return process.getBuiltinModule("bun:ffi") as unknown as BunFFI;
}

function translate({ args, returns }: Signature): { args: string[]; returns: string } {
  const type = (t: NativeType) => t === "buffer" || t === "pointer" ? "ptr" : t;
  return { args: args.map(type), returns: type(returns) };
}

/** Bun's FFI: no permission to ask for. */
export const bunLoader: Loader = {
  load(candidates, symbols) {
    const ffi = bunFFI();
    const wanted: Record<string, { args: string[]; returns: string }> = {};
    const keys: Record<string, string> = {};
    for (const [key, signature] of Object.entries(symbols)) {
      wanted[signature.name ?? key] = translate(signature);
      keys[key] = signature.name ?? key;
    }
    const failures: string[] = [];
    for (const path of candidates) {
      try {
        const loaded = ffi.dlopen(path, wanted).symbols;
        const call = Object.fromEntries(Object.entries(keys).map(([key, name]) => [key, loaded[name]]));
        return new BunLibrary(path, call);
      } catch (error) {
        failures.push((error as Error).message);
      }
    }
    return `the C library could not be loaded: ${failures.join("; ")}`;
  },
};

/** What the worker is told when it starts. */
interface Orders {
  path: string;
  symbol: string;
  signature: { args: string[]; returns: string };
  args: readonly (number | null | "events")[];
  bytes: number;
  stop: Int32Array;
}

/**
 * The whole worker. It is started from this function's own text, because a file of its own is not found once
 * the package was compiled or bundled: JSR's npm mirror renames `.ts` to `.js` but leaves strings alone.
 * So it must not use anything from outside itself.
 */
function workerMain(): void {
  // deno-lint-ignore no-explicit-any -- a worker's global scope, which the types of neither runtime describe here
  const scope = globalThis as any;
  scope.onmessage = ({ data: orders }: { data: Orders }) => {
    const ffi = scope.process.getBuiltinModule("bun:ffi");
    const call = ffi.dlopen(orders.path, { [orders.symbol]: orders.signature }).symbols[orders.symbol];
    const events = new Uint8Array(orders.bytes);
    const args = orders.args.map((arg) => arg === "events" ? events : arg);
    while (Atomics.load(orders.stop, 0) === 0) {
      const result: number = call(...args);
      if (Atomics.load(orders.stop, 0) === 0) scope.postMessage({ result, events: events.slice() });
    }
    scope.postMessage("stopped");
  };
}

/** A Bun worker has `ref`/`unref`, as node's has. */
type BunWorker = Worker & { ref(): void; unref(): void };

class BunLibrary implements Library {
  /** Starting a worker takes 16 ms (measured), a wait in a running one 0.1 ms: keep it a moment. */
  readonly linger = 1000;
  readonly wide = (n: number): number => n;

  constructor(readonly path: string, readonly call: Record<string, NativeFunction>) {}

  watch(call: BlockingCall, onReturn: (result: number, events: Uint8Array) => void): Watch {
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const url = URL.createObjectURL(new Blob([`(${workerMain})()`], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module", name: "sendfile readiness" }) as BunWorker;
    const { promise: stopped, resolve } = Promise.withResolvers<void>();
    worker.onmessage = ({ data }: MessageEvent<"stopped" | { result: number; events: Uint8Array }>) => {
      if (data === "stopped") resolve();
      else onReturn(data.result, data.events);
    };
    const { path } = this;
    const { signature, args, bytes } = call;
    const symbol = signature.name ?? call.symbol;
    worker.postMessage({ path, symbol, signature: translate(signature), args, bytes, stop } satisfies Orders);
    worker.unref();
    return {
      start: () => worker.ref(),
      rest() {
        worker.unref();
        return false;
      },
      async close() {
        Atomics.store(stop, 0, 1);
        await stopped;
        URL.revokeObjectURL(url);
        worker.terminate();
      },
    };
  }
}
