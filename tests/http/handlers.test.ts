/** serveFile and serveDir as functions: a plain Request in, a Response out, without any server. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { pathToFileURL } from "node:url";
import { replaceLibc } from "../../ffi/load.ts";
import { serveDir, serveFile } from "../../http/mod.ts";
import { serveStatic } from "../../http/node.ts";
import { assertBytes, bytes, folder, openBelow, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { parseMultipart } from "../support/http_client.ts";
import { noProc } from "../support/site.ts";

const SIZES = { "none.bin": 0, "small.bin": 1000, "middle.bin": 100_000, "large.bin": 3_000_000 };

async function withFiles(body: (root: string) => Promise<void>): Promise<void> {
  const root = fs.realpathSync(folder());
  try {
    for (const [name, size] of Object.entries(SIZES)) fs.writeFileSync(join(root, name), bytes(size));
    fs.writeFileSync(join(root, "index.html"), "<p>index");
    await body(root);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

function get(path: string, headers: HeadersInit = {}, method = "GET"): Request {
  return new Request(`http://localhost${path}`, { headers, method });
}

async function bodyOf(response: Response): Promise<Uint8Array> {
  return new Uint8Array(await response.arrayBuffer());
}

test("serveFile gives a plain Request the file, a range, several, and a head", () =>
  withFiles(async (root) => {
    for (const [name, size] of Object.entries(SIZES)) {
      const path = join(root, name);
      const whole = await serveFile(get("/"), path);
      assertEquals([whole.status, whole.headers.get("content-length")], [200, `${size}`]);
      assertBytes(await bodyOf(whole), bytes(size));
      const head = await serveFile(get("/", {}, "HEAD"), pathToFileURL(path));
      assertEquals([head.headers.get("content-length"), (await bodyOf(head)).length], [`${size}`, 0]);
      if (size === 0) continue;
      const [from, to] = [Math.floor(size / 3), size - 10];
      const part = await serveFile(get("/", { Range: `bytes=${from}-${to}` }), path);
      assertEquals([part.status, part.headers.get("content-range")], [206, `bytes ${from}-${to}/${size}`]);
      assertBytes(await bodyOf(part), bytes(size).subarray(from, to + 1));
      const end = await serveFile(get("/", { Range: `bytes=${from}-` }), path);
      assertBytes(await bodyOf(end), bytes(size).subarray(from));
      const several = await serveFile(get("/", { Range: `bytes=0-9,${from}-${to}` }), path);
      const parts = parseMultipart(
        several.headers.get("content-type")!,
        Buffer.from(await several.arrayBuffer()),
      );
      assertEquals(parts.map(({ span }) => span), [[0, 9], [from, to]]);
      for (const { span: [first, last], body } of parts) {
        assertBytes(body, bytes(size).subarray(first, last + 1));
      }
    }
  }));

test("a file that is replaced while its response is made sends the bytes that the head describes", () =>
  withFiles(async (root) => {
    const path = join(root, "large.bin");
    const [old, other] = [fs.readFileSync(path), bytes(SIZES["large.bin"], 9)];
    const replace = () => {
      fs.writeFileSync(join(root, "new.bin"), other);
      fs.renameSync(join(root, "new.bin"), path);
      return {};
    };
    const remove = () => (fs.rmSync(path), {});
    for (const way of [replace, remove]) {
      for (const range of [undefined, "bytes=5-", "bytes=5-2000000"]) {
        for (const serve of [serveFile, serveDir]) {
          fs.writeFileSync(path, old);
          const request = get("/large.bin", range ? { Range: range } : {});
          const options = { headers: way, fsRoot: root, quiet: true };
          const response = serve === serveDir
            ? await serveDir(request, options)
            : await serveFile(request, path, { headers: way });
          const [from, to] = range ? [5, range.endsWith("-") ? old.length : 2_000_001] : [0, old.length];
          assertBytes(await bodyOf(response), old.subarray(from, to));
        }
      }
    }
  }));

test("a file that is replaced after its response was made is sent from the original file to the end", () =>
  withFiles(async (root) => {
    const path = join(root, "large.bin");
    const old = fs.readFileSync(path);
    const etag = (await serveFile(get("/", {}, "HEAD"), path)).headers.get("etag")!;
    const response = await serveFile(get("/", { Range: "bytes=5-", "If-Range": etag }), path);
    fs.writeFileSync(join(root, "new.bin"), bytes(old.length, 9));
    fs.renameSync(join(root, "new.bin"), path);
    assertEquals([response.status, response.headers.get("etag")], [206, etag]);
    assertBytes(await bodyOf(response), old.subarray(5));
  }));

test(
  "a body that is not read to its end leaves no file open",
  () =>
    withFiles(async (root) => {
      const path = join(root, "large.bin");
      const ranges = ["bytes=5-2000000", "bytes=5-1000000,2000000-", "bytes=5-"];
      for (const headers of [{}, ...ranges.map((Range) => ({ Range }))]) {
        for (const options of [{}, { rateLimit: 1_000_000 }]) {
          const unread = await serveFile(get("/", headers), path, options);
          await unread.body!.cancel();
          const begun = (await serveFile(get("/", headers), path, options)).body!.getReader();
          assert((await begun.read()).value!.length > 0);
          await begun.cancel();
        }
      }
      await until("every file is closed", () => openBelow(root).length === 0);
    }),
  { skip: noProc },
);

test("a response without a body leaves no file open", () =>
  withFiles(async (root) => {
    const path = join(root, "large.bin");
    const tag = (await serveFile(get("/", {}, "HEAD"), path)).headers.get("etag")!;
    assertEquals((await serveFile(get("/", { "If-None-Match": tag }), path)).status, 304);
    assertEquals((await serveFile(get("/", { "If-Match": '"x"' }), path)).status, 412);
    assertEquals((await serveFile(get("/", { Range: "bytes=9999999-" }), path)).status, 416);
    await assertRejects(() =>
      serveFile(get("/"), path, {
        headers() {
          throw new Error("no header today");
        },
      })
    );
    assertEquals(openBelow(root), []);
  }), { skip: noProc });

test(
  "a file truncated while it is streamed is an error, never a shorter body",
  () =>
    withFiles(async (root) => {
      const path = join(root, "large.bin");
      for (const headers of [{ Range: "bytes=0-2999998" }, { Range: "bytes=0-9,20-2999998" }]) {
        fs.writeFileSync(path, bytes(SIZES["large.bin"]));
        const reader = (await serveFile(get("/", headers), path, { rateLimit: 1e9 })).body!.getReader();
        await reader.read();
        fs.truncateSync(path, 200_000);
        await assertRejects(async () => {
          while (!(await reader.read()).done);
        });
      }
      assertEquals(openBelow(root), []);
    }),
  { skip: noProc },
);

test("the ETag contains the nanoseconds if libc is available", () =>
  withFiles(async (root) => {
    const path = join(root, "small.bin");
    const tag = async () => (await serveFile(get("/"), path)).headers.get("etag");
    const first = await tag();
    fs.utimesSync(path, 1, 1_234_567_890.25);
    const second = await tag();
    assert(first !== second);
    assertEquals(second, '"3e8-499602d2.ee6b280"');
    replaceLibc("off, for this test");
    try {
      assertEquals(await tag(), second); // a quarter of a second is whole milliseconds
    } finally {
      replaceLibc(undefined);
    }
  }));

test("serveDir passes only missing paths to another handler", () =>
  withFiles(async (root) => {
    const options = {
      fsRoot: root,
      quiet: true,
      fallthrough: (request: Request) => new Response(`${request.method} elsewhere`, { status: 418 }),
    };
    for (const [path, method] of [["/missing", "GET"], ["/%", "GET"], ["/small.bin", "POST"]]) {
      const response = await serveDir(get(path, {}, method), options);
      assertEquals([response.status, await response.text()], [418, `${method} elsewhere`]);
    }
    assertEquals((await serveDir(get("/small.bin", { Range: "bytes=5000-" }), options)).status, 416);
    assertEquals(await (await serveDir(get("/"), options)).text(), "<p>index");
  }));

test("serveDir logs as @std/http does, unless it is to be quiet", () =>
  withFiles(async (root) => {
    const { log } = console;
    const lines: string[] = [];
    console.log = (line: string) => lines.push(line);
    try {
      await (await serveDir(get("/small.bin?q#f"), { fsRoot: root })).arrayBuffer();
      await serveDir(get("/a%0ab"), { fsRoot: root });
      await serveDir(get("/small.bin"), { fsRoot: root, quiet: true });
    } finally {
      console.log = log;
    }
    assertEquals(lines.length, 2);
    assert(/^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[GET\] \/small\.bin\?q 200$/.test(lines[0]), lines[0]);
    assertStringIncludes(lines[1], "[GET] /a%0ab 404");
  }));

test("a headers function sees the path, size and time, and its fields take the place of ours", () =>
  withFiles(async (root) => {
    const seen: unknown[] = [];
    const path = join(root, "small.bin");
    const headers = (path: string, { size, mtime }: { size: number; mtime: Date }) => {
      seen.push(path, size, mtime.getTime());
      return [["etag", '"mine"'], ["content-type", "x/y"], ["set-cookie", "a=1"], ["set-cookie", "b=2"]] as [
        string,
        string,
      ][];
    };
    const response = await serveFile(get("/"), path, { headers });
    assertEquals(seen, [path, 1000, Math.floor(fs.statSync(path).mtimeMs)]);
    assertEquals(response.headers.get("content-type"), "x/y");
    assertEquals(response.headers.getSetCookie(), ["a=1", "b=2"]);
    const again = await serveFile(get("/", { "If-None-Match": '"mine"' }), path, { headers });
    assertEquals([again.status, again.headers.get("etag")], [304, '"mine"']);
  }));

const wrong: [string, unknown, typeof TypeError | typeof RangeError][] = [
  ["a rate of nothing", { rateLimit: 0 }, RangeError],
  ["a rate that is none", { rateLimit: NaN }, RangeError],
  ["an age below zero", { maxAge: -1 }, RangeError],
  ["two ways to say Cache-Control", { cacheControl: "no-store", maxAge: 1 }, TypeError],
  ["a coding that is none", { precompressed: ["deflate"] }, TypeError],
  ["a header that frames", { headers: ["Content-Length: 1"] }, TypeError],
  ["a header without a colon", { headers: ["nonsense"] }, TypeError],
  ["a header with a line in it", { headers: ["X: a\r\nY: b"] }, TypeError],
  ["an index that is no name", { index: 1 }, TypeError],
];

for (const [what, options, error] of wrong) {
  test(`${what} is refused before any file is looked at`, async () => {
    // deno-lint-ignore no-explicit-any -- what JavaScript may hand in
    const given = options as any;
    await assertRejects(
      () => serveDir(get("/x"), { quiet: true, fsRoot: "/no/such/place", ...given }),
      error,
    );
    let thrown: unknown;
    try {
      serveStatic("/no/such/place", given);
    } catch (error) {
      thrown = error;
    }
    assert(thrown instanceof error);
  });
}
