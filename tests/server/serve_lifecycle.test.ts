/** How `serve` ends: on Deno its own engine, on Bun Bun.serve. */
import { assertEquals, assertRejects } from "@std/assert";
import { serve, type ServeHandler } from "../../serve.ts";
import { isBun, test } from "../support/harness.ts";
import { Client } from "../support/http_client.ts";
import { until } from "../support/site.ts";
import { get, hello, HERE } from "./here.ts";

test("serve's shutdown finishes what is under way, and takes nothing more", async () => {
  let go = () => {};
  let begun = 0;
  const slow: ServeHandler = async (request) => {
    if (new URL(request.url).pathname === "/quick") return new Response("quick");
    begun++;
    await new Promise<void>((resolve) => go = resolve);
    return new Response("slow");
  };
  const server = serve(HERE, slow);
  const { port } = server.addr;
  const idle = await Client.to(port);
  idle.send("GET /quick HTTP/1.1\r\nHost: test\r\n\r\n");
  assertEquals(String((await idle.reply()).body), "quick");
  const busy = await Client.to(port);
  busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
  await until(() => begun === 1, "the request");
  let ended = false;
  const shutdown = server.shutdown().then(() => ended = true);
  await idle.rest();
  idle.finish();
  await assertRejects(() => fetch(`http://127.0.0.1:${port}/`));
  assertEquals(ended, false);
  go();
  assertEquals(String((await busy.reply()).body), "slow");
  await busy.rest();
  busy.finish();
  await shutdown;
  await server.finished;
  idle.close();
  busy.close();
});

test("serve's shutdown under load cuts no response off", async () => {
  const body = "0123456789".repeat(5_000);
  for (const method of ["GET", "POST"]) {
    const server = serve(HERE, async (request) => {
      await request.text();
      return new Response(body);
    });
    const { port } = server.addr;
    let done = 0;
    let cut: unknown;
    const load = Array.from({ length: 20 }, async () => {
      for (let i = 0; i < 10_000; i++) {
        let client: Client;
        try {
          client = await Client.to(port);
        } catch {
          return; // it listens no more
        }
        try {
          client.send(`${method} / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
          const all = String(await client.rest());
          // What it had not accepted when it ended was never a request.
          if (all === "") return;
          if (!all.endsWith(body)) cut = all.length;
          done++;
        } finally {
          client.close();
        }
      }
    });
    await until(() => done > 100, "some load");
    await server.shutdown();
    await Promise.all(load);
    await server.finished;
    assertEquals(cut, undefined, method);
  }
}, { only: "deno" });

test("serve ends all at once where its signal is aborted", async () => {
  const stop = new AbortController();
  let begun = 0;
  const server = serve({ ...HERE, signal: stop.signal }, (request) => {
    begun++;
    if (request.method === "HEAD") return new Response();
    return new Promise(() => {});
  });
  const count = isBun ? 3 : 4; // Bun leaves a connection open that has brought no request
  const clients = await Promise.all(Array.from({ length: count }, () => Client.to(server.addr.port)));
  clients[0].send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
  clients[1].send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
  clients[2].send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
  await until(() => begun === 3, "the requests");
  stop.abort();
  await server.finished;
  for (const client of clients) {
    await client.rest();
    client.close();
  }
  await assertRejects(() => get(server.addr.port));
});

test("serve ends at once where its signal is aborted before", async () => {
  const server = serve({ ...HERE, signal: AbortSignal.abort() }, hello);
  await server.finished;
  await assertRejects(() => get(server.addr.port));
});

test("serve can be disposed of", async () => {
  let port = 0;
  {
    await using server = serve(HERE, hello);
    port = server.addr.port;
    assertEquals(await get(port), "200 hello");
  }
  await assertRejects(() => get(port));
});
