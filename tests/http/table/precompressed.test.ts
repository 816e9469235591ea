/** Which form of a file Accept-Encoding chooses, and what its head says of it. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { assertSame } from "../../support/http_client.ts";
import { missing } from "../../support/site.ts";
import { assertNotModified, assertStrong, assertUnsatisfiable, assertWhole } from "./assert_reply.ts";
import { CONTENT, each, type Fields, type Place } from "./place.ts";

const ENCODED: Record<string, string> = { br: "the br form", zstd: "the zstd form", gzip: "the gzip form" };
const SUFFIX: Record<string, string> = { br: "br", zstd: "zst", gzip: "gz" };
const PAGE = "<p>the page itself, longer than what comes of it";

/** A page with its precompressed siblings. Their content is plain text, by which the test tells them apart. */
function addEncoded(place: Place, encodings = Object.keys(ENCODED)): void {
  place.add("page.html", PAGE);
  for (const encoding of encodings) place.add(`page.html.${SUFFIX[encoding]}`, ENCODED[encoding]);
}

type Negotiation = [accept: string | undefined, encoding: string | undefined];

const ALL_FORMS: Negotiation[] = [
  [undefined, undefined],
  ["", undefined],
  ["identity", undefined],
  ["deflate", undefined],
  ["brotli, gzipped, xbr", undefined],
  ["br", "br"],
  ["zstd", "zstd"],
  ["gzip", "gzip"],
  ["GZip", "gzip"],
  ["gzip, deflate, br, zstd", "br"],
  ["gzip, zstd", "zstd"],
  ["*", "br"],
  ["gzip;q=1.0, br;q=0.5", "gzip"],
  ["gzip;q=0.5,br;q=0.6,zstd;q=0.55", "br"],
  ["gzip ; q=0.9 , br ; q=0.8", "gzip"],
  ["gzip;Q=0.9,br;Q=0.8", "gzip"],
  ["gzip;q=0.001", "gzip"],
  ["gzip;q=0", undefined],
  ["gzip;q=0.0, br;q=0.000", undefined],
  ["br;q=0, *", "zstd"],
  ["br;q=0, zstd;q=0, *;q=0.1", "gzip"],
  ["gzip, *;q=0", "gzip"],
  ["identity, gzip;q=0.5", undefined],
  ["identity;q=0.2, gzip;q=0.5", "gzip"],
  ["identity;q=0, gzip;q=0.1", "gzip"],
  ["identity;q=0, *", "br"],
  [",, gzip,,", "gzip"],
];

const GZIP_ONLY: Negotiation[] = [
  ["gzip, deflate, br, zstd", "gzip"],
  ["br;q=1, gzip;q=0.1", "gzip"],
  ["br", undefined],
  ["*", "gzip"],
];

/** Asks for the page, and checks which form was chosen and all fields that describe it. */
async function negotiate(place: Place, [accept, encoding]: Negotiation): Promise<void> {
  const fields: Fields = accept === undefined ? {} : { "Accept-Encoding": accept };
  const reply = await place.get("/page.html", fields);
  assertEquals(reply.headers["content-encoding"], encoding);
  assertWhole(reply, Buffer.from(encoding ? ENCODED[encoding] : PAGE));
  assertEquals(reply.headers["content-type"], "text/html; charset=utf-8");
  assertEquals(reply.headers.vary?.toLowerCase(), "accept-encoding");
  assertStrong(reply.headers.etag);
}

for (const row of ALL_FORMS) {
  each(
    `sends to "Accept-Encoding: ${row[0] ?? "(none)"}" ${row[1] ?? "the file itself"} of all forms`,
    async (place) => {
      addEncoded(place);
      await negotiate(place, row);
    },
    { options: { precompressed: true } },
  );
}

for (const row of GZIP_ONLY) {
  each(
    `sends to "Accept-Encoding: ${row[0]}" ${row[1] ?? "the file itself"} where gzip is all there is`,
    async (place) => {
      addEncoded(place, ["gzip"]);
      await negotiate(place, row);
    },
    { options: { precompressed: true } },
  );
}

each("says Vary where no form exists", async (place) => {
  place.add("page.html", PAGE);
  await negotiate(place, [undefined, undefined]);
  await negotiate(place, ["br, gzip", undefined]);
}, { options: { precompressed: true } });

each("offers the listed forms only, the first one first", async (place) => {
  addEncoded(place);
  await negotiate(place, ["br, gzip, zstd", "gzip"]);
  await negotiate(place, ["br;q=1, gzip;q=0.9, zstd;q=0.9", "gzip"]);
  await negotiate(place, ["br, zstd", "zstd"]);
  await negotiate(place, ["br", undefined]);
}, { options: { precompressed: ["gzip", "zstd"] } });

each("offers no form unless asked to, and compresses nothing itself", async (place) => {
  addEncoded(place);
  place.add("long.txt", "compressible ".repeat(10_000));
  const plain = await place.tag("/long.txt");
  for (const target of ["/page.html", "/long.txt"]) {
    const { headers } = await place.get(target, { "Accept-Encoding": "gzip, br, zstd" });
    assertEquals([headers["content-encoding"], headers.vary], [undefined, undefined], target);
  }
  assertEquals(await place.tag("/long.txt", { "Accept-Encoding": "gzip, br" }), plain);
});

each("gives each form a tag of its own, and 304 for that one only", async (place) => {
  addEncoded(place);
  const accepts: Fields[] = [{}, ...Object.keys(ENCODED).map((name) => ({ "Accept-Encoding": name }))];
  const tags = await Promise.all(accepts.map((fields) => place.tag("/page.html", fields)));
  assertEquals(new Set(tags).size, 4, String(tags));
  for (const [i, fields] of accepts.entries()) {
    for (const [j, tag] of tags.entries()) {
      const reply = await place.get("/page.html", { ...fields, "If-None-Match": tag });
      assertEquals(reply.status, i === j ? 304 : 200, `${JSON.stringify(fields)} ${tag}`);
      assertEquals(reply.headers.etag, tags[i]);
      assertEquals(reply.headers.vary?.toLowerCase(), "accept-encoding");
      if (i === j) assertNotModified(reply);
      assertEquals(
        (await place.get("/page.html", { ...fields, "If-Match": tag })).status,
        i === j ? 200 : 412,
      );
    }
  }
}, { options: { precompressed: true } });

each("gives forms of one size and time tags of their own", async (place) => {
  place.add("page.html", "1234");
  place.add("page.html.gz", "1234");
  place.add("page.html.br", "1234");
  const tags = [{}, { "Accept-Encoding": "gzip" }, { "Accept-Encoding": "br" }] as Fields[];
  const found = await Promise.all(tags.map((fields) => place.tag("/page.html", fields)));
  assertEquals(new Set(found).size, 3, String(found));
}, { options: { precompressed: true } });

each("sends ranges of the encoded form", async (place) => {
  const form = CONTENT.get(100_000)!;
  place.add("page.html", PAGE);
  place.add("page.html.gz", form);
  const accept = { "Accept-Encoding": "gzip" };
  const tag = await place.tag("/page.html", accept);
  const part = await place.get("/page.html", { ...accept, Range: "bytes=50000-", "If-Range": tag });
  assertEquals([part.status, part.headers["content-range"]], [206, "bytes 50000-99999/100000"]);
  assertSame(part.body, form.subarray(50_000), "the second half");
  assertEquals([part.headers["content-encoding"], part.headers.etag], ["gzip", tag]);
  assertEquals(part.headers.vary?.toLowerCase(), "accept-encoding");
  // Content-Encoding of a multipart response would apply to the parts' heads, too.
  const several = await place.get("/page.html", { ...accept, Range: "bytes=0-1,-2" });
  assertWhole(several, form);
  assertEquals(several.headers["content-encoding"], "gzip");
  assertUnsatisfiable(await place.get("/page.html", { ...accept, Range: "bytes=100000-" }), 100_000);
  const other = await place.get("/page.html", { Range: "bytes=0-1", "If-Range": tag });
  assertWhole(other, Buffer.from(PAGE));
}, { options: { precompressed: true } });

each("never sends a form from outside of the root, nor one that is no file", async (place) => {
  place.add("page.html", PAGE);
  fs.symlinkSync("../secret.txt", place.path("page.html.br"));
  fs.mkdirSync(place.path("page.html.zst"));
  assertEquals(spawnSync("mkfifo", [place.path("page.html.gz")]).status, 0);
  for (const name of ["br", "zstd", "gzip", "*"]) await negotiate(place, [name, undefined]);
}, { options: { precompressed: true }, skip: () => missing("mkfifo") });

each("sends a form of the index and of what stands for a page", async (place) => {
  for (const name of ["index.html", "about.html"]) {
    place.add(name, PAGE);
    place.add(`${name}.gz`, ENCODED.gzip);
  }
  const accept = { "Accept-Encoding": "gzip", Accept: "text/html" };
  for (const target of ["/", "/index.html", "/about", "/some/page"]) {
    const reply = await place.get(target, accept);
    assertEquals([reply.status, reply.headers["content-encoding"]], [200, "gzip"], target);
    assertEquals(String(reply.body), ENCODED.gzip);
    assertEquals(reply.headers["content-type"], "text/html; charset=utf-8");
  }
}, { options: { precompressed: true, spa: true, cleanUrls: true } });

each("serves a form by its own name as a file like any other", async (place) => {
  addEncoded(place);
  const { status, headers, body } = await place.get("/page.html.gz", { "Accept-Encoding": "gzip" });
  assertEquals([status, String(body)], [200, ENCODED.gzip]);
  assertEquals([headers["content-type"], headers["content-encoding"]], ["application/gzip", undefined]);
}, { options: { precompressed: true } });
