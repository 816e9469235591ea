/** withSendfile around applications of Hono. */
import { assertEquals } from "@std/assert";
import { Hono } from "hono";
import { compress } from "hono/compress";
import { secureHeaders } from "hono/secure-headers";
import { gunzipSync } from "node:zlib";
import { serveDir } from "../../../http/mod.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import {
  assertMoved,
  DENO,
  LARGE,
  only,
  OTHER,
  type Place,
  serving,
  type Setup,
  TEXT,
} from "../../support/with_sendfile.ts";

function hono(set: (app: Hono, place: Place) => void): Setup {
  return {
    handler(place) {
      const app = new Hono();
      set(app, place);
      app.get("/*", (c) => serveDir(c.req.raw, { fsRoot: place.root, quiet: true }));
      return (request, info) => app.fetch(request, info);
    },
  };
}

test("Hono: middleware that adds fields leaves a file to sendfile", () =>
  serving(
    async (place) => {
      const { headers, body } = await only(place.port, request("/large.bin"));
      assertEquals([headers["x-frame-options"], headers["x-own"]], ["SAMEORIGIN", "yes"]);
      assertSame(body, LARGE, "the file");
      assertMoved(place, LARGE.length);
    },
    hono((app) => {
      app.use(secureHeaders());
      app.use(async (c, next) => {
        await next();
        c.header("X-Own", "yes");
      });
    }),
  ), DENO);

test("Hono: a HEAD gets a head, and the connection is kept", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    for (let i = 0; i < 2; i++) {
      client.send(request("/large.bin", { method: "HEAD" }));
      const { headers } = await client.reply({ bodiless: true });
      assertEquals([headers.connection, headers["content-length"]], [undefined, `${LARGE.length}`]);
    }
    client.close();
    assertEquals(place.ways, []);
  }, hono(() => {})), DENO);

test(
  "Hono: a compressing middleware's bytes are sent, and other files go by sendfile",
  () =>
    serving(async (place) => {
      const fields = "Accept-Encoding: gzip\r\n";
      const client = await Client.to(place.port);
      client.send(request("/text.txt", { fields }));
      const { headers, body } = await client.reply();
      assertEquals(headers["content-encoding"], "gzip");
      assertSame(gunzipSync(body), TEXT, "the text");
      client.close();
      assertEquals(place.ways, []);
      assertSame((await only(place.port, request("/large.bin", { fields }))).body, LARGE, "the file");
      assertMoved(place, LARGE.length);
    }, hono((app) => app.use(compress()))),
  DENO,
);

test("Hono: another body in the place of a file's is sent", () =>
  serving(
    async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin"));
      assertSame((await client.reply()).body, OTHER, "the other");
      client.close();
      assertEquals(place.ways, []);
    },
    hono((app) =>
      app.use(async (c, next) => {
        await next();
        const { body, status, headers } = c.res;
        await body!.cancel();
        c.res = new Response(OTHER, { status, headers });
      })
    ),
  ), DENO);
