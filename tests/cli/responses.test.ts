/** Files, HEAD and many requests on one connection to the command's server. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { LARGE, MIB, serving, SIZES } from "../support/site.ts";

for (const size of SIZES) {
  test(`serve sends a file of ${size} bytes, its head exact`, () =>
    serving(async ({ port }, site) => {
      const reply = await ask(port, `/${size}.bin`);
      assertEquals(reply.status, 200);
      assertSame(reply.body, site.files.get(`/${size}.bin`)!, "the body");
      const { date: _, connection: __, etag, ...headers } = reply.headers;
      assert(/^"[\w.-]+"$/.test(etag), etag);
      assertEquals(headers, {
        "accept-ranges": "bytes",
        "content-length": String(size),
        "content-type": "application/octet-stream",
        "last-modified": fs.statSync(site.path(`${size}.bin`)).mtime.toUTCString(),
      });
      const head = await ask(port, `/${size}.bin`, { method: "HEAD" });
      assertEquals(head.status, 200);
      assertEquals(head.headers["content-length"], String(size));
      assertEquals(head.headers["last-modified"], headers["last-modified"]);
      assertEquals(head.headers.etag, etag);
    }));
}

test("serve keeps a connection through files, errors and HEAD", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    try {
      for (let round = 0; round < 3; round++) {
        for (const [target, content] of site.files) {
          client.send(request(target));
          const { status, body } = await client.reply();
          assertEquals(status, 200);
          assertSame(body, content, target);
          client.send(request(target, { method: "HEAD" }));
          assertEquals(
            (await client.reply({ bodiless: true })).headers["content-length"],
            `${content.length}`,
          );
          client.send(request("/missing"));
          assertEquals((await client.reply()).status, 404);
        }
      }
    } finally {
      client.close();
    }
  }));

for (const [where, at] of [["first", 0], ["in the middle", 2], ["last", 4]] as const) {
  const targets = ["/1.bin", "/4096.bin", "/0.bin", "/missing"];
  targets.splice(at, 0, LARGE);

  test(
    `serve answers pipelined requests in order, the large file ${where}`,
    () =>
      serving(async ({ port }, site) => {
        const client = await Client.to(port);
        try {
          client.send(...targets.map((target) => request(target)));
          for (const target of targets) {
            const { status, body } = await client.reply();
            assertEquals(status, target === "/missing" ? 404 : 200);
            if (status === 200) assertSame(body, site.files.get(target)!, target);
          }
          client.send(request("/1.bin"));
          assertEquals((await client.reply()).status, 200);
        } finally {
          client.close();
        }
      }),
  );
}

test("serve answers HEAD between pipelined requests", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    try {
      client.send(request("/1.bin"), request(LARGE, { method: "HEAD" }), request("/4096.bin"));
      assertSame((await client.reply()).body, site.files.get("/1.bin")!, "first");
      assertEquals((await client.reply({ bodiless: true })).headers["content-length"], String(20 * MIB));
      assertSame((await client.reply()).body, site.files.get("/4096.bin")!, "last");
    } finally {
      client.close();
    }
  }));

test("serve answers thousands of requests that were sent at once, in order", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    const targets = Array.from({ length: 5000 }, (_, i) => i === 10 ? LARGE : `/${[0, 1, 4096][i % 3]}.bin`);
    client.send(targets.map((target) => request(target)).join(""));
    for (const target of targets) {
      const { status, body } = await client.reply();
      assertEquals(status, 200);
      assertSame(body, site.files.get(target)!, target);
    }
    client.close();
  }));

test("serve ends the connection after Connection: close and after HTTP/1.0", () =>
  serving(async ({ port }, site) => {
    for (const target of ["/4096.bin", LARGE]) {
      for (const options of [{ fields: "Connection: close\r\n" }, { version: "1.0" }]) {
        const client = await Client.to(port);
        client.send(request(target, options));
        assertSame((await client.reply()).body, site.files.get(target)!, target);
        assertEquals((await client.rest()).length, 0);
        client.close();
      }
    }
  }));

test("serve keeps an HTTP/1.0 connection that asks for it", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    for (let i = 0; i < 3; i++) {
      client.send(request("/4096.bin", { version: "1.0", fields: "Connection: keep-alive\r\n" }));
      assertSame((await client.reply()).body, site.files.get("/4096.bin")!, `${i}`);
    }
    client.close();
  }));
