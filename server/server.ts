import { isExhausted } from "../sockets/exhausted.ts";
import { Connection, type Site } from "./connection.ts";
import { ConnectionLimits } from "./connection_limits.ts";
import type { Head } from "./request_head.ts";
import { Warnings } from "./warnings.ts";
import type { Listen, Listener, Place, Transport } from "./transport.ts";
import { listenBun } from "./transport_bun.ts";
import { listenDeno } from "./transport_deno.ts";

const listen: Listen = "Deno" in globalThis ? listenDeno : listenBun;

/**
 * An HTTP/1.1 server of files on the runtime's own sockets. The runtimes' HTTP servers cost several times what
 * sendfile(2) itself does for a small file, and none of them lets a file take its way and stays right in all of this:
 * order, half-closed clients, HTTP/1.0, the end of a connection.
 */
export class FileServer {
  readonly #site: Site;
  readonly #connections = new Set<Connection>();
  readonly #limits: ConnectionLimits;
  readonly #warnings: Warnings;
  #listener: Listener | undefined;
  /** How it ends, also for a connection that is handed over at that moment. */
  #end: "stop" | "close" | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;
  #empty: (() => void)[] = [];
  #keepsAlive = true;

  /** Throws `RangeError` for a limit that is none. */
  constructor(site: Site) {
    this.#site = site;
    this.#warnings = new Warnings((line) => site.onWarning?.(line));
    this.#limits = new ConnectionLimits(site, this.#warnings);
  }

  /** Gives the port. Throws the runtime's error. */
  listen(place: Place): number {
    this.#listener = listen(place, (transport) => this.#accept(transport), (error) => this.#failed(error));
    this.#clock = setInterval(() => {
      this.#connections.forEach((connection) => connection.look());
      this.#limits.tick();
    }, 1000);
    return this.#listener.port;
  }

  /** The address that it listens on, as the system tells it. */
  get host(): string | undefined {
    return this.#listener?.host;
  }

  /** True: a connection was closed, as descriptors are running out. */
  #accept(transport: Transport): boolean {
    if (!this.#keepsAlive) transport.keepAlive?.(false);
    const connection = new Connection(transport, this.#site, this.#limits);
    this.#connections.add(connection);
    const closed = this.#limits.enter(connection);
    void this.#run(connection);
    return closed;
  }

  async #run(connection: Connection): Promise<void> {
    try {
      const running = connection.run();
      if (this.#end) connection[this.#end]();
      await running;
    } catch (error) {
      this.#site.onError(error);
    } finally {
      this.#connections.delete(connection);
      this.#limits.leave(connection);
      if (this.#connections.size === 0) this.#empty.splice(0).forEach((resolve) => resolve());
    }
  }

  /** A connection could not be accepted. True: others were closed for the next. */
  #failed(error: unknown): boolean {
    const { code, name, message } = error as Error & { code?: string };
    const kind = code ?? name;
    this.#warnings.warn(kind, `a connection could not be accepted: ${kind}: ${message}`);
    return isExhausted(error) && this.#limits.freeReserve();
  }

  /** The requests whose responses are under way. */
  underWay(): Head[] {
    return [...this.#connections].flatMap(({ underWay }) => underWay ?? []);
  }

  /** Takes no more connections, finishes what is in flight, and resolves once nothing is. */
  async stop(): Promise<void> {
    this.#end = "stop";
    this.#site.onStop?.();
    this.#listener?.close();
    for (const connection of this.#connections) connection.stop();
    await this.ended();
    clearInterval(this.#clock);
  }

  /** Resolves once there is no connection. */
  async ended(): Promise<void> {
    if (this.#connections.size > 0) await new Promise<void>((resolve) => this.#empty.push(resolve));
  }

  /** Whether listener and connections keep the process running, as they do at first. */
  keepAlive(on: boolean): void {
    this.#keepsAlive = on;
    this.#listener?.keepAlive?.(on);
    for (const connection of this.#connections) connection.keepAlive(on);
    keepTimer(this.#clock, on);
  }

  /** Ends everything at once. */
  close(): void {
    this.#end = "close";
    this.#site.onStop?.();
    this.#listener?.close();
    clearInterval(this.#clock);
    for (const connection of this.#connections) connection.close();
  }
}

function keepTimer(timer: ReturnType<typeof setInterval> | undefined, on: boolean): void {
  if (timer === undefined) return;
  if (typeof timer === "number") (on ? Deno.refTimer : Deno.unrefTimer)(timer);
  else if (on) timer.ref();
  else timer.unref();
}
