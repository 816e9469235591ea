import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { Failure } from "./command.ts";

/** What a worker hears from the process that started it. */
type Order = { readonly listen: number } | { readonly stop: true };

/** What that process hears from a worker. */
type Report = { readonly ready: true } | { readonly listening: true } | { readonly failed: string };

/** What a worker does. */
export interface Work {
  /** Rejects with {@link Failure}. */
  listen(port: number): Promise<unknown>;
  stop(): Promise<void>;
}

/** The first argument of a worker. */
const WORKER = "--worker";

const [path, ...args] = process.argv.slice(1);

/** Whether this process is one of the workers. */
export const isWorker: boolean = args[0] === WORKER && process.send !== undefined;

/** The command line, that of the process that started the workers too. */
export const commandLine: string[] = isWorker ? args.slice(1) : args;

/** Does a worker's work, as it is ordered, until the end of one of the two processes. */
export function work({ listen, stop }: Work): void {
  // The terminal sends these to all; what is to be done comes from the process that the user started.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  const tell = (report: Report) => process.send!(report);
  process.on("disconnect", () => process.exit(1));
  if (!process.connected) process.exit(1); // it ended before this one had begun
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

/** Deno shares a port (SO_REUSEPORT) only with this flag, and ends where it is missing. */
const DENO = ["run", "--allow-all", "--unstable-net"];

function start(): ChildProcess {
  const runtime = "Deno" in globalThis ? DENO : [];
  try {
    return spawn(process.execPath, [...runtime, path, WORKER, ...args], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
  } catch (error) {
    throw new Failure(
      `workers need permission to run processes and to read the environment: ${(error as Error).message}`,
      1,
    );
  }
}

/** Processes that serve one port together. A worker that dies is replaced. */
export class Workers {
  readonly #workers = new Set<ChildProcess>();
  #port = 0;
  #stopping = false;

  /** Starts `count` workers on `port`; resolves once all listen. Rejects with {@link Failure}. */
  async listen(port: number, count: number): Promise<void> {
    this.#port = port;
    await Promise.all(Array.from({ length: count }, () => this.#start()));
  }

  // deno-lint-ignore require-await -- makes a rejection of what start throws
  async #start(): Promise<void> {
    const worker = start();
    this.#workers.add(worker);
    return new Promise((resolve, reject) => {
      let listening = false;
      worker.on("message", (report: Report) => {
        // Before it is ready an order may be lost.
        if ("ready" in report) this.#order(worker);
        else if ("failed" in report) reject(new Failure(report.failed, 1));
        else {
          listening = true;
          resolve();
        }
      });
      worker.on("error", ({ message }) => reject(new Failure(message, 1)));
      worker.on("exit", (code, signal) => {
        this.#workers.delete(worker);
        if (this.#stopping) return;
        const how = code === null ? `by ${signal}` : `with code ${code}`;
        if (!listening) return reject(new Failure(`a worker ended ${how}`, 1));
        console.error(`a worker ended ${how}, and is replaced`);
        this.#start().catch((error) => console.error(error.message));
      });
    });
  }

  #order(worker: ChildProcess): void {
    worker.send((this.#stopping ? { stop: true } : { listen: this.#port }) satisfies Order);
  }

  /** Resolves once all have finished what they had in flight. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#workers].map((worker) => {
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      this.#order(worker);
      return ended;
    }));
  }

  /** Ends all at once. */
  kill(): void {
    this.#stopping = true;
    for (const worker of this.#workers) worker.kill("SIGKILL");
  }
}
