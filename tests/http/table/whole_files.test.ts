/** A whole file: its bytes, its type, its name in a URL. */
import { assert, assertEquals } from "@std/assert";
import { assertSame } from "../../support/http_client.ts";
import { MIB } from "../../support/site.ts";
import { assertPartial, assertStrong, assertWhole, essential } from "./assert_reply.ts";
import { CONTENT, each, LAST_MODIFIED, SIZES } from "./place.ts";

for (const size of [0, ...SIZES]) {
  each(`sends a file of ${size} bytes, its head exact`, async (place) => {
    const content = place.add(`${size}.bin`, CONTENT.get(size) ?? "");
    const { status, headers, body } = await place.get(`/${size}.bin?query=/../#`);
    assertEquals(status, 200);
    assertSame(body, content, "the body");
    const { etag, "content-disposition": disposition, ...rest } = essential(headers);
    assertStrong(etag);
    // Bun adds a file's name unless the field is there.
    assert(disposition === undefined || (place.kind.name === "Bun.serve" && disposition === "inline"));
    assertEquals(rest, {
      "accept-ranges": "bytes",
      "content-length": `${size}`,
      "content-type": "application/octet-stream",
      "last-modified": LAST_MODIFIED,
    });
  });
}

const TYPES: Record<string, string> = {
  "a.html": "text/html; charset=utf-8",
  "a.HTM": "text/html; charset=utf-8",
  "a.css": "text/css; charset=utf-8",
  "a.js": "text/javascript; charset=utf-8",
  "a.mjs": "text/javascript; charset=utf-8",
  "a.txt": "text/plain; charset=utf-8",
  "a.svg": "image/svg+xml",
  "a.png": "image/png",
  "a.avif": "image/avif",
  "a.woff2": "font/woff2",
  "a.wasm": "application/wasm",
  "a.mp4": "video/mp4",
  "a.tar.gz": "application/gzip",
  "a.unheard-of": "application/octet-stream",
  "a.svgz": "image/svg+xml",
  "README": "text/plain; charset=utf-8",
};

each("gives each file its type", async (place) => {
  for (const [name, type] of Object.entries(TYPES)) {
    place.add(name, "x");
    assertEquals((await place.get(`/${name}`)).headers["content-type"], type, name);
  }
});

each("finds names with spaces, signs and letters of any script", async (place) => {
  const names = [
    "a b.txt",
    "100%.txt",
    "a+b&c=d.txt",
    "#.txt",
    "q?.txt",
    "ä.txt",
    "文.txt",
    "😀.txt",
    "a;b,c.txt",
  ];
  for (const name of names) {
    const content = place.add(name, `this is ${name}`);
    assertWhole(await place.get(`/${encodeURIComponent(name)}`), content);
  }
});

for (const rateLimit of [16 * MIB, 1e12]) {
  each(`sends the same bytes at ${rateLimit} a second`, async (place) => {
    const replies = await place.inTurn(place.sizes().map((size) => [`/${size}.bin`, {}]));
    replies.forEach((reply, i) => assertWhole(reply, CONTENT.get(SIZES[i])!));
    const [part] = await place.inTurn([[`/${3 * MIB}.bin`, { Range: `bytes=${MIB}-` }]]);
    assertPartial(part, CONTENT.get(3 * MIB)!, [[MIB, 3 * MIB - 1]], false);
  }, { options: { rateLimit } });
}
