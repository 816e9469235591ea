/** serveDir and serveFile called without a server: the Response that they give. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { serveDir, serveFile } from "../../../http/mod.ts";
import { test } from "../../support/harness.ts";
import { assertSame, parseMultipart } from "../../support/http_client.ts";
import { CONTENT, inPlace, LARGE, largeContent } from "./place.ts";

test("serveDir and serveFile give a Response that can be read without a server", () =>
  inPlace(async (place) => {
    for (const size of place.sizes()) {
      const content = CONTENT.get(size)!;
      const url = `http://test/${size}.bin`;
      const whole = await serveDir(new Request(url), { fsRoot: place.root, quiet: true });
      assertEquals([whole.status, whole.headers.get("accept-ranges")], [200, "bytes"]);
      assertSame(Buffer.from(await whole.arrayBuffer()), content, "the whole");
      const part = await serveFile(
        new Request(url, { headers: { Range: "bytes=3-7" } }),
        place.path(`${size}.bin`),
      );
      assertEquals([part.status, part.headers.get("content-range")], [206, `bytes 3-7/${size}`]);
      assertSame(Buffer.from(await part.arrayBuffer()), content.subarray(3, 8), "a part");
      const headers = { Range: "bytes=0-1,-2" };
      const parts = await serveFile(new Request(url, { headers }), place.path(`${size}.bin`));
      const body = Buffer.from(await parts.arrayBuffer());
      const [one, two, ...others] = parseMultipart(parts.headers.get("content-type")!, body);
      assertEquals([one.span, two.span, others], [[0, 1], [size - 2, size - 1], []]);
      assertSame(one.body, content.subarray(0, 2), "the first part");
      assertSame(two.body, content.subarray(-2), "the second part");
    }
  }));

test("serveDir keeps no file of a body that is cancelled, nor of one that nobody wants", () =>
  inPlace(async (place) => {
    const large = place.add(`${LARGE}.bin`, largeContent());
    const options = { fsRoot: place.root, quiet: true };
    const response = await serveDir(new Request(`http://test/${LARGE}.bin`), options);
    const reader = response.body!.getReader();
    const { value } = await reader.read();
    assertSame(Buffer.from(value!), large.subarray(0, value!.length), "the beginning");
    await reader.cancel();
    await (await serveDir(new Request(`http://test/${LARGE}.bin`), options)).body!.cancel();
    const head = await serveDir(new Request(`http://test/${LARGE}.bin`, { method: "HEAD" }), options);
    assertEquals(head.body, null);
  }));

test("serveDir takes a root that is a symlink itself", () =>
  inPlace(async (place) => {
    fs.symlinkSync("root", join(place.base, "link"));
    const fsRoot = join(place.base, "link");
    const response = await serveDir(new Request("http://test/10.bin"), { fsRoot, quiet: true });
    assertSame(Buffer.from(await response.arrayBuffer()), CONTENT.get(10)!, "by the link");
  }));

test("serveDir leaves what it does not have to fallthrough", () =>
  inPlace(async (place) => {
    fs.symlinkSync("../secret.txt", place.path("out.txt"));
    const fallthrough = ({ method }: Request) =>
      Promise.resolve(new Response(`NEXT ${method}`, { status: 299 }));
    const options = { fsRoot: place.root, quiet: true, fallthrough };
    const asked: [string, string, number][] = [
      ["GET", "/10.bin", 200],
      ["GET", "/missing", 299],
      ["HEAD", "/missing", 299],
      ["GET", "/", 299],
      ["GET", "/out.txt", 299],
      ["POST", "/api", 299],
    ];
    for (const [method, target, status] of asked) {
      const response = await serveDir(new Request(`http://test${target}`, { method }), options);
      assertEquals(response.status, status, `${method} ${target}`);
      if (status === 299) assertEquals(await response.text(), `NEXT ${method}`);
      else await response.body?.cancel();
    }
    const failed = await serveDir(
      new Request("http://test/10.bin", { headers: { "If-Match": '"x"' } }),
      options,
    );
    assertEquals(failed.status, 412);
  }));
