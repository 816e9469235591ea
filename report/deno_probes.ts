import { collect, type Connection, type Probe, socketProbe } from "./probe.ts";
import { withUnixPath } from "./unix_path.ts";

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

async function tcp(side: "accepted" | "connected"): Promise<Connection> {
  const listener = Deno.listen(LOOPBACK);
  try {
    const [here, there] = await Promise.all([
      listener.accept(),
      Deno.connect({ ...LOOPBACK, port: listener.addr.port }),
    ]);
    return side === "accepted" ? connectionOf(here, there) : connectionOf(there, here);
  } finally {
    listener.close();
  }
}

function unix(): Promise<Connection> {
  return withUnixPath(async (path) => {
    const listener = Deno.listen({ transport: "unix", path });
    try {
      const [here, there] = await Promise.all([
        listener.accept(),
        Deno.connect({ transport: "unix", path }),
      ]);
      return connectionOf(here, there);
    } finally {
      listener.close();
    }
  });
}

function connectionOf(socket: Deno.Conn, peer: Deno.Conn): Connection {
  return {
    socket,
    finish: () => socket.closeWrite(),
    received: collect(chunksOf(peer)),
    close() {
      socket.close();
      peer.close();
    },
  };
}

async function* chunksOf(conn: Deno.Conn): AsyncGenerator<Uint8Array> {
  for (;;) {
    const buffer = new Uint8Array(256 * 1024);
    const bytes = await conn.read(buffer);
    if (bytes === null) return;
    yield buffer.subarray(0, bytes);
  }
}

/** Deno's own sockets. */
export const denoProbes: readonly Probe[] = [
  socketProbe("Deno.listen, TCP", () => tcp("accepted")),
  socketProbe("Deno.connect, TCP", () => tcp("connected")),
  socketProbe("Deno.listen, unix socket", unix),
];
