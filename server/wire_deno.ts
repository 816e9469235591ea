import type { Listen, Wire } from "./wire.ts";

class DenoWire implements Wire {
  constructor(readonly socket: Deno.TcpConn) {
    try {
      socket.setNoDelay();
    } catch {
      // the client has left already
    }
  }

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
export const listenDeno: Listen = ({ host, port, shared }, accept) => {
  const listener = Deno.listen({ hostname: host, port, reusePort: shared });
  let open = true;
  (async () => {
    while (open) {
      const conn = await listener.accept().catch(() => undefined);
      if (conn) accept(new DenoWire(conn));
      else if (open) await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  })();
  return {
    port: listener.addr.port,
    close() {
      if (!open) return;
      open = false;
      listener.close();
    },
  };
};
