/** What the engine of `serve` does not answer itself: the runtime's own server has it, on the client's connection. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import * as http2 from "node:http2";
import type { ServeHandler } from "../../serve.ts";
import { bytes, descriptors } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { assertSame, Client } from "../support/http_client.ts";
import { Http2 } from "../support/http2_raw.ts";
import { assertSameUnderBoth, exchange, served, servedByDeno, withServed } from "../support/served_twice.ts";
import { until } from "../support/site.ts";

const only = "deno";
const LARGE = Buffer.from(bytes(5_000_011));

/** Says what came. */
const echo: ServeHandler = async (request) => {
  const body = await request.text();
  return Response.json({ method: request.method, url: request.url, fields: [...request.headers], body });
};

const BODIES: Record<string, string> = {
  "POST with a length":
    "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
  "POST in chunks":
    "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
  "PUT without a body": "PUT /a HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
  "DELETE": "DELETE /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
  "OPTIONS *": "OPTIONS * HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
  "a method of its own": "BREW /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
  "get in lower case": "get /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
  "POST of HTTP/1.0": "POST /a HTTP/1.0\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
  "GET with a body": "GET /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
  "requests behind a GET with a body in chunks":
    "GET /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" +
    "GET /b HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
  "requests behind one with a body": "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello" +
    "GET /b HTTP/1.1\r\nHost: test\r\n\r\n" +
    "POST /c HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbye",
  "a body behind requests without":
    "GET /a HTTP/1.1\r\nHost: test\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\n\r\n" +
    "POST /c HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbye",
};

for (const [name, request] of Object.entries(BODIES)) {
  test(`serve and Deno.serve answer the same to ${name}`, async () => {
    const messages = await assertSameUnderBoth(echo, ({ port }) => exchange(port, request));
    assertEquals(messages.length, request.match(/HTTP\/1/g)!.length);
    for (const { line } of messages) assert(line.endsWith(" 200 OK"), line);
  }, { only });
}

test("serve passes a large body on, both ways and whole, however it is cut", async () => {
  const mirror: ServeHandler = (request) => new Response(request.body);
  await withServed(served(mirror), async ({ port }) => {
    const client = await Client.to(port);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assertEquals((await client.reply()).body.length, 0);
    client.send(`POST / HTTP/1.1\r\nHost: test\r\nContent-Length: ${LARGE.length}\r\n\r\n`);
    for (let at = 0, size = 1; at < LARGE.length; at += size, size = size * 3 % 100_003) {
      client.socket.write(LARGE.subarray(at, at + size));
    }
    assertSame((await client.reply()).body, LARGE, "what came back");
    client.close();
  });
}, { only });

test("serve answers Expect with 100 once the handler reads, as Deno.serve does", async () => {
  await assertSameUnderBoth(echo, async ({ port }) => {
    const client = await Client.to(port);
    let came = "";
    client.socket.on("data", (chunk) => came += chunk);
    client.send(
      "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
    );
    await until(() => came.startsWith("HTTP/1.1 100 Continue\r\n\r\n"), "the permission");
    client.send("hello");
    await client.rest();
    assertStringIncludes(came, '"body":"hello"');
    return came.replace(/date: .*/i, "");
  });
}, { only });

test("serve upgrades to WebSocket, and tells the client's address", async () => {
  let told = "";
  const chat: ServeHandler = (request, { remoteAddr }) => {
    told = `${remoteAddr.hostname}:${remoteAddr.port}`;
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onmessage = ({ data }) => socket.send(data);
    return response;
  };
  await withServed(served(chat), async ({ port }) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
    socket.binaryType = "arraybuffer";
    await new Promise((resolve, reject) => [socket.onopen, socket.onerror] = [resolve, reject]);
    for (const data of ["hello", LARGE.subarray(0, 1_000_000)]) {
      const answer = new Promise<MessageEvent>((resolve) => socket.onmessage = resolve);
      socket.send(data as string);
      const { data: came } = await answer;
      if (typeof data === "string") assertEquals(came, data);
      else assertSame(Buffer.from(came), data, "the message");
    }
    const closed = new Promise<CloseEvent>((resolve) => socket.onclose = resolve);
    socket.close(4000, "bye");
    const { code, reason } = await closed;
    assertEquals([code, reason], [4000, "bye"]);
    assert(/^127\.0\.0\.1:\d+$/.test(told), told);
  });
}, { only });

test("serve speaks cleartext HTTP/2", async () => {
  const both: ServeHandler = async (request) =>
    new Response(request.method === "GET" ? LARGE : `got ${(await request.bytes()).length}`);
  await withServed(served(both), async ({ port }) => {
    const raw = await Http2.to(port);
    raw.get(1, "/");
    raw.get(3, "/");
    assertSame(await raw.body(1), LARGE, "the first stream");
    assertSame(await raw.body(3), LARGE, "the second");
    raw.close();
    const session = http2.connect(`http://127.0.0.1:${port}`);
    try {
      const text = await new Promise<string>((resolve, reject) => {
        const stream = session.request({ ":path": "/", ":method": "POST" });
        let came = "";
        stream.on("data", (chunk) => came += chunk);
        stream.on("end", () => resolve(came));
        stream.on("error", reject);
        stream.end(LARGE);
      });
      assertEquals(text, `got ${LARGE.length}`);
    } finally {
      session.destroy();
    }
  });
}, { only });

test("serve tells a handler the client's own address on every way", async () => {
  const tell: ServeHandler = (_, { remoteAddr }) => Response.json(remoteAddr);
  await withServed(served(tell), async ({ port }) => {
    const client = await Client.to(port);
    const expected = { transport: "tcp", hostname: "127.0.0.1", port: client.socket.localPort };
    for (const method of ["GET", "POST", "GET"]) {
      client.send(`${method} / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n`);
      assertEquals(JSON.parse(String((await client.reply()).body)), expected, method);
    }
    client.close();
  });
}, { only });

/** Ports of 127.0.0.1 that this process listens on. */
function listening(): number[] {
  const inodes = new Set(descriptors().flatMap((text) => /socket:\[(\d+)\]/.exec(text)?.[1] ?? []));
  const table = Deno.readTextFileSync("/proc/net/tcp").split("\n").slice(1).map((line) =>
    line.trim().split(/\s+/)
  );
  return table.filter(([, local, , state, , , , , , inode]) =>
    state === "0A" && local.startsWith("0100007F:") && inodes.has(inode)
  )
    .map(([, local]) => parseInt(local.split(":")[1], 16));
}

test("serve's inner server answers nobody but serve itself", async () => {
  let calls = 0;
  const secret: ServeHandler = () => {
    calls++;
    return new Response("secret");
  };
  const before = new Set(listening());
  await withServed(served(secret), async ({ port }) => {
    const inner = listening().filter((other) => other !== port && !before.has(other));
    assertEquals(inner.length, 1);
    // One tunnel is open meanwhile: that alone lets nobody in.
    const tunnelled = await Client.to(port);
    tunnelled.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    assertEquals(String((await tunnelled.reply()).body), "secret");
    for (const method of ["GET", "POST"]) {
      const request = `${method} / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
      const [{ line, body }] = await exchange(inner[0], request);
      assertEquals([line, body], ["HTTP/1.1 403 Forbidden", ""]);
    }
    assertEquals(calls, 1);
    tunnelled.close();
  });
}, { only });

test("serve ends the tunnel with the client, and the client with the tunnel", async () => {
  const begun: AbortSignal[] = [];
  const never: ServeHandler = (request) => {
    begun.push(request.signal);
    return request.method === "PUT"
      ? new Response("bye", { headers: { connection: "close" } })
      : new Promise(() => {});
  };
  const before = descriptors().length;
  await withServed(served(never), async ({ port }) => {
    const client = await Client.to(port);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    await until(() => begun.length === 1, "the request");
    client.socket.resetAndDestroy();
    await until(() => begun[0].aborted, "the handler to learn of it");
    const other = await Client.to(port);
    other.send("PUT / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assertEquals(String((await other.reply()).body), "bye");
    await other.rest();
    other.close();
  });
  await until(() => descriptors().length <= before, "the descriptors to be closed");
}, { only });

test("serve and Deno.serve answer the same where a body is malformed", async () => {
  for (const body of ["z\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n"]) {
    const request = `POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n${body}`;
    const onError = () => new Response("failed", { status: 500 });
    const first = ({ port }: { port: number }) => exchange(port, request).then(([first]) => first?.line);
    const ours = await withServed(served(echo, { onError }), first);
    assertEquals(ours, await withServed(servedByDeno(echo, { onError }), first));
  }
}, { only });
