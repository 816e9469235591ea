import { yieldToEventLoop } from "../runtime.ts";
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

/** Milliseconds until a connection is accepted again where descriptors or memory have run out. */
const PAUSE = 100;

/** Errors of accept(2) that only time can cure. Any other concerns one connection, which has left the queue with it. */
const EXHAUSTED = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/** `Deno.listen`. */
export const listenDeno: Listen = ({ host, port, shared }, accept) => {
  const listener = Deno.listen({ hostname: host, port, reusePort: shared });
  let open = true;
  (async () => {
    while (open) {
      try {
        accept(new DenoWire(await listener.accept()));
      } catch (error) {
        if (!open) return;
        // A client that has already reset is `NotConnected`: of those there can be thousands in a row.
        const isExhausted = EXHAUSTED.has((error as { code?: string }).code ?? "");
        await (isExhausted ? new Promise((resolve) => setTimeout(resolve, PAUSE)) : yieldToEventLoop());
      }
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
