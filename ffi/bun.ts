import process from "node:process";
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

/** The members of `bun:ffi` that we use. */
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

/** For each symbol name in the library, the function's key and signature. */
type Table = Map<string, [key: string, signature: Signature]>;

/** Splits symbols into tables. Bun's dlopen takes one signature per name, and `syscall` has several. */
function tablesOf(symbols: Symbols): Table[] {
  const tables: Table[] = [];
  for (const [key, signature] of Object.entries(symbols)) {
    const name = signature.name ?? key;
    let table = tables.find((table) => !table.has(name));
    if (!table) tables.push(table = new Map());
    table.set(name, [key, signature]);
  }
  return tables;
}

/** Bun's FFI, which needs no permission. */
export const bunLoader: Loader = {
  load(candidates, symbols) {
    const ffi = bunFFI();
    const tables = tablesOf(symbols);
    return loadFirst(candidates, (path) => {
      const call: Record<string, NativeFunction> = {};
      for (const table of tables) {
        const signatures = [...table].map(([name, [, signature]]) => [name, translate(signature)]);
        const loaded = ffi.dlopen(path, Object.fromEntries(signatures)).symbols;
        for (const [name, [key]] of table) call[key] = loaded[name];
      }
      return new BunLibrary(path, call);
    });
  },
};

/** The message that starts the worker. */
interface Orders {
  path: string;
  symbol: string;
  signature: { args: string[]; returns: string };
  args: readonly (number | null | "events")[];
  bytes: number;
  stop: Int32Array;
}

/**
 * The source of the worker, as text. A separate file would not be found after the package is compiled or bundled:
 * JSR's npm mirror renames `.ts` to `.js` but does not change strings. The text of a function cannot be used either,
 * because coverage tools insert counters that do not exist in the worker.
 */
const WORKER = `
globalThis.onmessage = ({ data: { path, symbol, signature, args, bytes, stop } }) => {
  const call = process.getBuiltinModule("bun:ffi").dlopen(path, { [symbol]: signature }).symbols[symbol];
  const events = new Uint8Array(bytes);
  const values = args.map((arg) => arg === "events" ? events : arg);
  while (Atomics.load(stop, 0) === 0) {
    const result = call(...values);
    if (Atomics.load(stop, 0) === 0) postMessage({ result, events: events.slice() });
  }
  postMessage("stopped");
};
`;

/** A Bun worker has `ref` and `unref`, as in Node.js. */
type BunWorker = Worker & { ref(): void; unref(): void };

class BunLibrary implements Library {
  /** Starting a worker takes 16 ms, a wait in a running one 0.1 ms (measured), so we keep it for a moment. */
  readonly linger = 1000;
  readonly callsAway = false;
  readonly wide = (n: number): number => n;

  constructor(readonly path: string, readonly call: Record<string, NativeFunction>) {}

  watch(call: BlockingCall, { onReturn, onFailure }: WatchEvents): Watch {
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module", name: "sendfile readiness" }) as BunWorker;
    const { promise: stopped, resolve } = Promise.withResolvers<void>();
    const isStopping = () => Atomics.load(stop, 0) === 1;
    let failed = false;
    const fail = (what: string) => {
      if (failed || isStopping()) return;
      failed = true;
      onFailure(new Error(what));
    };
    worker.onmessage = ({ data }: MessageEvent<"stopped" | { result: number; events: Uint8Array }>) => {
      if (data === "stopped") resolve();
      else if (!failed) onReturn(data.result, data.events);
    };
    worker.onmessageerror = () => fail("a message from its worker could not be decoded");
    worker.onerror = (event) => {
      event.preventDefault(); // its waiters get the error
      fail(`its worker has failed: ${event.message}`);
    };
    // The worker's last event, however it ended: no thread is inside the call from now on.
    worker.addEventListener("close", () => {
      fail("its worker was ended");
      resolve();
    });
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
