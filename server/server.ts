import { isExhausted } from "../sockets/exhausted.ts";
import { Connection, type Site } from "./connection.ts";
import { ConnectionLimits } from "./connection_limits.ts";
import type { Head } from "./request_head.ts";
import { Warnings } from "./warnings.ts";
import type { Listen, Listener, Place, Transport } from "./transport.ts";
import { listenBun } from "./transport_bun.ts";
import { listenDeno } from "./transport_deno.ts";
import { isDeno } from "../runtime.ts";

const listen: Listen = isDeno ? listenDeno : listenBun;

/**
 * An HTTP/1.1 server for files on the runtime's own sockets. For a small file the runtimes' HTTP servers cost several
 * times as much as sendfile(2) itself, and none of them allows sendfile(2) on its sockets and stays correct about
 * response order, half-closed clients, HTTP/1.0 and closing connections.
 */
export class FileServer {
  readonly #site: Site;
  readonly #connections = new Set<Connection>();
  readonly #limits: ConnectionLimits;
  readonly #warnings: Warnings;
  #listener: Listener | undefined;
  /** How the server is ending, also for a connection that is handed over at that moment. */
  #end: "stop" | "close" | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;
  #empty: (() => void)[] = [];
  #keepsAlive = true;

  /** Throws `RangeError` for an invalid limit. */
  constructor(site: Site) {
    this.#site = site;
    this.#warnings = new Warnings((line) => site.onWarning?.(line));
    this.#limits = new ConnectionLimits(site, this.#warnings);
  }

  /** Listens and returns the port. Throws the runtime's error. */
  listen(place: Place): number {
    this.#listener = listen(place, (transport) => this.#accept(transport), (error) => this.#failed(error));
    this.#clock = setInterval(() => {
      this.#connections.forEach((connection) => connection.look());
      this.#limits.tick();
    }, 1000);
    return this.#listener.port;
  }

  /** The address that it listens on, as the system reports it. */
  get host(): string | undefined {
    return this.#listener?.host;
  }

  /** True: a connection was closed because descriptors are running out. */
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

  /** Handles a failed accept. True: other connections were closed to make room. */
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

  /** Stops accepting connections, finishes the responses in flight, and then resolves. */
  async stop(): Promise<void> {
    this.#end = "stop";
    this.#site.onStop?.();
    this.#listener?.close();
    for (const connection of this.#connections) connection.stop();
    await this.ended();
    clearInterval(this.#clock);
  }

  /** Resolves when no connection is left. */
  async ended(): Promise<void> {
    if (this.#connections.size > 0) await new Promise<void>((resolve) => this.#empty.push(resolve));
  }

  /** Sets whether listener and connections keep the process running; they do by default. */
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
