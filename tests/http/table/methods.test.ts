/** HEAD, OPTIONS, the methods that are refused, and bodies that must not be taken for requests. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { assertAllow, assertWhole, essential } from "./assert_reply.ts";
import { CONTENT, each } from "./place.ts";

each("answers HEAD with the head of GET", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.add("dir/a.txt", "x");
  place.add("page.html", "<p>");
  place.add("page.html.gz", "gz");
  place.add("sub/index.html", "sub");
  place.add("0.bin", "");
  const targets = [
    "/0.bin",
    ...place.sizes().map((size) => `/${size}.bin`),
    "/page.html",
    "/sub/",
    "/sub",
    "/dir/",
  ];
  targets.push("/missing", "/%", "/10.bin/", "//x");
  const client = await Client.to(place.port);
  for (const target of targets) {
    for (
      const fields of [
        "",
        "Accept-Encoding: gzip\r\n",
        "Accept-Encoding: identity\r\n",
        "If-None-Match: *\r\n",
      ]
    ) {
      client.send(request(target, { fields }));
      const get = place.wellFormed(await client.reply());
      client.send(request(target, { fields, method: "HEAD" }));
      const head = place.wellFormed(await client.reply({ bodiless: true }));
      assertEquals(head.status, get.status, target);
      assertEquals(essential(head.headers), essential(get.headers), `${target} ${fields}`);
    }
  }
  client.close();
}, { options: { precompressed: true, showDirListing: true, maxAge: 1, enableCors: true } });

each("answers OPTIONS with 204 and what is allowed", async (place) => {
  const client = await Client.to(place.port);
  for (const target of ["/", "/10.bin", "/missing"]) {
    client.send(request(target, { method: "OPTIONS" }), request("/10.bin"));
    const { status, headers } = place.wellFormed(await client.reply());
    assertEquals([status, headers["content-length"], headers["content-type"]], [204, undefined, undefined]);
    assertAllow(headers.allow);
    assertSame((await client.reply()).body, CONTENT.get(10)!, "behind it");
  }
  client.close();
});

for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
  each(`answers ${method} with 405, and does not take its body for a request`, async (place) => {
    const body = request("/smuggled.txt");
    place.add("smuggled.txt", "SMUGGLED");
    const framed: string[] = [
      request("/10.bin", { method, fields: "Content-Length: 0\r\n" }),
      request("/10.bin", { method, fields: `Content-Length: ${body.length}\r\n` }) + body,
      request("/10.bin", { method, fields: "Transfer-Encoding: chunked\r\n" }) +
      `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
      request("/missing", { method, fields: `Content-Length: ${body.length * 9000}\r\n` }) +
      body.repeat(9000),
    ];
    for (const text of framed) {
      const client = await Client.to(place.port);
      client.send(text);
      const { status, headers } = place.wellFormed(await client.reply());
      assertEquals(status, 405);
      assertAllow(headers.allow);
      client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
      const rest = await client.rest();
      client.close();
      assert(!rest.includes("SMUGGLED") && !rest.includes("HTTP/1.1 404"), String(rest));
      // A server may close the connection instead of reading the body, but must announce it.
      if (rest.length === 0) {
        assertEquals(headers.connection?.toLowerCase(), "close", `after ${text.length} bytes`);
      } else assertSame(rest.subarray(-10), CONTENT.get(10)!, "behind it");
    }
  });
}

each("reads over the body of a GET", async (place) => {
  const body = request("/smuggled.txt");
  place.add("smuggled.txt", "SMUGGLED");
  for (const size of place.sizes()) {
    const client = await Client.to(place.port);
    client.send(request(`/${size}.bin`, { fields: `Content-Length: ${body.length}\r\n` }), body);
    assertWhole(place.wellFormed(await client.reply()), CONTENT.get(size)!);
    client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
    const rest = await client.rest();
    assert(!rest.includes("SMUGGLED"), String(rest));
    client.close();
  }
});
