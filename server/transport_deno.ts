import { isExhausted } from "../sockets/exhausted.ts";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadLibc } from "../ffi/load.ts";
import { sleep, yieldToEventLoop } from "../runtime.ts";
import type { Descriptor } from "../sockets/adapter.ts";
import { adapterOf } from "../sockets/mod.ts";
import type { Listen, Place, Transport } from "./transport.ts";

class DenoTransport implements Transport {
  gone?: () => void;
  /** The socket's descriptor, which only this object closes; undefined until first use. */
  #descriptor: Descriptor | string | undefined;
  #closed = false;

  constructor(readonly socket: Deno.Conn) {
    if (!isTcp(socket)) return;
    try {
      socket.setNoDelay();
    } catch {
      // the client has left already
    }
  }

  get client(): string | undefined {
    const address = this.socket.remoteAddr;
    return "hostname" in address ? address.hostname : undefined;
  }

  async read(into: Uint8Array): Promise<number> {
    try {
      return await this.socket.read(into) ?? 0;
    } catch {
      if (!this.#closed) this.gone?.();
      return 0; // reset by the client, or closed here
    }
  }

  send(bytes: Uint8Array): number {
    const libc = loadLibc();
    if (this.#closed || typeof libc === "string") return 0;
    const descriptor = this.#descriptor ??= this.#open(libc);
    return typeof descriptor === "string" ? 0 : Math.max(0, libc.send(descriptor.fd, bytes, false));
  }

  #open(libc: Libc): Descriptor | string {
    try {
      return adapterOf(this.socket).open(libc);
    } catch {
      return "it is closed already";
    }
  }

  keepAlive(on: boolean): void {
    if (on) this.socket.ref();
    else this.socket.unref();
  }

  finish(): void {
    this.socket.closeWrite().catch(() => {/* the connection has already ended */});
  }

  close(): void {
    this.#closed = true;
    try {
      this.socket.close();
    } catch {
      // it is closed already
    }
  }
}

/** Deno has `setNoDelay` for TCP alone, not for TLS. */
function isTcp(socket: Deno.Conn): socket is Deno.TcpConn {
  return "setNoDelay" in socket;
}

/** Milliseconds until we accept again after descriptors or memory have run out. */
const PAUSE = 100;

/** Failures in a row after which we yield: there can be thousands of failures that concern single connections. */
const BURST = 32;

function listenAt(place: Place): Deno.Listener {
  if ("path" in place) return Deno.listen({ transport: "unix", path: place.path });
  const { host, port, shared, tls } = place;
  const options = { hostname: host, port, reusePort: shared };
  return tls ? Deno.listenTls({ ...options, ...tls }) : Deno.listen(options);
}

/** `Deno.listen` and `Deno.listenTls`. */
export const listenDeno: Listen = (place, accept, failed) => {
  const listener = listenAt(place);
  const { addr } = listener;
  let open = true;
  (async () => {
    for (let failures = 0; open;) {
      let conn: Deno.Conn;
      try {
        conn = await listener.accept();
      } catch (error) {
        if (!open) return;
        const closed = failed?.(error) ?? false;
        if (error instanceof Deno.errors.BadResource) return; // the listener is closed
        failures++;
        if (closed || failures % BURST === 0) await yieldToEventLoop();
        else if (isExhausted(error)) await sleep(PAUSE);
        continue;
      }
      failures = 0;
      // Deno closes a connection when its pending read has ended, in the next round of the event loop.
      if (accept(new DenoTransport(conn))) await yieldToEventLoop();
    }
  })();
  return {
    port: "port" in addr ? addr.port : 0,
    host: "hostname" in addr ? addr.hostname : "",
    keepAlive: (on) => on ? listener.ref() : listener.unref(),
    close() {
      if (!open) return;
      open = false;
      listener.close();
    },
  };
};
