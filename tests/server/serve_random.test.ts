/** Random requests on one connection, cut anywhere, come to the same under `serve` and under `Deno.serve`; and nothing is left. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { serveDir } from "../../http/mod.ts";
import type { ServeHandler } from "../../serve.ts";
import { bytes, descriptors, folder, openBelow } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { Client } from "../support/http_client.ts";
import { type Message, parseMessages, served, servedByDeno, withServed } from "../support/served_twice.ts";
import { until } from "../support/site.ts";

const only = "deno";

/** The same numbers each time: whole ones from 0, below `limit`. */
function randomOf(seed: number): (limit: number) => number {
  let state = seed * 2654435761 >>> 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

const utf8 = new TextEncoder();

function handlerOf(root: string): ServeHandler {
  return async (request, info) => {
    const { pathname } = new URL(request.url);
    const body = await request.text(); // behind a body that was not read Deno.serve may end the connection
    if (pathname.startsWith("/files/")) {
      return await serveDir(request, { fsRoot: root, urlRoot: "files", quiet: true });
    }
    if (pathname === "/throw") throw new Error("thrown");
    if (pathname === "/watch") void request.signal;
    if (pathname === "/later") await new Promise((resolve) => setTimeout(resolve, 2));
    if (pathname === "/stream") {
      let left = 5;
      return new Response(
        new ReadableStream({
          async pull(controller) {
            await new Promise((resolve) => setTimeout(resolve, left % 2));
            controller.enqueue(utf8.encode(`chunk ${left}`));
            if (--left === 0) controller.close();
          },
        }),
      );
    }
    return Response.json({ method: request.method, body, cookie: request.headers.get("cookie") }, {
      headers: { "x-client": info.remoteAddr.hostname },
    });
  };
}

const PATHS = [
  "/",
  "/watch",
  "/later",
  "/stream",
  "/throw",
  "/files/a.bin",
  "/files/large.bin",
  "/files/none",
];

function randomRequest(random: (limit: number) => number, last: boolean): { text: string; method: string } {
  const path = PATHS[random(PATHS.length)];
  const method = ["GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"][random(9)];
  let fields = last ? "Connection: close\r\n" : "";
  if (random(4) === 0) fields += "Cookie: a=1\r\nCookie: b=2\r\n";
  if (random(5) === 0) fields += `Range: bytes=${random(100)}-${100 + random(5000)}\r\n`;
  let body = "";
  if (method === "POST" || method === "PUT") {
    const content = "x".repeat(random(3) * random(3000));
    if (random(2) === 0) {
      fields += `Content-Length: ${content.length}\r\n`;
      body = content;
    } else {
      fields += "Transfer-Encoding: chunked\r\n";
      for (let at = 0, size; at < content.length; at += size) {
        size = Math.min(content.length - at, 1 + random(1000));
        body += `${size.toString(16)}\r\n${content.slice(at, at + size)}\r\n`;
      }
      body += "0\r\n\r\n";
    }
  }
  return { text: `${method} ${path} HTTP/1.1\r\nHost: test\r\n${fields}\r\n${body}`, method };
}

/** Sockets that this process has open. */
function sockets(): number {
  return descriptors().filter((text) => text.includes("socket:")).length;
}

/** What a server answers to `requests`, sent in pieces. */
async function answers(
  port: number,
  requests: readonly { text: string; method: string }[],
  random: (limit: number) => number,
): Promise<Message[]> {
  const client = await Client.to(port);
  try {
    const all = Buffer.from(requests.map(({ text }) => text).join(""), "latin1");
    const whole = random(3) === 0;
    for (let at = 0, size; at < all.length; at += size) {
      size = whole ? all.length : 1 + random(random(2) === 0 ? 30 : 2000);
      client.socket.write(all.subarray(at, at + size));
      if (random(4) === 0) await new Promise((resolve) => setTimeout(resolve, random(3)));
    }
    return parseMessages(await client.rest(), requests.map(({ method }) => method));
  } finally {
    client.close();
  }
}

test("serve and Deno.serve answer random requests the same, however they are cut", async () => {
  const root = fs.realpathSync(folder());
  fs.writeFileSync(join(root, "a.bin"), bytes(5000));
  fs.writeFileSync(join(root, "large.bin"), bytes(400_000));
  const onError = (error: unknown) => new Response((error as Error).message, { status: 500 });
  const before = sockets();
  try {
    const [ours, theirs] = [served, servedByDeno].map((start) => start(handlerOf(root), { onError }));
    await withServed(ours, () =>
      withServed(theirs, async () => {
        for (let seed = 1; seed <= 120; seed++) {
          const random = randomOf(seed);
          const count = 1 + random(8);
          const requests = Array.from({ length: count }, (_, i) => randomRequest(random, i === count - 1));
          const [here, there] = await Promise.all(
            [ours, theirs].map(({ port }) => answers(port, requests, randomOf(seed + 1000))),
          );
          const shown = requests.map(({ text }) => text.slice(0, 200)).join("");
          assertEquals(here.length, count, shown);
          assertEquals(here, there, shown);
        }
        await until(() => openBelow(root).length === 0, "the files to be closed");
      }));
    await until(() => sockets() <= before, "the sockets to be closed");
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}, { only });

test("serve leaves nothing behind clients that leave at any moment", async () => {
  const root = fs.realpathSync(folder());
  fs.writeFileSync(join(root, "a.bin"), bytes(5000));
  fs.writeFileSync(join(root, "large.bin"), Buffer.alloc(30_000_000, "x"));
  const onError = (error: unknown) => new Response((error as Error).message, { status: 500 });
  const before = sockets();
  try {
    await withServed(served(handlerOf(root), { onError }), async ({ port }) => {
      for (let seed = 1; seed <= 40; seed++) {
        await Promise.all(Array.from({ length: 5 }, async (_, i) => {
          const random = randomOf(seed * 10 + i);
          const count = 1 + random(8);
          const text = Array.from({ length: count }, () => randomRequest(random, false).text).join("");
          const client = await Client.to(port);
          client.send(text.slice(0, random(2) === 0 ? text.length : random(text.length)));
          await new Promise((resolve) => setTimeout(resolve, random(4)));
          if (random(2) === 0) client.socket.resetAndDestroy();
          else client.close();
        }));
      }
      await until(() => openBelow(root).length === 0, "the files to be closed");
      await until(() => sockets() <= before + 4, "the connections to be closed");
      // It is none the worse for it.
      const client = await Client.to(port);
      client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
      assert((await client.reply()).status === 200);
      client.close();
    });
    await until(() => sockets() <= before, "the sockets to be closed");
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}, { only });
