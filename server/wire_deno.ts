import type { Listen, Wire } from "./wire.ts";
import { listenNode } from "./wire_node.ts";

class DenoWire implements Wire {
  constructor(readonly socket: Deno.TcpConn) {}

  get client(): string {
    return this.socket.remoteAddr.hostname;
  }

  async read(into: Uint8Array): Promise<number> {
    try {
      return await this.socket.read(into) ?? 0;
    } catch {
      return 0; // reset by the client, or closed here
    }
  }

  finish(): void {
    this.socket.closeWrite().catch(() => {/* it is gone already */});
  }

  close(): void {
    try {
      this.socket.close();
    } catch {
      // it is closed already
    }
  }
}

/** Milliseconds until a connection is taken again, after one could not be: the process has too many files open. */
const PAUSE = 100;

/** `Deno.listen`. */
export const listenDeno: Listen = (place, accept) => {
  if (place.shared) return listenNode(place, accept);
  const listener = Deno.listen({ hostname: place.host, port: place.port });
  let open = true;
  (async () => {
    while (open) {
      try {
        const conn = await listener.accept();
        conn.setNoDelay();
        accept(new DenoWire(conn));
      } catch {
        if (open) await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    }
  })();
  return {
    port: listener.addr.port,
    close() {
      open = false;
      listener.close();
    },
  };
};
