/** Many requests on one connection: pipelined, half-closed, kept, and ended where they ask for it. */
import { assertEquals } from "@std/assert";
import type { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { isBun } from "../../support/harness.ts";
import { assertSame, Client, request, type Span } from "../../support/http_client.ts";
import { MIB } from "../../support/site.ts";
import { assertPartial, assertWhole } from "./assert_reply.ts";
import { CONTENT, each, type Fields, LARGE, largeContent, lines, type Place, SIZES } from "./place.ts";

/** Requests on one connection, and the response that each must get. */
const MIX: [
  target: string,
  method: string,
  fields: Fields,
  status: number,
  body?: () => Buffer,
  parts?: Span[],
][] = [
  ["/10.bin", "GET", {}, 200, () => CONTENT.get(10)!],
  [`/${3 * MIB}.bin`, "HEAD", {}, 200],
  [`/${3 * MIB}.bin`, "GET", {}, 200, () => CONTENT.get(3 * MIB)!],
  ["/missing", "GET", {}, 404],
  [
    `/${3 * MIB}.bin`,
    "GET",
    { Range: "bytes=5-1000004" },
    206,
    () => CONTENT.get(3 * MIB)!.subarray(5, 1000005),
  ],
  ["/10.bin", "GET", { Range: "bytes=10-" }, 416],
  ["/100000.bin", "GET", {}, 200, () => CONTENT.get(100_000)!],
  ["/10.bin", "GET", { "If-None-Match": "*" }, 304],
  ["/10.bin", "GET", { "If-Match": '"x"' }, 412],
  ["/10.bin", "OPTIONS", {}, 204],
  [`/${3 * MIB}.bin`, "GET", {}, 200, () => CONTENT.get(3 * MIB)!],
  ["/100000.bin", "GET", { Range: "bytes=0-1,3-4" }, 206, undefined, [[0, 1], [3, 4]]],
  [
    `/${3 * MIB}.bin`,
    "GET",
    { Range: "bytes=0-999999,1000000-1999999" },
    206,
    undefined,
    [[0, 999_999], [1_000_000, 1_999_999]],
  ],
  ["/missing", "HEAD", {}, 404],
  ["/dir", "GET", {}, 301],
  ["/10.bin", "GET", {}, 200, () => CONTENT.get(10)!],
];

type Mixed = typeof MIX[number];

const textOf = ([target, method, fields]: Mixed) => request(target, { method, fields: lines(fields) });

async function takeMixed(
  place: Place,
  client: Client,
  [target, method, , status, body, parts]: Mixed,
): Promise<void> {
  const reply = place.wellFormed(await client.reply({ bodiless: method === "HEAD" }));
  assertEquals(reply.status, status, `${method} ${target}`);
  if (body) assertSame(reply.body, body(), target);
  if (parts === undefined) return;
  const content = CONTENT.get(parseInt(target.slice(1)))!;
  assertPartial(reply, content, parts, true);
}

each("keeps a connection through everything", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.sizes();
  const client = await Client.to(place.port);
  for (const mixed of [...MIX, ...MIX]) {
    client.send(textOf(mixed));
    await takeMixed(place, client, mixed);
  }
  client.close();
});

const PIPELINING = "oven-sh/bun#38128: Bun.serve closes the connection";

each("answers pipelined requests in order", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.sizes();
  const client = await Client.to(place.port);
  client.send(...MIX.map(textOf), ...MIX.map(textOf));
  for (const mixed of [...MIX, ...MIX]) await takeMixed(place, client, mixed);
  client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
  assertSame((await client.reply()).body, CONTENT.get(10)!, "the last");
  assertEquals((await client.rest()).length, 0);
  client.close();
}, { skip: (kind) => kind === "Bun.serve" && PIPELINING });

each("answers pipelined requests that come in pieces", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.sizes();
  const client = await Client.to(place.port);
  const text = MIX.map(textOf).join("");
  const taken = (async () => {
    for (const mixed of MIX) await takeMixed(place, client, mixed);
  })();
  for (let at = 0; at < text.length; at += 37) {
    client.send(text.slice(at, at + 37));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await taken;
  client.close();
}, { skip: (kind) => kind === "Bun.serve" && PIPELINING });

each("answers a hundred small pipelined requests", async (place) => {
  const client = await Client.to(place.port);
  client.send(request("/10.bin").repeat(99), request("/10.bin", { fields: "Connection: close\r\n" }));
  for (let i = 0; i < 100; i++) assertSame((await client.reply()).body, CONTENT.get(10)!, `${i}`);
  assertEquals((await client.rest()).length, 0);
  client.close();
});

each("sends each of many clients its own", async (place) => {
  const sizes = place.sizes();
  const fetched = Array.from({ length: 60 }, async (_, i) => {
    const size = sizes[i % 3];
    const first = i % 7;
    const reply = await place.get(`/${size}.bin`, { Range: `bytes=${first}-` });
    assertPartial(reply, CONTENT.get(size)!, [[first, size - 1]], false);
  });
  await Promise.all(fetched);
});

each("ends the connection after Connection: close and after HTTP/1.0", async (place) => {
  for (const size of place.sizes()) {
    for (const options of [{ fields: "Connection: close\r\n" }, { version: "1.0" }]) {
      const client = await Client.to(place.port);
      client.send(request(`/${size}.bin`, options));
      assertWhole(place.wellFormed(await client.reply()), CONTENT.get(size)!);
      assertEquals((await client.rest()).length, 0);
      client.close();
    }
  }
});

each("answers HTTP/1.0 without Host, ranges and conditions too", async (place) => {
  const expected: [string, number, number][] = [
    ["", 200, 100_000],
    ["Range: bytes=0-1\r\n", 206, 2],
    ["If-None-Match: *\r\n", 304, 0],
  ];
  for (const [fields, status, length] of expected) {
    const client = await Client.to(place.port);
    client.send(`GET /100000.bin HTTP/1.0\r\n${fields}\r\n`);
    const reply = place.wellFormed(await client.reply());
    assertEquals(reply.status, status);
    assertSame(reply.body, CONTENT.get(100_000)!.subarray(0, length), fields);
    assertEquals((await client.rest()).length, 0);
    client.close();
  }
});

for (const size of SIZES) {
  each(`keeps an HTTP/1.0 connection that asks for it, after ${size} bytes`, async (place) => {
    place.sizes();
    const client = await Client.to(place.port);
    for (let i = 0; i < 3; i++) {
      client.send(request(`/${size}.bin`, { version: "1.0", fields: "Connection: keep-alive\r\n" }));
      const reply = place.wellFormed(await client.reply());
      assertWhole(reply, CONTENT.get(size)!);
      assertEquals(reply.headers.connection?.toLowerCase(), "keep-alive");
    }
    client.close();
  }, {
    skip: (kind) => {
      if (kind === "FileServer") return false;
      if (isBun) return "Bun ends HTTP/1.0 connections";
      return kind === "Deno.serve" && size > 10 && "Deno.serve ends them behind a streamed body";
    },
  });
}

for (const size of [...SIZES, LARGE]) {
  each(`sends ${size} bytes to who has shut the other direction down`, async (place) => {
    const content = place.add(`${size}.bin`, CONTENT.get(size) ?? largeContent());
    const client = await Client.to(place.port);
    client.send(request(`/${size}.bin`));
    client.finish();
    assertWhole(place.wellFormed(await client.reply()), content);
    assertEquals((await client.rest()).length, 0);
    client.close();
  }, {
    skip: (kind) => {
      if (kind === "Deno.serve") return size > 10 && "Deno.serve gives a streamed body up";
      return kind === "Bun.serve" && size > 100_000 && "Bun.serve sends what fits into the socket's buffer";
    },
  });
}

each("sends what is asked for to who reads late", async (place) => {
  const content = place.add(`${LARGE}.bin`, largeContent());
  const client = await Client.to(place.port);
  client.send(request(`/${LARGE}.bin`, { fields: "Connection: close\r\n" }));
  await client.begun();
  assertEquals((await place.get("/10.bin")).status, 200); // other clients are served meanwhile
  client.socket.resume();
  assertWhole(place.wellFormed(await client.reply()), content);
  assertEquals((await client.rest()).length, 0);
  client.close();
});
