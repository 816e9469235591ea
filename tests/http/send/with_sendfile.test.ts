/** withSendfile around the handlers of Deno.serve: which bodies go which way, by their length and the options. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { withSendfile } from "../../../http/mod.ts";
import { sendfileStats } from "../../../mod.ts";
import { bytes } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, parseMultipart, request } from "../../support/http_client.ts";
import { MIB, until } from "../../support/site.ts";
import {
  assertMoved,
  BELOW,
  DENO,
  FIRST,
  LARGE,
  native,
  NOT_WORTH,
  only,
  SENDFILE,
  serving,
  SMALL,
  Transport,
} from "../../support/with_sendfile.ts";

for (const threshold of [undefined, 2_000_000]) {
  const limit = threshold ?? 2 * MIB;
  test(
    `a body of ${limit - 1} bytes keeps the connection and larger ones go by sendfile, with ${
      threshold === undefined ? "the default threshold" : `a threshold of ${limit}`
    }`,
    () =>
      serving(async (place) => {
        const content = Buffer.from(bytes(limit + 1, 7));
        for (const size of [limit - 1, limit, limit + 1]) {
          fs.writeFileSync(place.path(`${size}.bin`), content.subarray(0, size));
        }
        const client = await Client.to(place.port);
        for (let i = 0; i < 2; i++) {
          client.send(request(`/${limit - 1}.bin`));
          const { headers, body } = await client.reply();
          assertEquals([headers.connection, headers["content-length"]], [undefined, `${limit - 1}`]);
          assertSame(body, content.subarray(0, limit - 1), "below the threshold");
        }
        client.close();
        assertEquals(place.ways.splice(0), [native(BELOW), native(BELOW)]);
        assertEquals(place.moved(), 0);
        let moved = 0;
        for (const size of [limit, limit + 1]) {
          const { status, headers, body } = await only(place.port, request(`/${size}.bin`));
          assertEquals([status, headers.connection, headers["content-length"]], [200, "close", `${size}`]);
          assertSame(body, content.subarray(0, size), "from the threshold on");
          const by = place.moved() - moved;
          moved += by;
          assert(by < size && by >= size - FIRST, `${by} of ${size} bytes by sendfile`);
        }
        assertEquals(place.ways.splice(0), [SENDFILE, SENDFILE]);
      }, { threshold }),
    DENO,
  );
}

test(
  "with a threshold of 0 files go by sendfile that are not sent as bytes, and worth looking for the connection",
  () =>
    serving(async (place) => {
      for (const size of [0, 1, FIRST, FIRST + 1, FIRST + 2, 65_536]) {
        fs.writeFileSync(place.path("file.bin"), LARGE.subarray(0, size));
        const { body } = await only(place.port, request("/file.bin", { fields: "Connection: close\r\n" }));
        assertSame(body, LARGE.subarray(0, size), `${size} bytes`);
        const [way, ...others] = place.ways.splice(0);
        assertEquals(others, []);
        if (size <= FIRST) assertEquals(way, undefined);
        else if (way.via === "native") assertEquals(way, native(NOT_WORTH));
        else assertEquals(way, SENDFILE);
      }
    }, { threshold: 0 }),
  DENO,
);

const RANGES: [field: string, from: number, to: number][] = [
  ["0-", 0, LARGE.length],
  ["5-", 5, LARGE.length],
  ["-2500000", LARGE.length - 2_500_000, LARGE.length],
  ["0-2199999", 0, 2_200_000],
  ["700003-3000002", 700_003, 3_000_003],
];

for (const [field, from, to] of RANGES) {
  test(`the range ${field} goes by sendfile`, () =>
    serving(async (place) => {
      const reply = await only(place.port, request("/large.bin", { fields: `Range: bytes=${field}\r\n` }));
      const { status, headers, body } = reply;
      assertEquals(
        [status, headers.connection, headers["content-range"]],
        [206, "close", `bytes ${from}-${to - 1}/${LARGE.length}`],
      );
      assertSame(body, LARGE.subarray(from, to), "the range");
      assertMoved(place, to - from);
    }), DENO);
}

test("several ranges go by sendfile, each within its frame", () =>
  serving(async (place) => {
    const fields = "Range: bytes=100000-1199999,0-9,2000000-2999999\r\n";
    const { status, headers, body } = await only(place.port, request("/large.bin", { fields }));
    assertEquals([status, headers.connection], [206, "close"]);
    const parts = parseMultipart(headers["content-type"], body);
    assertEquals(parts.map(({ span }) => span), [[100_000, 1_199_999], [0, 9], [2_000_000, 2_999_999]]);
    for (const { span: [first, last], body } of parts) {
      assertSame(body, LARGE.subarray(first, last + 1), `${first}`);
    }
    assertMoved(place, 2_100_010);
  }), DENO);

test("several ranges are left to the server if the first of them is small", () =>
  serving(async (place) => {
    const fields = "Range: bytes=0-9,100000-2999999\r\n";
    const client = await Client.to(place.port);
    client.send(request("/large.bin", { fields }));
    const { headers, body } = await client.reply();
    assertEquals(headers.connection, undefined);
    const [one, two] = parseMultipart(headers["content-type"], body);
    assertSame(one.body, LARGE.subarray(0, 10), "the first");
    assertSame(two.body, LARGE.subarray(100_000, 3_000_000), "the second");
    client.close();
    assertEquals(place.ways, [native("the first range is small")]);
  }), DENO);

test("a limited file goes by sendfile, in pieces", () =>
  serving(async (place) => {
    const { sendfile: { calls } } = sendfileStats();
    const { body } = await only(place.port, request("/large.bin"));
    assertSame(body, LARGE, "the file");
    assertMoved(place, LARGE.length);
    // A tenth of a second's worth at a time.
    assert(sendfileStats().sendfile.calls - calls >= 3);
  }, { rateLimit: 10 * MIB }), DENO);

test(
  "responses without a file, and small files, keep the connection and are not reported",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin", { method: "HEAD" }));
      const { headers: { etag, connection, "content-length": length } } = await client.reply({
        bodiless: true,
      });
      assertEquals([connection, length], [undefined, `${LARGE.length}`]);
      client.send(request("/large.bin", { fields: `If-None-Match: ${etag}\r\n` }));
      const fresh = await client.reply();
      assertEquals([fresh.status, fresh.headers.connection], [304, undefined]);
      client.send(request("/missing"));
      const lost = await client.reply();
      assertEquals([lost.status, lost.headers.connection], [404, undefined]);
      client.send(request("/large.bin", { fields: "Range: bytes=99999999-\r\n" }));
      assertEquals((await client.reply()).status, 416);
      client.send(request("/small.txt"));
      const small = await client.reply();
      assertEquals(small.headers.connection, undefined);
      assertSame(small.body, SMALL, "the small file");
      client.send(request("/large.bin", { fields: "Range: bytes=7-1006\r\n" }));
      assertSame((await client.reply()).body, LARGE.subarray(7, 1007), "the small range");
      assertEquals(place.ways, []);
      client.close();
    }),
  DENO,
);

test("invalid options are refused at once", () => {
  const handler = () => new Response();
  // deno-lint-ignore no-explicit-any -- what JavaScript may hand in
  const wrap = withSendfile as any;
  for (const wrong of [undefined, null, {}, "handler"]) assertThrows(() => wrap(wrong), TypeError);
  for (const threshold of ["1", null, {}, 1n]) assertThrows(() => wrap(handler, { threshold }), TypeError);
  for (const threshold of [-1, NaN, -Infinity]) assertThrows(() => wrap(handler, { threshold }), RangeError);
  for (const threshold of [0, 0.5, Infinity, undefined]) {
    assertEquals(typeof wrap(handler, { threshold }), "function");
  }
});

test("an onBody that is not a function is refused at once", () => {
  // deno-lint-ignore no-explicit-any -- what JavaScript may hand in
  const wrap = withSendfile as any;
  for (const onBody of ["x", 1, {}]) assertThrows(() => wrap(() => new Response(), { onBody }), TypeError);
});

test("an infinite threshold leaves all to the server", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/large.bin"));
    assertSame((await client.reply()).body, LARGE, "the file");
    client.close();
    assertEquals(place.ways, [native(BELOW)]);
  }, { threshold: Infinity }), DENO);

for (const path of ["/middle.bin", "/large.bin"]) {
  test(`an onBody that throws corrupts nothing (${path})`, () =>
    serving(async (place) => {
      const wire = await Transport.to({ port: place.port, host: "127.0.0.1" });
      wire.send(request(path, { fields: "Connection: close\r\n" }));
      const [head, body] = await wire.all();
      const content = fs.readFileSync(place.path(path.slice(1)));
      if (head.startsWith("HTTP/1.1 200")) {
        assertStringIncludes(head.toLowerCase(), `\r\ncontent-length: ${content.length}\r\n`);
        assert(body.length < content.length, "all came");
        assertSame(body, content.subarray(0, body.length), "what came");
      } else assertEquals(String(body), "failed");
      wire.close();
      await until(() => place.errors.length > 0, "the server to be told");
    }, {
      errors: /^Error: not today$/,
      onBody() {
        throw new Error("not today");
      },
    }), DENO);
}
