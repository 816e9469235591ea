/** Requests that arrive in pieces, thousands in one, and heads that are too long. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { type Client, request } from "../support/http_client.ts";
import { MIB } from "../support/site.ts";
import {
  assertAnswered,
  assertRefused,
  headOf,
  PIPELINE,
  serving,
  SMUGGLED,
  turn,
  written,
} from "./serving.ts";

async function assertPipeline(client: Client): Promise<void> {
  assertEquals(String((await client.reply()).body), "this is a");
  assertEquals((await client.reply({ bodiless: true })).headers["content-length"], "9");
  assertEquals((await client.reply()).status, 404);
  assertEquals((await client.reply()).status, 405);
  assertEquals(String((await client.reply()).body), "this is a");
}

serving("answers requests that come byte by byte", async (place) => {
  const client = await place.client();
  client.socket.setNoDelay();
  for (const byte of PIPELINE) {
    await written(client, byte);
    await turn();
  }
  await assertPipeline(client);
});

serving("answers thousands of requests in one write, and in odd pieces", async (place) => {
  const targets = Array.from({ length: 5000 }, (_, i) => ["/a.txt", "/b.txt", "/missing"][i * 7 % 3]);
  const content: Record<string, string> = { "/a.txt": "this is a", "/b.txt": "this is b" };
  const text = targets.map((target) => request(target)).join("");
  for (const piece of [text.length, 1009, 65_521]) {
    const client = await place.client();
    for (let at = 0; at < text.length; at += piece) client.send(text.slice(at, at + piece));
    for (const [i, target] of targets.entries()) {
      const body = String((await client.reply()).body);
      assertEquals(body, content[target] ?? "404 Not Found\n", `${i} of ${piece}`);
    }
    client.close();
  }
});

serving("takes a head of 16 KiB, and none of a byte more", async (place) => {
  assertEquals(headOf(16_384).length, 16_384);
  await assertAnswered(place, headOf(16_384), 200, "this is a");
  await assertRefused(place, headOf(16_385), 431);
  await assertRefused(place, headOf(100_000), 431);
  const many = "X: y\r\n".repeat(3000);
  await assertRefused(place, request("/a.txt", { fields: many }), 431);
  const client = await place.client();
  client.send(request("/b.txt"), headOf(16_384), headOf(16_383), headOf(16_385), SMUGGLED);
  for (const expected of ["this is b", "this is a", "this is a"]) {
    assertEquals(String((await client.reply()).body), expected);
  }
  assertEquals((await client.reply()).status, 431);
  assertEquals((await client.rest()).length, 0);
});

serving("refuses a target without end with 414, however long it is", async (place) => {
  await assertRefused(place, request(`/${"x".repeat(16_384)}`), 414);
  const client = await place.client();
  client.send("GET /");
  await written(client, Buffer.alloc(8 * MIB, "x"));
  assertEquals((await client.reply()).status, 414);
  assertEquals((await client.rest()).length, 0);
});
