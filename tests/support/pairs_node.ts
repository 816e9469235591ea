/** The kinds of socket that node:net, node:tls and node:http have. */
import * as http from "node:http";
import * as net from "node:net";
import * as tls from "node:tls";
import { findConnection } from "../../ffi/find.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import {
  cert,
  connected,
  connectionOf,
  key,
  type Kind,
  listening,
  makePeer,
  once,
  type Pair,
  type Peer,
} from "./pair.ts";

/** The pair around a node socket under test. */
function nodePair(socket: net.Socket, peer: Peer, closeMore: () => void): Pair {
  socket.on("error", () => {/* a test looks at what sendfile rejects with */});
  return {
    socket,
    peer,
    write: (bytes) => new Promise((resolve) => socket.write(bytes, () => resolve())),
    end: () => void socket.end(),
    close: once(() => {
      socket.destroy();
      peer.socket.destroy();
      closeMore();
    }),
  };
}

export const nodeAccepted: Kind = {
  name: "node:net accepted",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const client = await connected(net.connect(await listening(server), "127.0.0.1"));
    return nodePair(await promise, makePeer(client, small), () => server.close());
  },
};

export const nodeConnected: Kind = {
  name: "node:net connected",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = net.createServer(resolve);
    const client = await connected(net.connect(await listening(server), "127.0.0.1"));
    return nodePair(client, makePeer(await promise, small), () => server.close());
  },
};

export const nodeTls: Kind = {
  name: "node:tls",
  native: false,
  async open() {
    const { promise, resolve } = Promise.withResolvers<net.Socket>();
    const server = tls.createServer({ cert, key }, resolve);
    const port = await listening(server);
    const client = await connected(tls.connect({ port, host: "127.0.0.1", ca: cert }));
    return nodePair(await promise, makePeer(client), () => server.close());
  },
};

/** The socket of a node:http request that is under way. The peer gets a head first, without a length. */
export const nodeHttp: Kind = {
  name: "node:http",
  native: true,
  async open({ small } = {}) {
    const { promise, resolve } = Promise.withResolvers<http.ServerResponse>();
    const server = http.createServer((_request, response) => {
      response.writeHead(200, { "Content-Length": "0", "Connection": "close" });
      response.flushHeaders();
      resolve(response);
    });
    const client = await connected(net.connect(await listening(server), "127.0.0.1"));
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    const response = await promise;
    const peer = makePeer(client, small); // now that the server's end is accepted
    const socket = response.socket!;
    return { ...nodePair(socket, peer, () => server.close()), end: () => void response.end() };
  },
};

/** The number of a node:net socket's descriptor. */
export const descriptor: Kind = {
  name: "descriptor",
  native: true,
  async open(options) {
    const pair = await nodeAccepted.open(options);
    const libc = loadLibc() as Libc;
    return { ...pair, socket: findConnection(libc, connectionOf(libc, pair.socket as net.Socket))! };
  },
};
