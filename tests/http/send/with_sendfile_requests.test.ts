/** withSendfile: several requests on one connection, and what they say of its end. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { serveDir } from "../../../http/mod.ts";
import { sendfileStats } from "../../../mod.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { until } from "../../support/site.ts";
import {
  assertMoved,
  beginHuge,
  DENO,
  FIRST,
  HUGE,
  LARGE,
  MIDDLE,
  MIDDLES,
  native,
  NOT_FIRST,
  only,
  OTHER_HEAD,
  SENDFILE,
  serving,
  SMALL,
  takeHuge,
  Transport,
  UNDER_WAY,
} from "../../support/with_sendfile.ts";

test(
  "requests pipelined after a large file are not answered, and do not cut the file off",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin"), request("/small.txt"), request("/large.bin"));
      const { headers, body } = await client.reply();
      assertEquals(headers.connection, "close");
      assertSame(body, LARGE, "the file");
      assertEquals((await client.rest()).length, 0);
      client.close();
      assertMoved(place, LARGE.length);
    }),
  DENO,
);

for (const fields of ["", "Connection: keep-alive\r\n"]) {
  const said = fields ? "with the field Connection" : "without the field Connection";
  test(`a large file behind pipelined small ones is whole, ${said}`, () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      const small = request("/small.txt", { fields });
      client.send(small, small, small, request("/large.bin", { fields }), small);
      for (let i = 0; i < 3; i++) assertSame((await client.reply()).body, SMALL, "a small file");
      const { headers, body } = await client.reply();
      assertSame(body, LARGE, "the large file");
      if (headers.connection !== "close") assertSame((await client.reply()).body, SMALL, "the last");
      else assertEquals((await client.rest()).length, 0);
      client.close();
      assertEquals(place.ways.length, 1);
    }), DENO);
}

test(
  "a large file behind a response that its client has not got yet is the server's",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.socket.pause(); // what it does not read, its system does not acknowledge: not a whole 1 MiB
      client.send(request("/first"), request("/large.bin", { fields: "Connection: keep-alive\r\n" }));
      await until(() => place.ways.length > 0, "the second response");
      assertEquals(place.ways, [native(UNDER_WAY)]);
      client.socket.resume();
      assertSame((await client.reply()).body, MIDDLES, "the first");
      assertSame((await client.reply()).body, LARGE, "the large file");
      client.close();
    }, {
      handler: ({ root }) => (request) =>
        request.url.endsWith("/first")
          ? new Response(MIDDLES)
          : serveDir(request, { fsRoot: root, quiet: true }),
    }),
  DENO,
);

test(
  "large files between pipelined middle ones are whole as far as they come",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      const names = ["middle.bin", "large.bin", "middle.bin", "large.bin"];
      client.send(...names.map((name) => request(`/${name}`)));
      for (const name of names) {
        const { headers, body } = await client.reply();
        assertSame(body, fs.readFileSync(place.path(name)), name);
        if (headers.connection === "close") break;
      }
      client.socket.end();
      assertEquals((await client.rest()).length, 0);
      client.close();
    }),
  DENO,
);

test(
  "nothing is lost of a file that is queued whole while its client reads nothing",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.socket.pause();
      client.send(request("/large.bin"), request("/small.txt").repeat(20_000));
      await until(() => place.moved() > LARGE.length - FIRST - 1, "all to be handed to the system");
      await new Promise((resolve) => setTimeout(resolve, 200)); // a server that closes now resets the connection
      client.socket.resume();
      assertSame((await client.reply()).body, LARGE, "the file");
      client.close();
      assertEquals(place.ways, [SENDFILE]);
    }),
  DENO,
);

test(
  "how many bytes the server sends before the file goes past it is drawn by lot",
  () =>
    serving(async (place) => {
      const given = new Set<number>();
      let before = 0;
      for (let i = 0; i < 8; i++) {
        assertSame((await only(place.port, request("/large.bin"))).body, LARGE, "the file");
        const moved = place.moved();
        given.add(LARGE.length - (moved - before));
        before = moved;
      }
      assert(given.size > 1, `always ${[...given]}`);
      assertEquals(place.ways, Array(8).fill(SENDFILE));
    }),
  DENO,
);

test(
  "pipelined requests that are many and unread do not cut the end of a file off for a slow reader",
  () =>
    serving(async (place) => {
      const client = await beginHuge(place);
      const { waits } = sendfileStats();
      client.send(request("/small.txt").repeat(20_000));
      await until(() => sendfileStats().waits > waits, "the transfer to wait for its reader");
      await takeHuge(client);
      client.close();
      assertMoved(place, HUGE.length);
    }),
  DENO,
);

for (const version of ["1.1", "1.0"]) {
  test(
    `an HTTP/${version} request that asks for the connection's end is answered by sendfile`,
    () =>
      serving(async (place) => {
        const text = request("/large.bin", { version, fields: "Connection: close\r\n" });
        assertSame((await only(place.port, text)).body, LARGE, "the file");
        assertMoved(place, LARGE.length);
      }),
    DENO,
  );
}

test(
  "an HTTP/1.0 request without the field Connection is answered by sendfile",
  () =>
    serving(async (place) => {
      const { headers, body } = await only(place.port, request("/large.bin", { version: "1.0" }));
      assertEquals(headers.connection, "close");
      assertSame(body, LARGE, "the file");
      assertMoved(place, LARGE.length);
    }),
  DENO,
);

test(
  "an HTTP/1.0 request that asks to keep the connection is the server's, whose head says so",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin", { version: "1.0", fields: "Connection: keep-alive\r\n" }));
      assertSame((await client.reply()).body, LARGE, "the file");
      client.close();
      assertEquals(place.ways, [native(OTHER_HEAD)]);
    }),
  DENO,
);

test("a second request without the field Connection is the server's", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/small.txt"));
    assertSame((await client.reply()).body, SMALL, "the small file");
    for (let i = 0; i < 2; i++) {
      client.send(request("/large.bin"));
      const { headers, body } = await client.reply();
      assertEquals(headers.connection, undefined);
      assertSame(body, LARGE, "the large file");
    }
    client.send(request("/large.bin", { fields: "Connection: keep-alive\r\n" }));
    assertSame((await client.reply()).body, LARGE, "the large file once more");
    client.close();
    assertEquals(place.ways, Array(3).fill(native(NOT_FIRST)));
    assertEquals(place.moved(), 0);
  }), DENO);

test("a second request with the field Connection goes by sendfile", () =>
  serving(async (place) => {
    const fields = "Connection: keep-alive\r\n";
    const client = await Client.to(place.port);
    client.send(request("/small.txt", { fields }));
    assertSame((await client.reply()).body, SMALL, "the small file");
    client.send(request("/middle.bin", { fields }));
    assertSame((await client.reply()).body, MIDDLE, "the middle file");
    // What it has acknowledged is known to the server's system by then, or the file is the server's.
    client.send(request("/large.bin", { fields }));
    const { body } = await client.reply();
    assertSame(body, LARGE, "the large file");
    const [, way] = place.ways;
    if (way.via !== "native") assertEquals((await client.rest()).length, 0);
    else assertEquals(way, native("an earlier response is still under way"));
    client.close();
    assertEquals(place.ways.length, 2);
  }), DENO);

test("a request whose own body is not read is answered with the whole file", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/huge.bin", { fields: "Content-Length: 1000000\r\n" }));
    await client.begun();
    client.send("x".repeat(900_000));
    client.socket.resume();
    assertSame((await client.reply()).body, HUGE, "the file");
    client.close();
    assertEquals(place.ways.length, 1);
  }), DENO);

test("a request that waits to be told to continue is answered with the file", () =>
  serving(async (place) => {
    const wire = await Transport.to({ port: place.port, host: "127.0.0.1" });
    wire.send(request("/large.bin", { fields: "Content-Length: 4\r\nExpect: 100-continue\r\n" }));
    const CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";
    const final = () => {
      const whole = Buffer.concat(wire.chunks);
      return whole.subarray(whole.toString("latin1").startsWith(CONTINUE) ? CONTINUE.length : 0);
    };
    const bodyOf = (reply: Buffer) => reply.subarray(reply.indexOf("\r\n\r\n") + 4);
    await until(() => wire.length > LARGE.length && bodyOf(final()).length >= LARGE.length, "the file");
    assert(final().toString("latin1").startsWith("HTTP/1.1 200 OK\r\n"));
    assertSame(bodyOf(final()), LARGE, "the file");
    wire.close();
    assertEquals(place.ways.length, 1);
  }), DENO);
