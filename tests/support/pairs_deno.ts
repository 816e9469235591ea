/** The kinds of socket that Deno has. */
import { join } from "@std/path";
import * as fs from "node:fs";
import * as net from "node:net";
import * as tls from "node:tls";
import { folder } from "./data.ts";
import { cert, connected, key, type Kind, listening, makePeer, once, type Pair, type Peer } from "./pair.ts";

export function listenDeno(options: { tls?: boolean; unix?: string } = {}): Deno.Listener {
  if (options.unix) return Deno.listen({ transport: "unix", path: options.unix }) as unknown as Deno.Listener;
  if (options.tls) return Deno.listenTls({ port: 0, hostname: "127.0.0.1", cert, key });
  return Deno.listen({ port: 0, hostname: "127.0.0.1" });
}

function denoPair(conn: Deno.Conn, peer: Peer, closeMore: () => void): Pair {
  const close = once(() => conn.close());
  return {
    socket: conn,
    peer,
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    },
    end: close,
    close: once(() => {
      close();
      peer.socket.destroy();
      closeMore();
    }),
  };
}

export const denoAccepted: Kind = {
  name: "Deno.listen",
  native: true,
  async open({ small } = {}) {
    const listener = listenDeno();
    const { port } = listener.addr as Deno.NetAddr;
    const [conn, client] = await Promise.all([listener.accept(), connected(net.connect(port, "127.0.0.1"))]);
    return denoPair(conn, makePeer(client, small), () => listener.close());
  },
};

export const denoConnected: Kind = {
  name: "Deno.connect",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: await listening(server) });
    return denoPair(conn, makePeer(await promise, small), () => server.close());
  },
};

export const denoTls: Kind = {
  name: "Deno.listenTls",
  native: false,
  async open() {
    const listener = listenDeno({ tls: true });
    const { port } = listener.addr as Deno.NetAddr;
    const client = tls.connect({ port, host: "127.0.0.1", ca: cert });
    const conn = await listener.accept();
    await Promise.all([(conn as Deno.TlsConn).handshake(), connected(client)]);
    return denoPair(conn, makePeer(client), () => listener.close());
  },
};

export const denoUnix: Kind = {
  name: "Deno.listen unix",
  native: false,
  async open() {
    const dir = folder();
    const path = join(dir, "socket");
    const listener = listenDeno({ unix: path });
    const [conn, client] = await Promise.all([listener.accept(), connected(net.connect(path))]);
    return denoPair(conn, makePeer(client), () => {
      listener.close();
      fs.rmSync(dir, { recursive: true });
    });
  },
};
