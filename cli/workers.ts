import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { isGranted } from "../runtime.ts";
import { Failure } from "./arguments.ts";
import { workerCommand, type WorkerPlace } from "./worker_command.ts";

/** A message from the parent process to a worker. */
type Order = { readonly listen: number } | { readonly stop: true };

/** A message from a worker to the parent process. */
type Report = { readonly ready: true } | { readonly listening: true } | { readonly failed: string };

/** The functions of a worker. */
export interface Work {
  /** Rejects with {@link Failure}. */
  listen(port: number): Promise<unknown>;
  stop(): Promise<void>;
}

/** The first argument of a worker. */
const WORKER = "--worker";

const args = process.argv.slice(2);

/** Whether this process is one of the workers. */
export const isWorker: boolean = args[0] === WORKER && process.send !== undefined;

/** The command line, without the worker's first argument. */
export const commandLine: string[] = isWorker ? args.slice(1) : args;

/** Runs a worker: obeys the parent's messages until one of the two processes ends. */
export function work({ listen, stop }: Work): void {
  // The terminal sends these signals to all processes; the parent tells the workers what to do.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  const tell = (report: Report) => process.send!(report);
  process.on("disconnect", () => process.exit(1));
  if (!process.connected) process.exit(1); // the parent ended before this process started
  process.on("message", (order: Order) => {
    if ("stop" in order) stop().then(() => process.exit(0));
    else {
      listen(order.listen).then(
        () => tell({ listening: true }),
        ({ message }) => tell({ failed: message }),
      );
    }
  });
  tell({ ready: true });
}

/** Starts this program as a worker. Throws {@link Failure}. */
export function startWorker(place: WorkerPlace): ChildProcess {
  // Deno would prompt at the terminal and wait.
  if (!isGranted({ name: "run", command: process.execPath }) || !isGranted({ name: "env" })) {
    throw new Failure(`workers need --allow-run=${process.execPath} and --allow-env`, 1);
  }
  return spawn(process.execPath, [...workerCommand(place), WORKER, ...args], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
}

/** The callbacks of a {@link WorkerProcess}. */
interface Fate {
  onListening(): void;
  /** Called once, when the process has ended. `how`: text for the log. */
  onEnd(how: string): void;
}

/** Milliseconds in which a worker must end after its channel is closed. It does so by itself unless it hangs. */
const DISCONNECTED = 5000;

/** One process, from its start to its end. */
class WorkerProcess {
  readonly #child: ChildProcess;
  #ready = false;
  readonly ended: Promise<void>;

  constructor(child: ChildProcess, port: number, { onListening, onEnd }: Fate) {
    this.#child = child;
    let problem: string | undefined;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ended = promise.then(onEnd);
    child.on("message", (report: Report) => {
      if ("ready" in report) {
        this.#ready = true; // messages sent before that may be lost
        this.#order({ listen: port });
      } else if ("listening" in report) onListening();
      else {
        problem = report.failed;
        this.kill();
      }
    });
    child.on("error", ({ message }) => {
      problem ??= message;
      if (child.pid === undefined) resolve(problem); // not started: no exit follows
      else this.kill(); // it can no longer receive messages
    });
    child.on("disconnect", () => {
      const timer = setTimeout(() => this.kill(), DISCONNECTED);
      child.once("exit", () => clearTimeout(timer));
    });
    child.on("exit", (code, signal) => {
      resolve(problem ?? `a worker ended ${code === null ? `by ${signal}` : `with code ${code}`}`);
    });
  }

  #order(order: Order): void {
    try {
      // If this fails, the worker has ended or is about to.
      this.#child.send(order, () => {});
    } catch {
      this.kill();
    }
  }

  /** Resolves when the worker has finished its responses in flight. Before it is ready it has none. */
  stop(): Promise<void> {
    if (this.#ready) this.#order({ stop: true });
    else this.kill();
    return this.ended;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** How workers that end are replaced. */
export interface Retry {
  /** Milliseconds until the first attempt; each one that fails doubles it. */
  readonly first: number;
  /** Milliseconds between attempts at most. */
  readonly longest: number;
  /** Attempts to replace a worker before it counts as lost. Attempts continue as long as another worker listens. */
  readonly attempts: number;
  /** Milliseconds that a worker must listen before its failed attempts are forgotten. */
  readonly settled: number;
  /** Milliseconds in which a new worker must listen. */
  readonly start: number;
}

/** Eight attempts in 8 to 16 s: long enough for a directory to be replaced, or a disk to be mounted again. */
const RETRY: Retry = { first: 100, longest: 5000, attempts: 8, settled: 10_000, start: 60_000 };

/** One worker, which may be served by several processes in turn. */
interface Slot {
  process?: WorkerProcess;
  /** When the process began to listen, by `performance.now()`. */
  listening?: number;
  /** Processes in a row that ended early. */
  failures: number;
  /** The timer for the next start, or for the timeout of the current start. */
  timer?: ReturnType<typeof setTimeout>;
}

/** Processes that serve one port together. One that ends is replaced. */
export class Workers {
  readonly #startProcess: (port: number) => ChildProcess;
  readonly #onLost: (failure: Failure) => void;
  readonly #retry: Retry;
  readonly #slots: Slot[] = [];
  #port = 0;
  #stopping = false;

  /** `startProcess` may throw. `onLost` is called once, when no worker listens and each has had all its attempts. */
  constructor(
    startProcess: (port: number) => ChildProcess,
    onLost: (failure: Failure) => void,
    retry: Retry = RETRY,
  ) {
    this.#startProcess = startProcess;
    this.#onLost = onLost;
    this.#retry = retry;
  }

  /** Starts `count` workers on `port`; resolves once all listen. Rejects with {@link Failure} when the first cannot. */
  async listen(port: number, count: number): Promise<void> {
    this.#port = port;
    await Promise.all(Array.from({ length: count }, () => {
      const slot: Slot = { failures: 0 };
      this.#slots.push(slot);
      return new Promise<void>((resolve, reject) => {
        this.#start(slot, resolve, (how) => reject(new Failure(how, 1)));
      });
    }));
  }

  /** `onFailure` is for a process that never listened. */
  #start(slot: Slot, onListening: () => void, onFailure: (how: string) => void): void {
    const onEnd = (how: string) => {
      clearTimeout(slot.timer);
      const listened = slot.listening;
      slot.process = slot.listening = undefined;
      if (this.#stopping) return;
      if (listened === undefined) return onFailure(how);
      if (performance.now() - listened >= this.#retry.settled) slot.failures = 0;
      this.#replace(slot, how);
    };
    let child: ChildProcess;
    try {
      child = this.#startProcess(this.#port);
    } catch (error) {
      return onEnd((error as Error).message);
    }
    slot.process = new WorkerProcess(child, this.#port, {
      onListening: () => {
        clearTimeout(slot.timer);
        slot.listening = performance.now();
        onListening();
      },
      onEnd,
    });
  }

  #replace(slot: Slot, how: string): void {
    slot.failures++;
    const { first, longest, attempts, start } = this.#retry;
    if (this.#slots.every(({ listening, failures }) => listening === undefined && failures > attempts)) {
      this.kill(); // a hanging worker would outlive this process
      return this.#onLost(new Failure(`${how}; no worker is left`, 1));
    }
    // Random, so that workers do not all start at the same moment.
    const delay = Math.min(first * 2 ** (slot.failures - 1), longest) * (0.5 + Math.random() / 2);
    console.error(`${how}; another one starts in ${(delay / 1000).toFixed(1)} s`);
    slot.timer = setTimeout(() => {
      this.#start(
        slot,
        () => console.error("a worker listens again"),
        (how) => this.#replace(slot, how),
      );
      if (slot.process) slot.timer = setTimeout(() => slot.process?.kill(), start);
    }, delay);
  }

  /** Resolves when all workers have finished their responses in flight. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#slots.map(({ timer, process }) => {
      clearTimeout(timer);
      return process?.stop();
    }));
  }

  /** Ends all at once. */
  kill(): void {
    this.#stopping = true;
    for (const { timer, process } of this.#slots) {
      clearTimeout(timer);
      process?.kill();
    }
  }
}
