/** withSendfile: clients that are slow, half closed or gone, and servers that shut down. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { serveFile, withSendfile } from "../../../http/mod.ts";
import { sendfileStats } from "../../../mod.ts";
import { SlowClient } from "../../children/slow_client.ts";
import { openBelow } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, parseMultipart, request } from "../../support/http_client.ts";
import { MIB, until } from "../../support/site.ts";
import {
  assertMoved,
  beginHuge,
  DENO,
  FIRST,
  HUGE,
  LARGE,
  only,
  SENDFILE,
  serving,
  sockets,
  takeHuge,
  waitingClient,
  withFiles,
} from "../../support/with_sendfile.ts";

test("a client that reads late gets all by sendfile", () =>
  serving(async (place) => {
    const client = await waitingClient(place);
    assertEquals((await only(place.port, request("/large.bin"))).status, 200); // others are served meanwhile
    await takeHuge(client);
    client.close();
    assertEquals(place.ways, [SENDFILE, SENDFILE]);
    await until(() => place.completed.length === 2, "the requests to be over");
    assertEquals(place.completed, ["done", "done"]);
  }), DENO);

/** What comes of a request that ends the client's own direction. */
async function halfClosed(port: number, text: string): Promise<[head: string, body: Buffer]> {
  using client = new SlowClient(port, false);
  client.send(text);
  client.finish(); // no runtime in between: both have arrived before the server looks
  const whole = await client.all();
  const end = whole.includes("\r\n\r\n") ? whole.indexOf("\r\n\r\n") + 4 : 0;
  return [whole.subarray(0, end).toString("latin1"), whole.subarray(end)];
}

const DOWNLOADS = 8;

for (const fields of ["", "Connection: close\r\n", "Accept-Encoding: gzip\r\n"]) {
  test(
    `a client that ends its own direction with the request gets all by sendfile (${fields.trim()})`,
    () =>
      serving(async (place) => {
        for (let i = 0; i < DOWNLOADS; i++) {
          const [head, body] = await halfClosed(place.port, request("/large.bin", { fields }));
          assert(/^connection: close, x+\r$/m.test(head), head);
          assertSame(body, LARGE, `download ${i}`);
        }
        assertEquals(place.ways, Array(DOWNLOADS).fill(SENDFILE));
        assertEquals(place.moved(), DOWNLOADS * LARGE.length);
      }),
    DENO,
  );
}

test(
  "a client that ends its own direction with the request gets all parts by sendfile",
  () =>
    serving(async (place) => {
      const fields = `Range: bytes=1-${MIB}, ${MIB + 7}-${3 * MIB}\r\n`;
      const [head, body] = await halfClosed(place.port, request("/large.bin", { fields }));
      const type = /^content-type: (.*)\r$/m.exec(head)![1];
      const parts = parseMultipart(type, body);
      assertSame(parts[0].body, LARGE.subarray(1, MIB + 1), "the first part");
      assertSame(parts[1].body, LARGE.subarray(MIB + 7), "the second part");
      assertEquals(place.ways.map(({ via }) => via), ["sendfile"]);
    }),
  DENO,
);

test(
  "a client that has half-closed its direction gets no file behind another response",
  () =>
    withFiles(async (root) => {
      const before = sendfileStats().sendfile.bytes;
      const handler = withSendfile<Deno.ServeHandlerInfo>((request) =>
        serveFile(request, join(root, "large.bin"))
      );
      const ending = new AbortController();
      const server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", signal: ending.signal, onListen() {} },
        async (request, info) => {
          void (await handler(request, info)).body!.cancel();
          return new Response("some text");
        },
      );
      const [head, body] = await halfClosed(server.addr.port, request("/"));
      assertStringIncludes(head, "content-length: 9");
      assertEquals(String(body), "some text");
      assertEquals(sendfileStats().sendfile.bytes, before);
      ending.abort();
      await server.finished;
    }),
  DENO,
);

test("Deno.serve gives a client up that has ended its own direction while a handler waits", async () => {
  const waited = (request: Request, path: string) =>
    new Promise((resolve) => setTimeout(resolve, 20)).then(() => serveFile(request, path));
  await serving(async (place) => {
    assertEquals(await halfClosed(place.port, request("/large.bin")), ["", Buffer.alloc(0)]);
    assertEquals(place.moved(), 0);
  }, { handler: (place) => (request) => waited(request, place.path("large.bin")) });
  // So it does without withSendfile, which could not help: nothing is known of a request before it is answered.
  const ending = new AbortController();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", signal: ending.signal, onListen() {} },
    async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return new Response("some text");
    },
  );
  assertEquals((await halfClosed(server.addr.port, request("/")))[1].length, 0);
  ending.abort();
  await server.finished;
}, DENO);

test(
  "a client that ends its own direction in the middle gets all by sendfile",
  () =>
    serving(async (place) => {
      const client = await beginHuge(place);
      await until(() => place.ways.length > 0, "the transfer");
      client.finish();
      await until(() => place.completed.length > 0, "the server to give it up");
      await takeHuge(client);
      client.close();
      assertMoved(place, HUGE.length);
    }),
  DENO,
);

for (const how of ["destroy", "resetAndDestroy"] as const) {
  test(`a client that leaves in the middle leaves nothing open (${how})`, () =>
    serving(async (place) => {
      for (let i = 0; i < 5; i++) {
        const client = await beginHuge(place);
        await until(() => place.ways.length > i, "the transfer");
        client.socket[how]();
        await until(() => openBelow(place.root).length === 0, "the file to be closed");
      }
      await until(() => place.completed.length === 5, "the requests to be over");
      assertSame((await only(place.port, request("/large.bin"))).body, LARGE, "the next");
    }), DENO);
}

test(
  "a client that ends its own direction and leaves later leaves nothing open",
  () =>
    serving(async (place) => {
      const open = sockets();
      for (const name of ["huge.bin", "large.bin"]) {
        const before = place.moved();
        const { waits } = sendfileStats();
        const client = await Client.to(place.port);
        client.send(request(`/${name}`));
        await client.begun();
        const whole = name === "large.bin" && LARGE.length - FIRST;
        await until(
          () => whole ? place.moved() >= before + whole : sendfileStats().waits > waits,
          "the transfer to wait, or to have given all to the system",
        );
        client.finish();
        await until(() => place.completed.length > 0, "the server to give it up");
        client.socket.resetAndDestroy();
        await until(() => openBelow(place.root).length === 0, "the file to be closed");
        await until(() => sockets() <= open, `the duplicate to be closed after ${name}`);
        place.completed.length = 0;
      }
      assertEquals(place.ways, [SENDFILE, SENDFILE]);
    }),
  DENO,
);

test("a client that leaves before it is answered leaves nothing open", () => {
  const asked = Promise.withResolvers<void>();
  return serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/large.bin"));
    await asked.promise;
    client.socket.resetAndDestroy();
    await until(() => place.completed.length > 0, "the request to be over");
    await until(() => openBelow(place.root).length === 0, "the file to be closed");
    assertEquals(place.moved(), 0);
  }, {
    handler: (place) => async (request) => {
      asked.resolve();
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      return await serveFile(request, place.path("large.bin"));
    },
  });
}, DENO);

test("a server that shuts down lets the transfer come to its end", () =>
  serving(async (place) => {
    const client = await beginHuge(place);
    await until(() => place.ways.length > 0, "the transfer");
    let over = false;
    place.shut = true;
    const shutdown = place.server.shutdown().then(() => over = true);
    await takeHuge(client);
    await until(() => over, "the shutdown");
    await shutdown;
    client.close();
    assertMoved(place, HUGE.length);
    assertEquals(place.completed, ["done"]);
  }), DENO);

test(
  "a server that is aborted ends the transfer, and the client sees that it is short",
  () =>
    serving(async (place) => {
      const client = await beginHuge(place);
      await until(() => place.ways.length > 0, "the transfer");
      place.abort.abort();
      await place.server.finished;
      await until(() => openBelow(place.root).length === 0, "the file to be closed");
      client.socket.resume();
      const whole = await client.rest();
      const body = whole.subarray(whole.indexOf("\r\n\r\n") + 4);
      assert(body.length < HUGE.length, "all came");
      assertSame(body, HUGE.subarray(0, body.length), "what came");
      client.close();
      assertEquals(place.ways, [SENDFILE]);
      await until(() => place.completed.length === 1, "the request to be over");
    }),
  DENO,
);
