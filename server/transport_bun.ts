import type { BunSocketLike } from "../sockets/bun_socket.ts";
import { ReceiveBuffer } from "./receive_buffer.ts";
import type { Listen, Place, TlsIdentity, Transport } from "./transport.ts";

/** The members that we use of a socket that `Bun.listen` accepts. */
interface Accepted extends BunSocketLike {
  data: BunTransport | undefined;
  /** Missing or empty for the client of a unix socket. */
  readonly remoteAddress: string | undefined;
  end(): void;
  pause(): void;
  resume(): void;
  setNoDelay(on: boolean): void;
}

type Address =
  | {
    readonly hostname: string;
    readonly port: number;
    readonly reusePort: boolean;
    readonly tls?: TlsIdentity;
  }
  | { readonly unix: string };

interface BunGlobal {
  listen(
    options: Address & {
      allowHalfOpen: boolean;
      socket: {
        open(socket: Accepted): void;
        data(socket: Accepted, bytes: Uint8Array): void;
        end(socket: Accepted): void;
        close(socket: Accepted): void;
        error(socket: Accepted): void;
      };
    },
  ): { readonly port?: number; readonly hostname?: string; stop(): void };
}

class BunTransport implements Transport {
  readonly client: string | undefined;
  readonly receiveBuffer: ReceiveBuffer;
  gone?: () => void;

  constructor(readonly socket: Accepted) {
    this.client = socket.remoteAddress || undefined;
    this.receiveBuffer = new ReceiveBuffer((on) => on ? socket.resume() : socket.pause());
  }

  read(into: Uint8Array): Promise<number> {
    return this.receiveBuffer.read(into);
  }

  send(bytes: Uint8Array): number {
    return Math.max(0, this.socket.write(bytes)); // negative if the connection is lost
  }

  finish(): void {
    this.socket.shutdown();
  }

  close(): void {
    this.receiveBuffer.end();
    this.socket.end();
  }
}

function addressOf(place: Place): Address {
  if ("path" in place) return { unix: place.path };
  const { host, port, shared, tls } = place;
  return { hostname: host, port, reusePort: shared, tls };
}

/**
 * `Bun.listen`. It reports no error of accept(2), and retries in a busy loop when descriptors have run out:
 * connection_limits.ts prevents that.
 */
export const listenBun: Listen = (place, accept) => {
  const { Bun } = globalThis as unknown as { Bun: BunGlobal };
  const end = (socket: Accepted) => socket.data?.receiveBuffer.end();
  const gone = (socket: Accepted) => {
    end(socket);
    socket.data?.gone?.();
  };
  const listener = Bun.listen({
    ...addressOf(place),
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
  const { port = 0, hostname = "" } = listener;
  return { port, host: hostname, close: () => listener.stop() };
};
