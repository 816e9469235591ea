/** The sockets of node:http and node:http2. */
import { assert, assertEquals } from "@std/assert";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import { ConnectionClosedError, sendfile, sendfileStats } from "../../mod.ts";
import { assertBytes, bytes, concat, DATA, descriptors, testFile, until } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { bodyOf } from "../support/pairs.ts";
import { nodeHttp } from "../support/pairs_node.ts";

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
        setTimeout(() => response.resume(), 100); // long enough for a body that does not wait to get in front of the head
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
