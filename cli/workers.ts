import cluster, { type Worker } from "node:cluster";
import process from "node:process";
import { Failure } from "./command.ts";

/** What a worker hears from the primary process. */
type Order = { readonly listen: number } | { readonly stop: true };

/** What the primary process hears from a worker. */
type Report = { readonly ready: true } | { readonly port: number } | { readonly failed: string };

/** What a worker does. */
export interface Work {
  /** Resolves to the port. Rejects with {@link Failure}. */
  listen(port: number): Promise<number>;
  stop(): Promise<void>;
}

/** Whether this process is one of the workers. */
export const isWorker: boolean = cluster.isWorker;

/** Does a worker's work, as the primary process orders, until the end of one of the two. */
export function work({ listen, stop }: Work): void {
  // The terminal sends these to all; what is to be done comes from the primary process.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  const tell = (report: Report) => process.send!(report);
  process.on("disconnect", () => process.exit(1));
  if (!process.connected) process.exit(1); // it ended before this one had begun
  process.on("message", (order: Order) => {
    if ("stop" in order) stop().then(() => process.exit(0));
    else listen(order.listen).then((port) => tell({ port }), ({ message }) => tell({ failed: message }));
  });
  tell({ ready: true });
}

function fork(): Worker {
  try {
    return cluster.fork();
  } catch (error) {
    throw new Failure(
      `workers need permission to run processes and to read the environment: ${(error as Error).message}`,
      1,
    );
  }
}

/** Processes that serve one port together. A worker that dies is replaced. */
export class Workers {
  readonly #workers = new Set<Worker>();
  #port = 0;
  #stopping = false;

  /** Starts `count` workers that share `port`, which nobody else has; resolves to it. Rejects with {@link Failure}. */
  async listen(port: number, count: number): Promise<number> {
    this.#port = port;
    await Promise.all(Array.from({ length: count }, () => this.#start()));
    return port;
  }

  // deno-lint-ignore require-await -- makes a rejection of what fork throws
  async #start(): Promise<number> {
    const worker = fork();
    this.#workers.add(worker);
    return new Promise((resolve, reject) => {
      let listening = false;
      worker.on("message", (report: Report) => {
        // Before it is ready an order may be lost.
        if ("ready" in report) this.#order(worker);
        else if ("failed" in report) reject(new Failure(report.failed, 1));
        else {
          listening = true;
          resolve(report.port);
        }
      });
      worker.on("exit", (code) => {
        this.#workers.delete(worker);
        if (this.#stopping) return;
        if (!listening) return reject(new Failure(`a worker ended with code ${code}`, 1));
        console.error(`a worker ended with code ${code}, and is replaced`);
        this.#start().catch((error) => console.error(error.message));
      });
    });
  }

  #order(worker: Worker): void {
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
    for (const worker of this.#workers) worker.process.kill("SIGKILL");
  }
}
