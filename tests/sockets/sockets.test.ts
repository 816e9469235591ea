/** Every kind of socket, both ways. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import {
  canUseSendfile,
  ConnectionClosedError,
  sendfile,
  SendfileNotAvailableError,
  sendfileStats,
  whyNotSendfile,
} from "../../mod.ts";
import {
  assertBytes,
  bytes,
  concat,
  DATA,
  descriptors,
  openBelow,
  testFile,
  until,
} from "../support/data.ts";
import { findConnection, parseConnection } from "../../ffi/find.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { isBun, test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import {
  bodyOf,
  descriptor,
  descriptorOf,
  type Kind,
  kinds,
  nodeAccepted,
  nodeConnected,
  nodeHttp,
  type Pair,
  raw,
} from "../support/pairs.ts";

const ways = [true, false];

for (const kind of kinds) {
  for (const zeroCopy of [true, false]) {
    const expected = kind.native && zeroCopy ? "sendfile" : "copy";
    test(`${kind.name}: a file with header and trailer goes by ${expected}${zeroCopy ? "" : " when asked to"}`, async () => {
      using file = testFile(DATA);
      const pair = await kind.open({ small: kind.native });
      try {
        if (zeroCopy) assertEquals(canUseSendfile(pair.socket), kind.native, whyNotSendfile(pair.socket));
        const before = sendfileStats();
        const all = pair.peer.all();
        const [header, trailer] = [bytes(100, 2), bytes(300_000, 3)];
        const starts: unknown[] = [];
        const sent = await sendfile(pair.socket, file.file, {
          header,
          trailer,
          zeroCopy,
          onStart: (start) => starts.push(start.via),
        });
        assertEquals(sent, DATA.length);
        pair.end();
        assertBytes(bodyOf(kind, await all), concat(header, DATA, trailer));
        const after = sendfileStats();
        assertEquals(starts, [expected]);
        assertEquals(after[expected].bytes - before[expected].bytes, DATA.length);
        assertEquals(after[expected].transfers - before[expected].transfers, 1);
      } finally {
        pair.close();
      }
    });
  }
}

test("a descriptor's number without FFI: Bun copies, Deno says that it cannot", async () => {
  using file = testFile(DATA);
  const pair = await descriptor.open();
  replaceLibc("not here, the test says");
  try {
    const sending = sendfile(pair.socket, file.path);
    if (isBun) {
      const all = pair.peer.all();
      assertEquals(await sending, DATA.length);
      pair.end();
      assertBytes(await all, DATA);
    } else {
      await assertRejects(() => sending, SendfileNotAvailableError, "not here");
      pair.end();
      assertEquals((await pair.peer.all()).length, 0);
    }
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
});

test("two transfers on one socket run one after the other", async () => {
  const [first, second] = [bytes(700_000, 11), bytes(700_001, 12)];
  for (const kind of kinds) {
    using one = testFile(first);
    using two = testFile(second);
    const pair = await kind.open({ small: kind.native });
    try {
      const all = pair.peer.all();
      const sent = await Promise.all([
        sendfile(pair.socket, one.file),
        sendfile(pair.socket, two.file),
        sendfile(pair.socket, one.file, { offset: 699_990 }),
      ]);
      assertEquals(sent, [first.length, second.length, 10]);
      pair.end();
      assertBytes(bodyOf(kind, await all), concat(first, second, first.subarray(699_990)));
    } finally {
      pair.close();
    }
  }
});

test("a transfer that fails lets the next one on its socket begin", async () => {
  using file = testFile(DATA);
  for (const kind of kinds.filter((kind) => kind !== nodeHttp)) {
    const pair = await kind.open();
    try {
      const all = pair.peer.all();
      const atOnce = sendfile(pair.socket, "/nonexistent");
      const later = sendfile(pair.socket, file.path, { rateLimit: 100_000, onProgress: failAt(20_000) });
      const next = sendfile(pair.socket, file.path);
      await assertRejects(() => atOnce, Error, "ENOENT");
      await assertRejects(() => later, Error, "after 20000");
      assertEquals(await next, DATA.length);
      pair.end();
      assertBytes(await all, concat(DATA.subarray(0, 20_000), DATA));
    } finally {
      pair.close();
    }
  }
});

function failAt(bytes: number): (sent: number) => void {
  return (sent) => {
    if (sent >= bytes) throw new Error(`after ${sent}`);
  };
}

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

test("the runtime closes its socket in the middle: the transfer ends, and leaves no descriptor", async () => {
  const content = bytes(16 * 1024 * 1024);
  for (const kind of kinds) {
    if (kind === descriptor) continue; // its owner is the node:net socket
    using file = testFile(content);
    const own = openBelow(file.path).length;
    const pair = await kind.open({ small: kind.native });
    try {
      let sent = 0;
      const sending = sendfile(pair.socket, file.file, { onProgress: (bytes) => sent = bytes });
      await until(`${kind.name}: something was sent`, () => sent > 0);
      if (kind.name.startsWith("node")) (pair.socket as net.Socket).destroy();
      else pair.close();
      const error = await assertRejects(() => sending, ConnectionClosedError);
      assertEquals(error.sent, sent, kind.name);
    } finally {
      pair.close();
    }
    await until(
      `${kind.name}: no descriptor leads to the file but the test's own`,
      () => openBelow(file.path).length === own,
    );
  }
});

test("the runtime closes its socket while the peer reads nothing: the transfer ends all the same", async () => {
  using file = testFile(bytes(16 * 1024 * 1024));
  const owners = kinds.filter((kind) => kind !== descriptor);
  await Promise.all(
    owners.flatMap((kind) => ways.map((zeroCopy) => closedInTheMiddle(kind, zeroCopy, file.path))),
  );
});

async function closedInTheMiddle(kind: Kind, zeroCopy: boolean, path: string): Promise<void> {
  const pair = await kind.open({ small: kind.native });
  try {
    const outcome = sendfile(pair.socket, path, { zeroCopy }).catch((error) => error);
    await pair.peer.atLeast(1000);
    pair.peer.socket.pause();
    closeHere(pair);
    const error = await Promise.race([outcome, after(10_000)]);
    assert(error instanceof ConnectionClosedError, `${kind.name}, ${zeroCopy}: ${error}`);
  } finally {
    pair.close();
  }
}

/** Closes the socket under test as its owner would, and leaves the peer as it is. */
function closeHere(pair: Pair): void {
  const { destroy, terminate } = pair.socket as unknown as Record<string, (() => void) | undefined>;
  const close = destroy ?? terminate;
  if (close) close.call(pair.socket);
  else pair.end();
}

function after(ms: number): Promise<string> {
  return new Promise((resolve) => setTimeout(() => resolve(`nothing after ${ms} ms`), ms));
}

test("a Bun socket that is paused when its peer resets ends a transfer", async () => {
  using file = testFile(bytes(16 * 1024 * 1024));
  for (const zeroCopy of ways) {
    const pair = await raw.open({ small: true });
    try {
      (pair.socket as unknown as { pause(): void }).pause();
      const outcome = sendfile(pair.socket, file.path, { zeroCopy }).catch((error) => error);
      await pair.peer.atLeast(1000);
      pair.peer.socket.resetAndDestroy();
      const error = await Promise.race([outcome, after(10_000)]);
      assert(error instanceof ConnectionClosedError, String(error));
    } finally {
      pair.close();
    }
  }
}, { only: "bun" });

test("a descriptor that was closed and handed out again gets no byte of another's file", async () => {
  using file = testFile(bytes(16 * 1024 * 1024));
  const F_DUPFD = 0;
  const libc = loadLibc() as Libc;
  let reused = 0;
  for (let round = 0; round < 20; round++) {
    const first = await raw.open({ small: true });
    const number = descriptorOf(first);
    const strangers = await Promise.all([raw.open(), raw.open(), raw.open()]);
    const stop = new AbortController();
    let sent = 0;
    const vias: unknown[] = [];
    const sending = sendfile(first.socket, file.file, {
      signal: stop.signal,
      onStart: ({ via }) => vias.push(via),
      onProgress: (n) => sent = n,
    });
    await until("the first transfer is under way", () => sent > 0);
    first.close();
    // A stranger's connection takes the number, which is free now.
    const taken = libc.system.fcntl(libc.library, descriptorOf(strangers[0]), F_DUPFD, number);
    if (taken === number) reused++; // or a thread of the runtime's was faster
    // The old object must not lead to the new connection either.
    const again = sendfile(first.socket, file.file).catch((error) => error);
    stop.abort();
    await assertRejects(() => sending);
    assertEquals(vias, ["sendfile"]);
    assert(await again instanceof ConnectionClosedError);
    libc.close(taken);
    for (const stranger of strangers) {
      await stranger.write(new TextEncoder().encode("hello"));
      stranger.end();
      assertEquals(new TextDecoder().decode(await stranger.peer.all()), "hello");
      stranger.close();
    }
  }
  assert(reused > 0, "no number was taken");
});

for (const underWay of [false, true]) {
  const when = underWay ? ", in the middle of a transfer" : "";
  test(`a closed socket never leads to the connection that has its descriptor's number now${when}`, async () => {
    using file = testFile(DATA);
    const strangers = await Strangers.listen();
    for (const kind of kinds.filter((kind) => kind.native && kind !== descriptor && kind !== nodeHttp)) {
      const pair = await kind.open();
      try {
        let sent = 0;
        const sending = underWay
          ? sendfile(pair.socket, file.path, { rateLimit: 10_000, onProgress: (bytes) => sent = bytes })
          : sendfile(pair.socket, file.path, { count: 1000, onProgress: (bytes) => sent = bytes });
        const outcome = sending.catch((error) => error);
        await until("something was sent", () => sent > 0);
        await strangers.take(() => closeHere(pair));
        const error = await (underWay ? outcome : assertRejects(() => sendfile(pair.socket, file.path)));
        assert(error instanceof ConnectionClosedError, `${kind.name}: ${error}`);
        await strangers.assertUntouched(kind.name);
      } finally {
        pair.close();
        strangers.leave();
      }
    }
    strangers.close();
  });
}

/** Connections that get the numbers of descriptors that others have closed. */
class Strangers {
  readonly #server: net.Server;
  #sockets: net.Socket[] = [];
  #received = 0;

  constructor(server: net.Server) {
    this.#server = server.on("connection", (socket) => this.#meet(socket));
  }

  static async listen(): Promise<Strangers> {
    const server = net.createServer();
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return new Strangers(server);
  }

  #meet(socket: net.Socket): void {
    this.#sockets.push(socket.on("data", (data) => this.#received += data.length));
  }

  /** Connects until all numbers are taken that `close` has made free. */
  async take(close: () => void): Promise<void> {
    const before = descriptors();
    close();
    await until("a descriptor is closed", () => descriptors().length < before.length);
    const left = new Set(descriptors());
    const numbers = before.filter((text) => !left.has(text)).map((text) => `${text.split(" ")[0]} `);
    const { port } = this.#server.address() as net.AddressInfo;
    for (let i = 0; i < 20; i++) {
      await new Promise<void>((done) => this.#meet(net.connect(port, "127.0.0.1", done)));
    }
    await until("all are accepted", () => this.#sockets.length === 40);
    const now = descriptors();
    assert(numbers.every((number) => now.some((text) => text.startsWith(number))), `${numbers}: ${now}`);
  }

  /** That each receives what the other end of its connection sends, and nothing else. */
  async assertUntouched(name: string): Promise<void> {
    await Promise.all(this.#sockets.map((socket) => new Promise((done) => socket.write("!", done))));
    await until("each has its own byte", () => this.#received >= this.#sockets.length);
    assertEquals(this.#received, this.#sockets.length, `${name}: a stranger has received more`);
  }

  leave(): void {
    this.#sockets.forEach((socket) => socket.destroy());
    this.#sockets = [];
    this.#received = 0;
  }

  close(): void {
    this.#server.close();
  }
}

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

test("what a connection has written includes what still waits to be sent", async () => {
  const libc = loadLibc() as Libc;
  const pair = await descriptor.open({ small: true });
  const fd = pair.socket as number;
  try {
    const chunk = bytes(10_000);
    let written = 0;
    for (let sent; (sent = libc.send(fd, chunk, false)) > 0;) written += sent;
    const { written: told, acked } = { ...libc.tcp(fd)! };
    assertEquals(told, written);
    assert(acked < written);
    await pair.peer.atLeast(written);
    await until("all is acknowledged", () => libc.tcp(fd)!.acked === written);
    assertEquals(libc.tcp(fd)!.written, written);
  } finally {
    pair.close();
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

test("node:http: head and body in order over keep-alive, under load", async () => {
  const content = bytes(300_000, 21);
  using file = testFile(content);
  const before = sendfileStats();
  const server = http.createServer(async (request, response) => {
    const offset = Number(request.url!.slice(1));
    response.writeHead(200, { "Content-Length": content.length - offset });
    response.flushHeaders();
    await sendfile(response.socket!, file.path, { offset, count: content.length - offset });
    response.end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  const get = (offset: number) =>
    new Promise<Uint8Array>((resolve, reject) => {
      http.get({ port, host: "127.0.0.1", path: `/${offset}`, agent }, (response) => {
        const chunks: Uint8Array[] = [];
        response.on("data", (chunk: Uint8Array) => chunks.push(new Uint8Array(chunk)));
        response.on("end", () => resolve(concat(...chunks)));
        response.on("error", reject);
      }).on("error", reject);
    });
  try {
    for (let round = 0; round < 10; round++) {
      await Promise.all(Array.from({ length: 32 }, async (_, i) => {
        const offset = round * 1000 + i;
        assertBytes(await get(offset), content.subarray(offset));
      }));
    }
    const after = sendfileStats();
    assertEquals(after.copy.bytes, before.copy.bytes, JSON.stringify(after.reasons));
    assertEquals(after.sendfile.transfers - before.sendfile.transfers, 320);
  } finally {
    agent.destroy();
    server.close();
    server.closeAllConnections();
  }
});

test("node:http: a body waits for a head that the peer does not read", async () => {
  using file = testFile(DATA);
  const head = "x".repeat(8_000_000); // more than the kernel takes at once
  const starts: unknown[] = [];
  let handled: Promise<void> | undefined;
  const handle = async (response: http.ServerResponse) => {
    response.writeHead(200, { "Content-Length": head.length + DATA.length });
    response.write(head);
    await sendfile(response.socket!, file.path, {
      count: DATA.length,
      onStart: (start) => starts.push(start),
    });
    response.end();
  };
  const server = http.createServer((_request, response) => void (handled = handle(response)));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  try {
    const received = await new Promise<Uint8Array>((resolve, reject) => {
      http.get({ port, host: "127.0.0.1", agent: false }, (response) => {
        const chunks: Uint8Array[] = [];
        response.on("data", (chunk: Uint8Array) => chunks.push(new Uint8Array(chunk)));
        response.on("end", () => resolve(concat(...chunks)));
        response.on("error", reject);
        response.pause();
        setTimeout(() => response.resume(), 100); // long enough for a body that does not wait to overtake
      }).on("error", reject);
    });
    assertBytes(received, concat(new TextEncoder().encode(head), DATA));
    await handled; // on Bun the client may have all before the handler learns of it
    // Bun's server does not tell when it has written what it holds.
    const reason = "the server still holds earlier bytes";
    assertEquals(starts, [isBun ? { via: "copy", reason, code: "bytes-pending" } : { via: "sendfile" }]);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("node:http: a client that has shut its direction down and reads late gets all of it", async () => {
  const content = bytes(12_000_000, 22); // more than both ends' buffers take
  using file = testFile(content);
  const before = descriptors();
  const sent: unknown[] = [];
  const server = http.createServer((_request, response) => {
    response.writeHead(200, { "Content-Length": content.length });
    response.flushHeaders();
    // The runtime has destroyed the socket when this comes to its end.
    sendfile(response.socket!, file.path, { onStart: (start) => sent.push(start.via) })
      .then((count) => sent.push(count), (error) => sent.push(error));
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  const client = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  try {
    const chunks: Uint8Array[] = [];
    client.end("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await new Promise<void>((done) =>
      client.once("data", (chunk: Uint8Array) => {
        chunks.push(new Uint8Array(chunk));
        client.pause();
        setTimeout(done, 2500); // two looks at whether the runtime has closed its socket
      })
    );
    client.on("data", (chunk: Uint8Array) => chunks.push(new Uint8Array(chunk)));
    await new Promise((done) => client.once("end", done).once("error", done).resume());
    assertBytes(bodyOf(nodeHttp, concat(...chunks)), content);
    assertEquals(sent, ["sendfile", content.length]);
  } finally {
    client.destroy();
    server.close();
    server.closeAllConnections();
  }
  await until("every descriptor is closed", () => descriptors().length <= before.length);
});

test("node:http: a client that has shut its direction down and leaves ends the transfer", async () => {
  using file = testFile(bytes(12_000_000, 23));
  const { promise: failed, resolve } = Promise.withResolvers<unknown>();
  const server = http.createServer((_request, response) => {
    response.writeHead(200, { "Content-Length": 12_000_000 });
    response.flushHeaders();
    sendfile(response.socket!, file.path).then(resolve, resolve);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  const client = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  try {
    client.end("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await new Promise<void>((done) => client.once("data", () => done()));
    client.destroy();
    const error = await failed;
    assert(error instanceof ConnectionClosedError, String(error));
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("node:http2: the socket of a session is refused, and the session goes on", async () => {
  using file = testFile(DATA);
  let refused: unknown;
  const server = http2.createServer(async (_request, response) => {
    refused = await sendfile(response.socket, file.path).catch((error) => error);
    response.end("still here");
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const session = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
  try {
    const stream = session.request({ ":path": "/" });
    let received = "";
    for await (const chunk of stream) received += chunk;
    assertEquals(received, "still here");
    assert(refused instanceof TypeError, String(refused));
  } finally {
    session.close();
    server.close();
  }
});

test("all kinds of sockets leave no descriptor behind", async () => {
  using file = testFile(DATA);
  for (const kind of kinds) await once(kind, file.path); // what a runtime opens once for all
  const before = descriptors().length;
  for (let round = 0; round < 5; round++) {
    for (const kind of kinds) await once(kind, file.path);
  }
  await until("the descriptors are closed", () => descriptors().length <= before);
});

async function once(kind: Kind, path: string): Promise<void> {
  const pair = await kind.open({ small: kind.native });
  const all = pair.peer.all();
  await sendfile(pair.socket, path);
  pair.end();
  assertBytes(bodyOf(kind, await all), DATA);
  pair.close();
}

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

const TCP_INFO = 11;
const IPPROTO_TCP = 6;
const NOTSENT_BYTES = 144;
const DATA_SEGS_OUT = 156;

/** What TCP has done with what was written: segments with data sent, and bytes held back (struct tcp_info). */
function sentOf(fd: number): { segments: number; heldBack: number } {
  const { call } = (loadLibc() as Libc).library;
  const info = new DataView(new ArrayBuffer(256));
  const length = new Uint32Array([info.byteLength]);
  assertEquals(call.getsockopt(fd, IPPROTO_TCP, TCP_INFO, new Uint8Array(info.buffer), length), 0);
  return { segments: info.getUint32(DATA_SEGS_OUT, true), heldBack: info.getUint32(NOTSENT_BYTES, true) };
}

test("header, file and trailer of a small response leave in one segment, and at once", async () => {
  const content = bytes(4096);
  using file = testFile(content);
  const [header, trailer] = [bytes(150, 2), bytes(50, 3)];
  for (const options of [{ header }, { trailer }, { header, trailer }]) {
    const pair = await descriptor.open();
    const fd = pair.socket as number;
    await sendfile(fd, file.path, options);
    assertEquals(sentOf(fd), { segments: 1, heldBack: 0 });
    const expected = concat(options.header ?? new Uint8Array(), content, options.trailer ?? new Uint8Array());
    assertBytes(await pair.peer.atLeast(expected.length), expected);
    pair.close();
  }
});

test("a header whose file has ended is not held back", async () => {
  using file = testFile(bytes(10));
  const pair = await descriptor.open();
  const fd = pair.socket as number;
  const header = bytes(150, 2);
  assertEquals(await sendfile(fd, file.path, { header, offset: 10, count: 5 }), 0);
  assertEquals(sentOf(fd), { segments: 1, heldBack: 0 });
  assertBytes(await pair.peer.atLeast(150), header);
  pair.close();
});
