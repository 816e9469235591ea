/** The header fields that options add: caching, CORS, the caller's own. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ask } from "../../support/http_client.ts";
import { each, MODIFIED } from "./place.ts";

each("sends cacheControl as it is", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "no-store");
  assertEquals((await place.get("/10.bin", { Range: "bytes=0-1" })).headers["cache-control"], "no-store");
}, { options: { cacheControl: "no-store" } });

each("lets caches keep a file for maxAge", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "public, max-age=60");
}, { options: { maxAge: 60 } });

each("takes a maxAge of 0 for one", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "public, max-age=0");
}, { options: { maxAge: 0 } });

each("says immutable", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "public, max-age=9, immutable");
  const missed = (await place.get("/missing")).headers["cache-control"] ?? "";
  assert(!missed.includes("max-age"), "a 404 is not kept");
}, { options: { maxAge: 9, immutable: true } });

each("adds header lines to every response", async (place) => {
  for (
    const [target, fields] of [["/10.bin", {}], ["/10.bin", { Range: "bytes=0-1" }], [
      "/missing",
      {},
    ]] as const
  ) {
    const { headers } = await place.get(target, fields);
    assertEquals([headers["x-one"], headers["x-two"]], ["1", "a: b, c"], target);
  }
  assertEquals((await place.head("/10.bin")).headers["x-one"], "1");
  assertEquals((await place.get("/10.bin")).headers["content-type"], "text/x-own");
}, { options: { headers: ["X-One: 1", "x-two: a: b, c", "Content-Type: text/x-own"] } });

each("adds the headers that a function gives for the file", async (place) => {
  const content = place.add("sub/index.html", "index");
  const { status, headers, body } = await place.get("/sub/");
  assertEquals([status, String(body)], [200, "index"]);
  assertEquals(headers["x-path"], place.path("sub/index.html"));
  assertEquals(headers["x-stat"], `${content.length} ${MODIFIED.toISOString()}`);
  assertEquals(headers["cache-control"], "no-cache");
  assertEquals((await place.get("/missing")).headers["x-path"], undefined);
}, {
  options: {
    maxAge: 5,
    headers: (path, { size, mtime }) => ({
      "X-Path": path,
      "X-Stat": `${size} ${mtime.toISOString()}`,
      "Cache-Control": "no-cache",
    }),
  },
});

each("takes Headers and pairs from the function too", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["x-form"], "headers");
  assertEquals((await place.get("/100000.bin")).headers["x-form"], "pairs");
}, {
  options: {
    headers: (path) =>
      path.endsWith("/10.bin") ? new Headers({ "X-Form": "headers" }) : [["X-Form", "pairs"]],
  },
});

each("lets other origins in where enableCors says so", async (place) => {
  for (const target of ["/10.bin", "/missing"]) {
    const { headers } = await place.get(target, { Origin: "https://other.example" });
    assertEquals(headers["access-control-allow-origin"], "*", target);
    assertStringIncludes(headers["access-control-allow-headers"], "Range");
  }
  const preflight = await ask(place.port, "/10.bin", {
    method: "OPTIONS",
    fields: "Origin: https://other.example\r\nAccess-Control-Request-Method: GET\r\n",
  });
  assertEquals([preflight.status, preflight.headers["access-control-allow-origin"]], [204, "*"]);
}, { options: { enableCors: true } });

each("lets no other origin in by itself", async (place) => {
  const { headers } = await place.get("/10.bin", { Origin: "https://other.example" });
  assertEquals(Object.keys(headers).filter((name) => name.startsWith("access-control")), []);
});
