import { Connection, type Site } from "./connection.ts";
import { Warnings } from "./warnings.ts";
import type { Listen, Listener, Place, Wire } from "./wire.ts";
import { listenBun } from "./wire_bun.ts";
import { listenDeno } from "./wire_deno.ts";

const listen: Listen = "Deno" in globalThis ? listenDeno : listenBun;

/**
 * An HTTP/1.1 server of files on the runtime's own sockets. The runtimes' HTTP servers cost several times what
 * sendfile(2) itself does for a small file, and none of them lets a file take its way and stays right in all of this:
 * order, half-closed clients, HTTP/1.0, the end of a connection.
 */
export class FileServer {
  readonly #site: Site;
  readonly #connections = new Set<Connection>();
  readonly #warnings: Warnings;
  #listener: Listener | undefined;
  /** How it ends, also for a connection that is handed over at that moment. */
  #end: "stop" | "close" | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;
  #empty = () => {};

  constructor(site: Site) {
    this.#site = site;
    this.#warnings = new Warnings((line) => site.onWarning?.(line));
  }

  /** Gives the port. Throws the runtime's error. */
  listen(place: Place): number {
    this.#listener = listen(place, (wire) => this.#accept(wire), (error) => this.#failed(error));
    this.#clock = setInterval(() => this.#connections.forEach((connection) => connection.look()), 1000);
    return this.#listener.port;
  }

  async #accept(wire: Wire): Promise<void> {
    const connection = new Connection(wire, this.#site);
    this.#connections.add(connection);
    try {
      const running = connection.run();
      if (this.#end) connection[this.#end]();
      await running;
    } catch (error) {
      this.#site.onError(error);
    } finally {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#empty();
    }
  }

  #failed(error: unknown): void {
    const { code, name, message } = error as Error & { code?: string };
    const kind = code ?? name;
    this.#warnings.warn(kind, `a connection could not be accepted: ${kind}: ${message}`);
  }

  /** Takes no more connections, finishes what is in flight, and resolves once nothing is. */
  async stop(): Promise<void> {
    this.#end = "stop";
    this.#listener?.close();
    const empty = new Promise<void>((resolve) => this.#empty = resolve);
    for (const connection of this.#connections) connection.stop();
    if (this.#connections.size > 0) await empty;
    clearInterval(this.#clock);
  }

  /** Ends everything at once. */
  close(): void {
    this.#end = "close";
    this.#listener?.close();
    clearInterval(this.#clock);
    for (const connection of this.#connections) connection.close();
  }
}
