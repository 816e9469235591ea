/** The kinds of socket that Bun has. */
import { join } from "@std/path";
import * as fs from "node:fs";
import * as net from "node:net";
import * as tls from "node:tls";
import { folder } from "./data.ts";
import { cert, connected, key, type Kind, listening, makePeer, once, type Pair, type Peer } from "./pair.ts";

/** The part of Bun in use. */
interface BunSocket {
  readonly fd: number;
  readonly readyState: number;
  write(bytes: Uint8Array): number;
  end(): void;
  terminate(): void;
  shutdown(): void;
  reload(handlers: unknown): void;
}
interface BunGlobal {
  listen(options: unknown): { port: number; stop(all: boolean): void };
  connect(options: unknown): Promise<BunSocket>;
}
const bun = (globalThis as unknown as { Bun: BunGlobal }).Bun;

function bunPair(socket: BunSocket, drained: () => Promise<void>, peer: Peer, closeMore: () => void): Pair {
  return {
    socket,
    peer,
    async write(bytes) {
      for (let at = 0; at < bytes.length;) {
        const written = socket.write(bytes.subarray(at));
        if (written < 0) throw new Error("the socket is closed");
        at += written;
        if (at < bytes.length) await drained();
      }
    },
    end: () => socket.end(),
    close: once(() => {
      socket.terminate();
      peer.socket.destroy();
      closeMore();
    }),
  };
}

function bunHandlers() {
  let drain = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<BunSocket>();
  const shaken = Promise.withResolvers<BunSocket>();
  const handlers = {
    data() {},
    error() {},
    open: (socket: BunSocket) => opened.resolve(socket),
    handshake: (socket: BunSocket) => shaken.resolve(socket),
    drain() {
      drain.resolve();
      drain = Promise.withResolvers();
    },
  };
  return { handlers, opened: opened.promise, shaken: shaken.promise, drained: () => drain.promise };
}

async function openBun(
  { listen, connect, secure }: { listen: object; connect: (port: number) => net.Socket; secure?: boolean },
  small?: boolean,
): Promise<Pair> {
  const { handlers, opened, shaken, drained } = bunHandlers();
  const listener = bun.listen({ ...listen, socket: handlers });
  const client = await connected(connect(listener.port));
  const socket = await (secure ? shaken : opened);
  return bunPair(socket, drained, makePeer(client, small), () => listener.stop(true));
}

export const bunAccepted: Kind = {
  name: "Bun.listen",
  native: true,
  open: ({ small } = {}) =>
    openBun({
      listen: { port: 0, hostname: "127.0.0.1" },
      connect: (port) => net.connect(port, "127.0.0.1"),
    }, small),
};

export const bunConnected: Kind = {
  name: "Bun.connect",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const { handlers, drained } = bunHandlers();
    const port = await listening(server);
    const socket = await bun.connect({ hostname: "127.0.0.1", port, socket: handlers });
    return bunPair(socket, drained, makePeer(await promise, small), () => server.close());
  },
};

export const bunTls: Kind = {
  name: "Bun.listen TLS",
  native: false,
  open: () =>
    openBun({
      listen: { port: 0, hostname: "127.0.0.1", tls: { cert, key } },
      connect: (port) => tls.connect({ port, host: "127.0.0.1", ca: cert }),
      secure: true,
    }),
};

export const bunUnix: Kind = {
  name: "Bun.listen unix",
  native: true,
  async open() {
    const dir = folder();
    const unix = join(dir, "socket");
    const pair = await openBun({ listen: { unix }, connect: () => net.connect(unix) });
    return {
      ...pair,
      close: once(() => {
        pair.close();
        fs.rmSync(dir, { recursive: true });
      }),
    };
  },
};
