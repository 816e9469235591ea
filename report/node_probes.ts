import { createServer as createHttpServer, get, type ServerResponse } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { adapterOf } from "../sockets/mod.ts";
import { collect, type Connection, NotTriedError, type Probe, socketProbe } from "./probe.ts";
import { withUnixPath } from "./unix_path.ts";

async function net(place: { port: number; host: string } | { path: string }): Promise<Connection> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(place, resolve);
  });
  const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
  const peer = "path" in place
    ? connect(place.path)
    : connect((server.address() as AddressInfo).port, place.host);
  const socket = await accepted;
  return {
    socket,
    finish: () => socket.end(),
    received: collect(peer),
    close() {
      socket.destroy();
      peer.destroy();
      server.close();
    },
  };
}

/** The socket of a response whose head has been sent. */
async function http(length: number): Promise<Connection> {
  const server = createHttpServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: 0, host: "127.0.0.1" }, resolve);
  });
  const answered = new Promise<ServerResponse>((resolve) =>
    server.once("request", (_, response) => resolve(response))
  );
  const { port } = server.address() as AddressInfo;
  const received = new Promise<Uint8Array>((resolve, reject) => {
    get({ host: "127.0.0.1", port, agent: false }, (message) => collect(message).then(resolve, reject))
      .once("error", reject);
  });
  const response = await answered;
  try {
    adapterOf(response.socket!);
  } catch (error) { // on Bun before 1.4
    response.destroy();
    server.close();
    received.catch(() => {});
    throw new NotTriedError((error as Error).message);
  }
  response.writeHead(200, { "Content-Length": length });
  response.flushHeaders();
  return {
    socket: response.socket!,
    finish: () => response.end(),
    received,
    close() {
      response.destroy();
      server.close();
    },
  };
}

const LOOPBACK = { port: 0, host: "127.0.0.1" };

/** node:net's and node:http's sockets, which all runtimes have. */
export const nodeProbes: readonly Probe[] = [
  socketProbe("node:net, TCP", () => net(LOOPBACK)),
  socketProbe("node:net, unix socket", () => withUnixPath((path) => net({ path }))),
  socketProbe("node:http", http),
];
