/** When a connection ends, that nothing sent before is lost by a reset, and clients that half-close. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { assertSame, request } from "../support/http_client.ts";
import { until } from "../support/site.ts";
import { ending, largeContent, serving, SMUGGLED, turn, written } from "./serving.ts";

type Ending = [fields: string, ends: boolean];

const ENDINGS: Record<string, Ending[]> = {
  "1.1": [
    ["", false],
    ["Connection: keep-alive\r\n", false],
    ["Connection:\r\n", false],
    ["Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", false],
    ["Connection: closed\r\n", false],
    ["Connection: x-close, close-x\r\n", false],
    ["Connection: \xa0close\r\n", false], // no-break space is no space
    ["Connection: close\r\n", true],
    ["Connection: CLOSE\r\n", true],
    ["connection:close\r\n", true],
    ["Connection: keep-alive, Close\r\n", true],
    ["Connection: close,keep-alive\r\n", true],
    ["Connection: , x,\tclose\t,, y\r\n", true],
    ["Connection: x\r\nConnection: close\r\n", true],
    ["Connection: close\r\nConnection: x\r\n", true],
  ],
  "1.0": [
    ["", true],
    ["Connection: close\r\n", true],
    ["Connection: x\r\n", true],
    ["Connection: keep-alives\r\n", true],
    ["Connection: keep-alive\xa0\r\n", true],
    ["Connection: keep-alive, close\r\n", true],
    ["Connection: close, keep-alive\r\n", true],
    ["Connection: close\r\nConnection: keep-alive\r\n", true],
    ["Keep-Alive: timeout=5\r\n", true],
    ["Connection: keep-alive\r\n", false],
    ["Connection: Keep-Alive\r\n", false],
    ["Connection: x,KEEP-ALIVE\r\n", false],
    ["Connection: x\r\nConnection: keep-alive\r\n", false],
  ],
};

for (const [version, endings] of Object.entries(ENDINGS)) {
  serving(`keeps or ends a connection of HTTP/${version} as its lists say`, async (place) => {
    for (const [fields, ends] of endings) {
      for (const target of ["/a.txt", "/missing"]) {
        const client = await place.client();
        const end = ending(client);
        client.send(request(target, { version, fields }), ends ? SMUGGLED : request("/b.txt"));
        const { headers } = await client.reply();
        const said = ends ? "close" : version === "1.0" ? "keep-alive" : undefined;
        assertEquals(headers.connection, said, `HTTP/${version} ${fields}`);
        if (ends) {
          const began = performance.now();
          assertEquals((await client.rest()).length, 0, fields);
          assertEquals(await end, "FIN", fields);
          assert(performance.now() - began < 1500, "the end comes with the response, and not after a wait");
        } else {
          assertEquals(String((await client.reply()).body), "this is b", fields);
        }
        client.close();
      }
    }
  });
}

serving(
  "does not reset under a slow reader for what was pipelined behind the last request",
  async (place) => {
    place.add("large.bin", largeContent);
    const client = await place.client();
    const end = ending(client);
    client.send(request("/large.bin", { fields: "Connection: close\r\n" }), SMUGGLED.repeat(100));
    await client.begun();
    for (let i = 0; i < 20; i++) await written(client, SMUGGLED.repeat(1000));
    client.socket.resume();
    assertSame((await client.reply()).body, largeContent, "the file");
    assertEquals((await client.rest()).length, 0);
    assertEquals(await end, "FIN");
  },
);

serving("does not reset for what comes when all was sent and nothing was read yet", async (place) => {
  const content = largeContent.subarray(0, 300_000); // less than the sockets hold
  place.add("file.bin", content);
  for (const target of ["/file.bin", "/missing"]) {
    const client = await place.client();
    const end = ending(client);
    client.socket.pause();
    const before = place.sent.length;
    client.send(request(target, { fields: "Connection: close\r\n" }));
    await until(() => place.sent.length > before, "the response to be sent");
    for (let i = 0; i < 20; i++) {
      await written(client, SMUGGLED.repeat(100));
      await turn();
    }
    client.socket.resume();
    const { body } = await client.reply();
    assertSame(body, target === "/missing" ? Buffer.from("404 Not Found\n") : content, target);
    assertEquals((await client.rest()).length, 0);
    assertEquals(await end, "FIN");
    client.close();
  }
});

serving("ends the connection of who has got the last response and stays", async (place) => {
  const client = await place.client();
  client.send(request("/a.txt", { fields: "Connection: close\r\n" }));
  await client.reply();
  await client.rest();
  // The client keeps its side open; the server must still close the connection.
  assert(client.socket.writable && !client.socket.destroyed);
  await until(() => {
    try {
      client.socket.write("x");
    } catch { /* as good */ }
    return client.socket.destroyed || client.socket.closed || !client.socket.writable;
  }, "the connection to be closed");
});

serving("answers all that a client has asked for before it ended its side", async (place) => {
  place.add("large.bin", largeContent);
  const client = await place.client();
  const end = ending(client);
  client.send(
    request("/a.txt"),
    request("/large.bin"),
    request("/missing"),
    request("/large.bin"),
    request("/b.txt"),
  );
  client.finish();
  await client.begun();
  client.socket.resume();
  assertEquals(String((await client.reply()).body), "this is a");
  assertSame((await client.reply()).body, largeContent, "the first");
  assertEquals((await client.reply()).status, 404);
  assertSame((await client.reply()).body, largeContent, "the second");
  assertEquals(String((await client.reply()).body), "this is b");
  assertEquals((await client.rest()).length, 0);
  assertEquals(await end, "FIN");
});

serving("answers thousands of requests behind a large file, and the end behind them", async (place) => {
  place.add("large.bin", largeContent);
  const client = await place.client();
  const end = ending(client);
  client.send(request("/large.bin"));
  await client.begun();
  // More requests than the server reads ahead.
  client.send(request("/a.txt").repeat(8000), "GET / HTTP/1.1\r\nHo");
  client.finish();
  client.socket.resume();
  assertSame((await client.reply()).body, largeContent, "the file");
  for (let i = 0; i < 8000; i++) assertEquals(String((await client.reply()).body), "this is a");
  assertEquals((await client.rest()).length, 0);
  assertEquals(await end, "FIN");
});

serving("ends the connection where a head or a body stops in the middle", async (place) => {
  for (
    const text of [
      "",
      "\r\n",
      "GET",
      "GET /a.txt HTTP/1.1\r\nHost: x\r\n",
      "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r",
    ]
  ) {
    const client = await place.client();
    const end = ending(client);
    client.send(text);
    client.finish();
    assertEquals((await client.rest()).length, 0, JSON.stringify(text));
    assertEquals(await end, "FIN");
  }
  assertEquals(place.requests, []);
  const client = await place.client();
  client.send(request("/a.txt", { fields: "Content-Length: 10\r\n" }), "12345");
  client.finish();
  assertEquals(String((await client.reply()).body), "this is a");
  assertEquals((await client.rest()).length, 0);
});
