/** node:net sockets: writes before and behind a transfer, connecting, end() and destroy(), the idle timer. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as net from "node:net";
import { ConnectionClosedError, sendfile } from "../../mod.ts";
import { assertBytes, bytes, concat, DATA, testFile } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import { nodeAccepted, nodeConnected } from "../support/pairs_node.ts";

test("node:net: several writes that wait go before a transfer, and others behind it", async () => {
  using file = testFile(DATA);
  const parts = [4_000_000, 10, 300_000, 20].map((length, i) => bytes(length, 40 + i));
  for (const zeroCopy of [true, false]) {
    for (const kind of [nodeAccepted, nodeConnected]) {
      const pair = await kind.open();
      const socket = pair.socket as net.Socket;
      try {
        const [first, second, third, last] = parts;
        for (const part of [first, second, third]) socket.write(part); // the peer does not read yet
        const sending = sendfile(socket, file.path, { zeroCopy });
        socket.write(last.subarray(0, 10));
        socket.end(last.subarray(10));
        assertBytes(await pair.peer.all(), concat(first, second, third, DATA, last));
        assertEquals(await sending, DATA.length);
        for (const name of ["_write", "_writev"]) {
          assert(!Object.hasOwn(socket, name), `${name} is still ours`);
        }
      } finally {
        pair.close();
      }
    }
  }
});

test("node:net: end() during a transfer comes after it", async () => {
  using file = testFile(DATA);
  for (const zeroCopy of [true, false]) {
    const pair = await nodeAccepted.open({ small: true });
    try {
      const sent = await onlyBy(zeroCopy ? "sendfile" : "copy", async () => {
        const sending = sendfile(pair.socket, file.file, { zeroCopy });
        (pair.socket as net.Socket).end("the end");
        assertBytes(await pair.peer.all(), concat(DATA, new TextEncoder().encode("the end")));
        return await sending;
      });
      assertEquals(sent, DATA.length);
    } finally {
      pair.close();
    }
  }
});

test("node:net: a socket that is destroyed before the transfer's turn sends nothing of it", async () => {
  using file = testFile(DATA);
  const pair = await nodeAccepted.open({ small: true });
  const socket = pair.socket as net.Socket;
  socket.write(bytes(4_000_000)); // the peer does not read, so this stays in front
  const sending = sendfile(socket, file.file);
  socket.destroy();
  const error = await assertRejects(() => sending, ConnectionClosedError);
  assertEquals(error.sent, 0);
  pair.close();
});

test("node:net: a socket that is still connecting sends once it is connected", async () => {
  using file = testFile(DATA);
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  const server = net.createServer((socket) => {
    const chunks: Uint8Array[] = [];
    socket.on("data", (chunk: Uint8Array) => chunks.push(new Uint8Array(chunk)));
    socket.on("end", () => resolve(concat(...chunks)));
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const socket = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  try {
    const starts: unknown[] = [];
    assertEquals(await sendfile(socket, file.file, { onStart: (start) => starts.push(start) }), DATA.length);
    assertEquals(starts, [{ via: "sendfile" }]);
    socket.end();
    assertBytes(await promise, DATA);
  } finally {
    socket.destroy();
    server.close();
  }
});

test("node:net: a transfer restarts the idle timer of the socket", async () => {
  using file = testFile(bytes(100_000));
  const pair = await nodeAccepted.open();
  try {
    const socket = pair.socket as net.Socket;
    const all = pair.peer.all();
    let idle = 0;
    socket.setTimeout(250, () => idle++);
    // Ten pieces a second: it lasts a second, four times the limit.
    const sent = await sendfile(socket, file.file, { rateLimit: 100_000 });
    assertEquals([sent, idle], [100_000, 0]);
    socket.setTimeout(0);
    pair.end();
    assertBytes(await all, bytes(100_000));
  } finally {
    pair.close();
  }
});
