import { FetchSite } from "./fetch_site.ts";
import { serverOf } from "./serve_lifecycle.ts";
import { authorityOf, isEverywhere } from "./serve_options.ts";
import type { ServeAddr, ServeHandler, Server, ServeSettings } from "./serve_types.ts";
import { FileServer } from "./server.ts";
import { Tunnels, whyNoTunnels } from "./tunnel.ts";

/** `serve` on Deno. Throws the runtime's error if it cannot listen. */
export function serveDeno(handler: ServeHandler, settings: ServeSettings): Server {
  return settings.tls || whyNoTunnels() !== undefined
    ? serveByRuntime(handler, settings)
    : serveByEngine(handler, settings);
}

function serveByRuntime(handler: ServeHandler, { tls, ...options }: ServeSettings): Server {
  const all = { ...options, ...tls } as Deno.ServeTcpOptions;
  return Deno.serve(all, handler as Deno.ServeHandler<Deno.NetAddr>) as unknown as Server;
}

function serveByEngine(handler: ServeHandler, settings: ServeSettings): Server {
  const { hostname, port, reusePort, onError } = settings;
  const tunnels = new Tunnels(handler, onError);
  let host = "";
  const server = new FileServer(new FetchSite(handler, onError, tunnels, () => host));
  let addr: ServeAddr;
  try {
    const found = server.listen({ host: hostname, port, shared: reusePort });
    addr = { transport: "tcp", hostname: server.host ?? hostname, port: found };
  } catch (error) {
    tunnels.close();
    throw error;
  }
  host = `${isLocal(addr.hostname) ? "localhost" : authorityOf(addr.hostname)}:${addr.port}`;
  return serverOf(addr, {
    close() {
      server.close();
      tunnels.close();
      return server.ended();
    },
    stop: () => Promise.all([server.stop(), tunnels.stop()]),
    keepAlive(on) {
      server.keepAlive(on);
      tunnels.keepAlive(on);
    },
  }, settings);
}

/** Whether Deno.serve uses localhost for this address in the URL of a request without Host. */
function isLocal(hostname: string): boolean {
  return isEverywhere(hostname) || hostname.startsWith("127.") || hostname === "::1";
}
