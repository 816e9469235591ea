import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { serveStatic } from "../http/node.ts";
import type { Command } from "./command.ts";
import { type Began, logLine } from "./log.ts";

/** Milliseconds that clients have, after their last response, to take what the system still holds for them. */
const LINGER = 2000;

/** The server of one process, which can come to an end without cutting anything off. */
export class StaticServer {
  readonly #server: Server;
  /** Every connection, and its responses that have not ended. */
  readonly #connections = new Map<Socket, number>();
  #stopping = false;
  #idle = () => {};

  /** Serves `root` as the command says. Throws `TypeError` for a header field that is none. */
  constructor(root: string, command: Command) {
    const { log } = command;
    const began = new WeakMap<IncomingMessage, Began>();
    const serve = serveStatic(root, {
      fallthrough: false,
      showDirListing: command.listing,
      showDotfiles: command.dotfiles,
      enableCors: command.cors,
      headers: command.headers,
      spa: command.spa,
      precompressed: command.precompressed,
      maxAge: command.maxAge,
      rateLimit: command.rateLimit,
      onSent: log === "none" ? undefined : (sent, request) => {
        console.log(logLine(log, request, sent, began.get(request)!));
      },
    });
    this.#server = createServer((request, response) => {
      if (log !== "none") began.set(request, { at: performance.now(), client: request.socket.remoteAddress });
      this.#track(request, response);
      serve(request, response);
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#connections.set(socket, 0);
      socket.once("close", () => {
        this.#connections.delete(socket);
        this.#look();
      });
    });
  }

  /** Resolves to the port. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, () => resolve((this.#server.address() as AddressInfo).port));
    });
  }

  #track({ socket }: IncomingMessage, response: ServerResponse): void {
    if (this.#stopping) response.setHeader("Connection", "close");
    const count = (by: number) => {
      const before = this.#connections.get(socket);
      if (before !== undefined) this.#connections.set(socket, before + by);
    };
    count(1);
    response.once("close", () => {
      count(-1);
      this.#look();
    });
  }

  #look(): void {
    if (this.#stopping) this.#idle();
  }

  /** Takes no more connections, finishes what is in flight, and resolves once nothing is. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#server.close();
    await this.#until(() => [...this.#connections.values()].every((count) => count === 0));
    // What the kernel has yet to send would be lost with a connection that has something left to read.
    for (const socket of this.#connections.keys()) socket.end();
    const timer = setTimeout(() => {
      this.#connections.clear();
      this.#idle();
    }, LINGER);
    await this.#until(() => this.#connections.size === 0);
    clearTimeout(timer);
  }

  #until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#idle = () => {
        if (condition()) resolve();
      };
      this.#idle();
    });
  }
}
