import * as net from "node:net";
import { Inbox } from "./inbox.ts";
import type { Listener, Place, Wire } from "./wire.ts";

class NodeWire implements Wire {
  readonly client: string | undefined;
  readonly #inbox: Inbox;

  constructor(readonly socket: net.Socket) {
    this.client = socket.remoteAddress;
    const inbox = this.#inbox = new Inbox((on) => on ? socket.resume() : socket.pause());
    const end = () => inbox.end();
    socket.on("data", (bytes: Uint8Array) => inbox.push(bytes)).on("end", end).on("close", end).on(
      "error",
      end,
    );
  }

  read(into: Uint8Array): Promise<number> {
    return this.#inbox.read(into);
  }

  finish(): void {
    this.socket.end();
  }

  close(): void {
    this.#inbox.end();
    this.socket.destroy();
  }
}

/**
 * node:net, which can share a port among the processes of a node:cluster. Its sockets cost Deno more than its own; but
 * `Deno.listen` with `reusePort` ends the process where --unstable-net was not given (Deno 2.9).
 */
export function listenNode({ host, port }: Place, accept: (wire: Wire) => void): Promise<Listener> {
  const server = net.createServer(
    { allowHalfOpen: true, noDelay: true },
    (socket) => accept(new NodeWire(socket)),
  );
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      const { port } = server.address() as net.AddressInfo;
      resolve({ port, close: () => server.close() });
    });
  });
}
