import type { BunSocketLike } from "../sockets/bun_socket.ts";
import { Inbox } from "./receive_buffer.ts";
import type { Listen, Wire } from "./transport.ts";

/** The part in use of what `Bun.listen` accepts. */
interface Accepted extends BunSocketLike {
  data: BunWire | undefined;
  readonly remoteAddress: string;
  end(): void;
  pause(): void;
  resume(): void;
  setNoDelay(on: boolean): void;
}

interface BunGlobal {
  listen(options: {
    hostname: string;
    port: number;
    reusePort: boolean;
    allowHalfOpen: boolean;
    socket: {
      open(socket: Accepted): void;
      data(socket: Accepted, bytes: Uint8Array): void;
      end(socket: Accepted): void;
      close(socket: Accepted): void;
      error(socket: Accepted): void;
    };
  }): { readonly port: number; stop(): void };
}

class BunWire implements Wire {
  readonly client: string;
  readonly inbox: Inbox;
  gone?: () => void;

  constructor(readonly socket: Accepted) {
    this.client = socket.remoteAddress;
    this.inbox = new Inbox((on) => on ? socket.resume() : socket.pause());
  }

  read(into: Uint8Array): Promise<number> {
    return this.inbox.read(into);
  }

  finish(): void {
    this.socket.shutdown();
  }

  close(): void {
    this.inbox.end();
    this.socket.end();
  }
}

/**
 * `Bun.listen`. It tells of no error of accept(2), and where descriptors have run out tries again without a pause: that
 * is for who accepts to prevent (connection_limits.ts).
 */
export const listenBun: Listen = ({ host, port, shared }, accept) => {
  const { Bun } = globalThis as unknown as { Bun: BunGlobal };
  const end = (socket: Accepted) => socket.data?.inbox.end();
  const gone = (socket: Accepted) => {
    end(socket);
    socket.data?.gone?.();
  };
  const listener = Bun.listen({
    hostname: host,
    port,
    reusePort: shared,
    allowHalfOpen: true,
    socket: {
      open(socket) {
        socket.setNoDelay(true);
        accept(socket.data = new BunWire(socket));
      },
      data: (socket, bytes) => socket.data?.inbox.push(bytes),
      end,
      close: gone,
      error: gone,
    },
  });
  return { port: listener.port, close: () => listener.stop() };
};
