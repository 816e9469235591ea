/** serveStatic and sendFile among other middleware of node:http. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { sendFile, serveStatic } from "../../../http/node.ts";
import { test } from "../../support/harness.ts";
import { ask } from "../../support/http_client.ts";
import { type Options, startNode } from "../../support/http_servers.ts";
import { MIB, until } from "../../support/site.ts";
import { assertWhole } from "./assert_reply.ts";
import { CONTENT, type Fields, inPlace, type Place, SIZES } from "./place.ts";

type Next = (error?: unknown) => void;

/** A node:http server whose middleware is serveStatic, and behind it a handler that answers NEXT. */
async function withNext(
  body: (place: Place) => Promise<void>,
  options: Options & { fallthrough?: boolean } = {},
  change: (url: string) => { url: string; originalUrl?: string } = (url) => ({ url }),
): Promise<void> {
  await inPlace(async (place) => {
    const handler = serveStatic(place.root, options);
    place.server = await startNode((incoming, response) => {
      Object.assign(incoming, change(incoming.url!));
      response.setHeader("X-Before", "1");
      const next: Next = (error) => response.end(error ? `ERROR ${error}` : "NEXT");
      handler(incoming, response, next);
    });
    try {
      await body(place);
      assertEquals(place.server.errors, []);
    } finally {
      await place.server.close();
    }
  });
}

test("serveStatic leaves what it does not have to the next", () =>
  withNext(async (place) => {
    fs.symlinkSync("../secret.txt", place.path("out.txt"));
    assertWhole(await place.get("/10.bin"), CONTENT.get(10)!);
    for (const target of ["/missing", "/api/users?x", "/", "/out.txt", "/10.bin/", "/.env"]) {
      assertEquals(String((await place.get(target)).body), "NEXT", target);
    }
    const posted = await ask(place.port, "/api", { method: "POST", fields: "Content-Length: 0\r\n" });
    assertEquals(String(posted.body), "NEXT");
    assertEquals((await place.get("/10.bin", { "If-Match": '"x"' })).status, 412);
    assertEquals((await place.get("/10.bin", { Range: "bytes=10-" })).status, 416);
  }));

test("serveStatic tells the next what is wrong where fallthrough is false", () =>
  withNext(async (place) => {
    for (const target of ["/missing", "/"]) {
      assert(String((await place.get(target)).body).startsWith("ERROR NotFoundError: Not Found"), target);
    }
    assertEquals(String((await place.get("/%")).body), "ERROR BadRequestError: Bad Request");
    assertEquals((await place.get("/10.bin/")).status, 301);
    assertEquals((await ask(place.port, "/10.bin", { method: "DELETE" })).status, 405);
  }, { fallthrough: false }));

test("serveStatic keeps the headers that others have set", () =>
  withNext(async (place) => {
    place.sizes();
    for (const target of ["/10.bin", `/${3 * MIB}.bin`]) {
      for (const fields of [{}, { Range: "bytes=0-1" }, { "If-None-Match": "*" }] as Fields[]) {
        assertEquals((await place.get(target, fields)).headers["x-before"], "1");
      }
    }
  }));

test("serveStatic redirects below the path where it is mounted", () =>
  withNext(
    async (place) => {
      fs.mkdirSync(place.path("dir"));
      assertWhole(await place.get("/mount/10.bin"), CONTENT.get(10)!);
      const { status, headers } = await place.get("/mount/dir?q");
      assertEquals([status, headers.location], [301, "dir/?q"]);
      assertEquals((await place.get("//mount/dir")).headers.location, "../../mount/dir/");
    },
    {},
    (url) => ({ url: url.replace(/^\/?\/mount/, ""), originalUrl: url }),
  ));

test("sendFile resolves when the file is sent, and can follow what others did", () =>
  inPlace(async (place) => {
    const done: string[] = [];
    place.server = await startNode(async (incoming, response) => {
      response.setHeader("X-Before", "1");
      await sendFile(incoming, response, place.path(incoming.url!.slice(1)), { headers: ["X-After: 2"] });
      done.push(incoming.url!);
    });
    try {
      for (const size of place.sizes()) {
        const reply = await place.get(`/${size}.bin`);
        assertWhole(reply, CONTENT.get(size)!);
        assertEquals([reply.headers["x-before"], reply.headers["x-after"]], ["1", "2"]);
      }
      await until(() => done.length === SIZES.length, "sendFile to resolve");
      assertEquals(done, SIZES.map((size) => `/${size}.bin`));
      assertEquals(place.server.errors, []);
    } finally {
      await place.server.close();
    }
  }));
