import { serverOf } from "./serve_lifecycle.ts";
import type { ServeAddr, ServeHandler, ServeHandlerInfo, Server, ServeSettings } from "./serve_types.ts";

/** The members of Bun that we use. */
interface BunServer {
  readonly hostname: string;
  readonly port: number;
  stop(closeConnections?: boolean): Promise<void>;
  ref(): void;
  unref(): void;
  requestIP(request: Request): { readonly address: string; readonly port: number } | null;
}

interface BunGlobal {
  serve(options: {
    hostname: string;
    port: number;
    reusePort: boolean;
    idleTimeout: number;
    tls?: { readonly cert: string; readonly key: string };
    fetch(request: Request, server: BunServer): Response | Promise<Response>;
    error(error: unknown): Response | Promise<Response>;
  }): BunServer;
}

/** `serve` on Bun, whose own server sends files by sendfile(2). */
export function serveBun(handler: ServeHandler, settings: ServeSettings): Server {
  const { hostname, port, reusePort, tls, onError } = settings;
  const { Bun } = globalThis as unknown as { Bun: BunGlobal };
  const server = Bun.serve({
    hostname,
    port,
    reusePort,
    idleTimeout: 0, // none, as in Deno.serve: a handler may take any time
    ...(tls ? { tls } : {}),
    fetch: (request, server) => handler(request, infoOf(request, server)),
    error: onError,
  });
  const addr: ServeAddr = { transport: "tcp", hostname: addressOf(server.hostname), port: server.port };
  return serverOf(addr, {
    close: () => server.stop(true),
    stop: () => server.stop(),
    keepAlive: (on) => on ? server.ref() : server.unref(),
  }, settings);
}

/** The IP address for a hostname: Bun returns the name as it was given. */
function addressOf(hostname: string): string {
  return hostname === "localhost" ? "127.0.0.1" : hostname;
}

function infoOf(request: Request, server: BunServer): ServeHandlerInfo {
  return {
    get remoteAddr(): ServeAddr {
      const { address, port } = server.requestIP(request) ?? { address: "", port: 0 };
      return { transport: "tcp", hostname: address, port };
    },
    completed: Promise.resolve(),
  };
}
