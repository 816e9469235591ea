/** The descriptor of a connection is found by its two addresses, and no other one is. */
import { assert, assertEquals } from "@std/assert";
import * as net from "node:net";
import { findConnection, parseConnection } from "../../ffi/find.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { sendfile, whyNotSendfile } from "../../mod.ts";
import { assertBytes, DATA, testFile, until } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import type { Pair } from "../support/pair.ts";
import { kinds } from "../support/pairs.ts";
import { nodeConnected } from "../support/pairs_node.ts";

test("connections are found by both addresses and both ports", async () => {
  const libc = loadLibc() as Libc;
  const servers = await Promise.all([0, 0].map(async () => {
    const accepted: net.Socket[] = [];
    const server = net.createServer((socket) => accepted.push(socket));
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return { server, accepted, port: (server.address() as net.AddressInfo).port };
  }));
  const connect = (port: number, localAddress: string, localPort?: number) =>
    new Promise<net.Socket>((resolve, reject) => {
      const socket = net.connect({ port, host: "127.0.0.1", localAddress, localPort });
      socket.once("connect", () => resolve(socket)).once("error", reject);
    });
  const [{ port: one }, { port: other }] = servers;
  const first = await connect(one, "127.0.0.1");
  const { localPort } = first;
  const clients = [first, await connect(one, "127.0.0.2", localPort), await connect(one, "127.0.0.1")];
  clients.push(await connect(other, "127.0.0.1", localPort), await connect(other, "127.0.0.2", localPort));
  await until("all are accepted", () => servers[0].accepted.length + servers[1].accepted.length === 5);
  try {
    const sockets = [...clients, ...servers.flatMap(({ accepted }) => accepted)];
    const found = sockets.map((socket) => {
      const local = { hostname: socket.localAddress!, port: socket.localPort! };
      const remote = { hostname: socket.remoteAddress!, port: socket.remotePort! };
      return findConnection(libc, parseConnection(libc, local, remote)!);
    });
    assert(found.every((fd) => typeof fd === "number"), String(found));
    assertEquals(new Set(found).size, sockets.length);
  } finally {
    for (const socket of clients) socket.destroy();
    for (const { server } of servers) server.close();
  }
});

test("a client that connects from the same process is told apart from the server's end", async () => {
  using file = testFile(DATA);
  for (const kind of [kinds[1], nodeConnected]) {
    const pairs = await Promise.all(Array.from({ length: 20 }, () => kind.open()));
    try {
      await onlyBy("sendfile", () =>
        Promise.all(pairs.map(async (pair: Pair, i) => {
          const all = pair.peer.all();
          assertEquals(await sendfile(pair.socket, file.path, { offset: i }), DATA.length - i);
          pair.end();
          assertBytes(await all, DATA.subarray(i));
        })));
    } finally {
      for (const pair of pairs) pair.close();
    }
  }
});

if (!isBun) {
  test("Deno.connect: the client's end is found although the server's end is in the same process", async () => {
    const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    const { port } = listener.addr as Deno.NetAddr;
    const [conn, accepted] = await Promise.all([
      Deno.connect({ hostname: "127.0.0.1", port }),
      listener.accept(),
    ]);
    using file = testFile(DATA.subarray(0, 1000));
    assertEquals(whyNotSendfile(conn), undefined);
    assertEquals(await onlyBy("sendfile", () => sendfile(conn, file.path)), 1000);
    const buffer = new Uint8Array(2000);
    const length = await accepted.read(buffer);
    assertBytes(buffer.subarray(0, length!), DATA.subarray(0, 1000));
    for (const closing of [conn, accepted, listener]) closing.close();
  });
}
