import type { BunSocketLike } from "../sockets/bun_socket.ts";
import { ReceiveBuffer } from "./receive_buffer.ts";
import type { Listen, Transport } from "./transport.ts";

/** The part in use of what `Bun.listen` accepts. */
interface Accepted extends BunSocketLike {
  data: BunTransport | undefined;
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
  }): { readonly port: number; readonly hostname: string; stop(): void };
}

class BunTransport implements Transport {
  readonly client: string;
  readonly receiveBuffer: ReceiveBuffer;
  gone?: () => void;

  constructor(readonly socket: Accepted) {
    this.client = socket.remoteAddress;
    this.receiveBuffer = new ReceiveBuffer((on) => on ? socket.resume() : socket.pause());
  }

  read(into: Uint8Array): Promise<number> {
    return this.receiveBuffer.read(into);
  }

  finish(): void {
    this.socket.shutdown();
  }

  close(): void {
    this.receiveBuffer.end();
    this.socket.end();
  }
}

/**
 * `Bun.listen`. It tells of no error of accept(2), and where descriptors have run out tries again without a pause: that
 * is for who accepts to prevent (connection_limits.ts).
 */
export const listenBun: Listen = ({ host, port, shared }, accept) => {
  const { Bun } = globalThis as unknown as { Bun: BunGlobal };
  const end = (socket: Accepted) => socket.data?.receiveBuffer.end();
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
        accept(socket.data = new BunTransport(socket));
      },
      data: (socket, bytes) => socket.data?.receiveBuffer.push(bytes),
      end,
      close: gone,
      error: gone,
    },
  });
  return { port: listener.port, host: listener.hostname, close: () => listener.stop() };
};
