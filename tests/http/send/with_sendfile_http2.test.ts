/** withSendfile: HTTP/2 without TLS. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as http2 from "node:http2";
import { test } from "../../support/harness.ts";
import { DATA as DATA_FRAME, GOAWAY, Http2, RST_STREAM } from "../../support/http2_raw.ts";
import { assertSame } from "../../support/http_client.ts";
import { DENO, LARGE, native, NOT_FIRST, serving, SMALL } from "../../support/with_sendfile.ts";

function h2Get(session: http2.ClientHttp2Session, path: string, fields = {}): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path, ...fields });
    const chunks: Buffer[] = [];
    stream.on("data", (chunk) => chunks.push(Buffer.from(chunk)));
    stream.on("end", () => resolve(Buffer.concat(chunks)));
    stream.on("error", reject);
    stream.end();
  });
}

test("HTTP/2 without TLS is the server's, and files are whole", () =>
  serving(async (place) => {
    const session = http2.connect(`http://127.0.0.1:${place.port}`);
    try {
      assertSame(await h2Get(session, "/large.bin"), LARGE, "the first");
      assertSame(await h2Get(session, "/large.bin", { host: "other" }), LARGE, "beside a field Host");
      assertSame(await h2Get(session, "/small.txt"), SMALL, "a small one");
    } finally {
      session.destroy();
    }
    assertEquals(place.ways, Array(2).fill(native(NOT_FIRST)));
    assertEquals(place.moved(), 0);
  }), DENO);

test(
  "thirty files at once on one HTTP/2 connection are the server's, and whole",
  () =>
    serving(async (place) => {
      const session = http2.connect(`http://127.0.0.1:${place.port}`);
      try {
        const bodies = await Promise.all(Array.from({ length: 30 }, () => h2Get(session, "/large.bin")));
        for (const body of bodies) assertSame(body, LARGE, "a file");
      } finally {
        session.destroy();
      }
      assertEquals(place.ways, Array(30).fill(native(NOT_FIRST)));
      assertEquals(place.moved(), 0);
    }),
  DENO,
);

test(
  "nothing but frames comes on an HTTP/2 connection, whatever fields its requests have",
  () =>
    serving(async (place) => {
      const names = ["connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"];
      for (const first of [true, false]) {
        for (const name of names) {
          const client = await Http2.to(place.port);
          let stream = 1;
          if (!first) {
            client.get(stream, "/small.txt");
            assertSame(await client.body(stream), SMALL, "the small file");
            stream += 2;
          }
          client.get(stream, "/large.bin", [[name, name === "transfer-encoding" ? "chunked" : "keep-alive"]]);
          await client.until((frame) => frame.type === RST_STREAM || frame.type === GOAWAY);
          const given = client.frames.filter(({ type, stream: of }) => type === DATA_FRAME && of === stream);
          assertEquals(given, []);
          const lost = client.frames.some(({ type }) => type === GOAWAY);
          if (!lost) {
            client.get(stream + 2, "/large.bin");
            assertSame(await client.body(stream + 2), LARGE, "the large file");
            await client.settled();
          }
          client.close();
        }
      }
      assert(place.ways.every(({ via, reason }) => via === "native" && reason === NOT_FIRST));
      assertEquals(place.moved(), 0);
    }),
  DENO,
);

test(
  "an HTTP/2 connection that begins with a forbidden field and a large file carries nothing but frames",
  () =>
    serving(async (place) => {
      const client = await Http2.to(place.port);
      client.get(1, "/large.bin", [["connection", "keep-alive"]]);
      client.get(3, "/large.bin", [["te", "trailers"]]);
      client.get(5, "/large.bin", [["te", "gzip"]]);
      assertSame(await client.body(3), LARGE, "the large file");
      await client.settled();
      client.close();
      assertEquals(place.moved(), 0);
    }),
  DENO,
);
