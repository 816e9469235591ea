/** One file, whatever the URL says. */
import { assert, assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { ask } from "../../support/http_client.ts";
import { missing } from "../../support/site.ts";
import {
  assertAllow,
  assertNotModified,
  assertPartial,
  assertUnsatisfiable,
  assertWhole,
} from "./assert_reply.ts";
import { CONTENT, each, LAST_MODIFIED, SIZES } from "./place.ts";

for (const size of SIZES) {
  each(`sends the one file of ${size} bytes whatever the URL says`, async (place) => {
    const content = place.add(`${size}.bin`, CONTENT.get(size)!);
    for (const target of ["/", "/anything?q", "/%zz", "//x", "/../.."]) {
      assertWhole(await place.get(target), content);
    }
    const { headers } = await place.get("/");
    assertEquals([headers["content-type"], headers["last-modified"]], [
      "application/octet-stream",
      LAST_MODIFIED,
    ]);
    assertEquals((await place.head("/")).headers["content-length"], `${size}`);
    assertPartial(await place.get("/", { Range: "bytes=2-6" }), content, [[2, 6]], false);
    assertPartial(
      await place.get("/", { Range: "bytes=0-1,-2" }),
      content,
      [[0, 1], [size - 2, size - 1]],
      true,
    );
    assertUnsatisfiable(await place.get("/", { Range: `bytes=${size}-` }), size);
    assertNotModified(await place.get("/", { "If-None-Match": headers.etag }));
    assertEquals((await place.get("/", { "If-Match": '"x"' })).status, 412);
    const refused = await ask(place.port, "/", { method: "POST", fields: "Content-Length: 0\r\n" });
    assertEquals(refused.status, 405);
    assertAllow(refused.headers.allow);
  }, { file: `${size}.bin` });
}

each("takes the options with the one file too", async (place) => {
  place.add("10.bin.gz", "gz");
  const { headers, body } = await place.get("/", { "Accept-Encoding": "gzip" });
  assertEquals([headers["content-encoding"], String(body)], ["gzip", "gz"]);
  assertEquals([headers["cache-control"], headers["x-own"]], ["public, max-age=7", "1"]);
}, { file: "10.bin", options: { precompressed: true, maxAge: 7, headers: ["X-Own: 1"] } });

for (const file of ["missing", "dir", "pipe", "10.bin/x"]) {
  each(`answers 404 where the one file is ${file}`, async (place) => {
    fs.mkdirSync(place.path("dir"));
    assertEquals(spawnSync("mkfifo", [place.path("pipe")]).status, 0);
    for (const reply of [await place.get("/"), await place.head("/")]) {
      assertEquals(reply.status, 404);
      assert(!reply.body.includes(place.root), String(reply.body));
    }
  }, { file, skip: () => missing("mkfifo") });
}
