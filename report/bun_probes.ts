import type { BunSocketLike } from "../sockets/bun_socket.ts";
import { collect, type Connection, type Probe, socketProbe } from "./probe.ts";
import { withUnixPath } from "./unix_path.ts";

type Endable = BunSocketLike & { end(): void };

interface Handlers {
  open?(socket: Endable): void;
  data(socket: BunSocketLike, bytes: Uint8Array): void;
  end?(): void;
  close?(): void;
}

type Place = { hostname: string; port: number } | { unix: string };

/** The members of Bun that we use. */
interface BunGlobal {
  listen(
    options: Place & { allowHalfOpen: boolean; socket: Handlers },
  ): { readonly port: number; stop(): void };
  connect(
    options: Place & { allowHalfOpen: boolean; socket: Handlers },
  ): Promise<Endable>;
}

/** Opens both ends of a connection, and keeps what arrives at the receiving end. */
async function connect(place: Place, side: "accepted" | "connected"): Promise<Connection> {
  const { Bun } = globalThis as unknown as { Bun: BunGlobal };
  const accepted = Promise.withResolvers<Endable>();
  const received = new Received();
  const peer: Handlers = {
    data: (_, bytes) => received.push(bytes.slice()),
    end: () => received.end(),
    close: () => received.end(),
  };
  const sender: Handlers = { data() {} };
  const [there, here] = side === "accepted" ? [peer, sender] : [sender, peer];
  const listener = Bun.listen({
    ...place,
    allowHalfOpen: true,
    socket: { ...here, open: (socket) => accepted.resolve(socket) },
  });
  const target = "unix" in place ? place : { ...place, port: listener.port };
  const connected = await Bun.connect({ ...target, allowHalfOpen: true, socket: there });
  const acceptedSocket = await accepted.promise;
  const socket = side === "accepted" ? acceptedSocket : connected;
  return {
    socket,
    finish: () => socket.shutdown(),
    received: collect(received.chunks()),
    close() {
      acceptedSocket.end();
      connected.end();
      listener.stop();
    },
  };
}

/** Turns bytes that arrive by events into a stream. */
class Received {
  readonly #chunks: Uint8Array[] = [];
  #ended = false;
  #wake = () => {};

  push(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      yield* this.#chunks.splice(0);
      if (this.#chunks.length > 0) continue;
      if (this.#ended) return;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

/** Bun's own sockets. */
export const bunProbes: readonly Probe[] = [
  socketProbe("Bun.listen, TCP", () => connect(LOOPBACK, "accepted")),
  socketProbe("Bun.connect, TCP", () => connect(LOOPBACK, "connected")),
  socketProbe("Bun.listen, unix socket", () => withUnixPath((unix) => connect({ unix }, "accepted"))),
];
