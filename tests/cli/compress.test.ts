/** `--compress`: text that is compressed when it is asked for. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { join } from "@std/path";
import { tmpdir } from "node:os";
import * as zlib from "node:zlib";
import { CompressedFiles } from "../../cli/compressed_files.ts";
import { compressFile, MADE } from "../../cli/compress.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { type OpenFile, openRegular } from "../../http/root/open_file.ts";
import type { Field } from "../../http/rfc9110/preconditions.ts";
import { planFile } from "../../http/file_response.ts";
import { openBelow } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { MIB, Server, serving, type Site } from "../support/site.ts";

const CODINGS = {
  br: zlib.brotliDecompressSync,
  zstd: zlib.zstdDecompressSync,
  gzip: zlib.gunzipSync,
} as const;

const STYLE = Buffer.from(Array.from({ length: 9000 }, (_, i) => `.class-${i} { color: #${i} }\n`).join(""));

function prepare(site: Site): void {
  site.add("style.css", STYLE);
  site.add("large.js", Buffer.alloc(8 * MIB + 1, "x"));
  site.add("small.txt", "x".repeat(1023));
  site.add("picture.png", Buffer.alloc(5000));
}

function accept(coding: string): { fields: string } {
  return { fields: `Accept-Encoding: ${coding}\r\n` };
}

test("serve --compress sends text in the coding that the client prefers, with its own ETag", () =>
  serving(async ({ port }) => {
    const tags = new Set<string>();
    for (const [coding, decode] of Object.entries(CODINGS)) {
      for (let round = 0; round < 2; round++) {
        const { status, headers, body } = await ask(port, "/style.css", accept(coding));
        assertEquals([status, headers["content-encoding"]], [200, coding]);
        assertSame(Buffer.from(decode(body)), STYLE, coding);
        assert(body.length < STYLE.length / 2, `${body.length} bytes`);
        assertEquals(headers.vary, "Accept-Encoding");
        assertEquals(headers["accept-ranges"], undefined);
        tags.add(headers.etag);
        const again = await ask(port, "/style.css", {
          fields: `Accept-Encoding: ${coding}\r\nIf-None-Match: ${headers.etag}\r\n`,
        });
        assertEquals([again.status, again.headers.etag, again.headers.vary], [
          304,
          headers.etag,
          "Accept-Encoding",
        ]);
        const head = await ask(port, "/style.css", { ...accept(coding), method: "HEAD" });
        assertEquals([head.status, head.headers["content-encoding"], head.headers.etag], [
          200,
          coding,
          headers.etag,
        ]);
      }
    }
    const plain = await ask(port, "/style.css");
    assertSame(plain.body, STYLE, "the file as it is");
    assertEquals([plain.headers["content-encoding"], plain.headers.vary], [undefined, "Accept-Encoding"]);
    tags.add(plain.headers.etag);
    assertEquals(tags.size, 4);
    assertEquals(
      (await ask(port, "/style.css", accept("gzip, deflate, br, zstd"))).headers["content-encoding"],
      "br",
    );
    assertEquals(
      (await ask(port, "/style.css", accept("br;q=0.1, gzip"))).headers["content-encoding"],
      "gzip",
    );
  }, { args: ["--compress"], prepare }));

test("serve --compress sends parts, pictures, small and large files as they are", () =>
  serving(async ({ port }, site) => {
    for (const name of ["/large.js", "/small.txt", "/picture.png", "/4096.bin"]) {
      const { headers, body } = await ask(port, name, accept("br, gzip"));
      assertEquals(headers["content-encoding"], undefined, name);
      assertSame(body, site.files.get(name)!, name);
    }
    const part = await ask(port, "/style.css", { fields: "Accept-Encoding: br\r\nRange: bytes=5-14\r\n" });
    assertEquals([part.status, part.headers["content-encoding"]], [206, undefined]);
    assertSame(part.body, STYLE.subarray(5, 15), "the part");
    for (const coding of ["identity", "br;q=0", "deflate", ""]) {
      assertSame((await ask(port, "/style.css", accept(coding))).body, STYLE, coding);
    }
  }, { args: ["--compress"], prepare }));

test("serve --compress sends a file's current content", () =>
  serving(async ({ port }, site) => {
    for (const text of ["one ", "two ", "2nd "]) { // also of the same size, in the same moment
      const content = Buffer.from(text.repeat(1000));
      site.add("style.css", content);
      const { body } = await ask(port, "/style.css", accept("gzip"));
      assertSame(zlib.gunzipSync(body), content, text);
    }
  }, { args: ["--compress"], prepare }));

test("serve --compress keeps a connection, and answers many clients at once", () =>
  serving(async ({ port }) => {
    const one = async () => {
      const client = await Client.to(port);
      try {
        for (const coding of ["gzip", "br", "zstd"] as const) {
          client.send(request("/style.css", accept(coding)), request("/1.bin"));
          assertSame(Buffer.from(CODINGS[coding]((await client.reply()).body)), STYLE, coding);
          assertEquals((await client.reply()).status, 200);
        }
      } finally {
        client.close();
      }
    };
    await Promise.all(Array.from({ length: 10 }, one));
  }, { args: ["--compress"], prepare }));

test("serve --compress prefers a sibling", () =>
  serving(async ({ port }) => {
    const { headers, body } = await ask(port, "/style.css", accept("br, gzip"));
    assertEquals(headers["content-encoding"], "gzip");
    assertEquals(String(zlib.gunzipSync(body)), "the sibling's");
  }, {
    args: ["--compress", "--precompressed"],
    prepare: (site) => {
      prepare(site);
      site.add("style.css.gz", zlib.gzipSync("the sibling's"));
    },
  }));

test("serve refuses --compress beside --rate-limit", async () => {
  const server = new Server({ args: ["--compress", "--rate-limit", "1k"] });
  try {
    assertEquals(await server.exit(), 2);
    assert(/^error: --compress cannot be used with /.test(server.errors), server.errors);
  } finally {
    await server.stop();
  }
});

/** A file of the text, changed so many seconds ago as the system tells it. */
function opened(path: string, age: number): OpenFile {
  const file = openRegular(path) as OpenFile;
  return { ...file, changed: file.changed - age };
}

const field: Field = (name) => name === "accept-encoding" ? "gzip" : undefined;

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "compress-")));
  try {
    await body(folder);
    assertEquals(openBelow(folder), []);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** A plan for the file, carried out by `files`; how many bytes were sent, or the status where none were. */
async function send(files: CompressedFiles, file: OpenFile): Promise<number> {
  const resolved = { ...resolveDirectoryOptions({}), codingFor: files.codingFor };
  const head = { method: "GET", field };
  const plan = await files.carryOut(await planFile(head, resolved, file, () => undefined), head, resolved);
  return plan.body instanceof Uint8Array ? plan.body.length : plan.status;
}

test("CompressedFiles compresses a file once, for all that ask at once or later, two files at a time", () =>
  inFolder(async (folder) => {
    let calls = 0;
    let running = 0;
    let most = 0;
    const files = new CompressedFiles(async (file, coding) => {
      calls++;
      most = Math.max(most, ++running);
      try {
        return await compressFile(file, coding);
      } finally {
        running--;
      }
    });
    const paths = Array.from({ length: 5 }, (_, i) => join(folder, `${i}.txt`));
    paths.forEach((path, i) => fs.writeFileSync(path, `${i}`.repeat(200_000)));
    const ask = () =>
      Promise.all(paths.flatMap((path) => [path, path, path]).map((path) => send(files, opened(path, 0))));
    const sizes = await ask();
    assert(sizes.every((size) => size > 500 && size < 5000 || size === sizes[0]), String(sizes));
    assertEquals([calls, most], [5, 2]);
    await ask(); // what has just been written is not kept
    assertEquals([calls, most], [10, 2]);
  }));

test("CompressedFiles caches files that have not just changed, up to its limit, and drops the least recently used", () =>
  inFolder(async (folder) => {
    const made: string[] = [];
    const files = new CompressedFiles((file) => {
      made.push(file.path.at(-5)!);
      return Promise.resolve(Buffer.alloc(40));
    }, 100);
    // The real time of change of a file cannot be set: so the clock is put on.
    const now = Date.now;
    Date.now = () => now() + 60_000;
    try {
      for (const name of ["a", "b", "a", "c", "a", "b"]) {
        const path = join(folder, `${name}.txt`);
        if (!fs.existsSync(path)) fs.writeFileSync(path, name.repeat(2000));
        assertEquals(await send(files, opened(path, 0)), 40);
      }
      assertEquals(made.join(""), "abcb");
    } finally {
      Date.now = now;
    }
  }));

test("CompressedFiles answers 500 for a file that cannot be read whole, and then compresses the next", () =>
  inFolder(async (folder) => {
    const files = new CompressedFiles();
    const path = join(folder, "a.txt");
    fs.writeFileSync(path, "a".repeat(200_000));
    const file = openRegular(path) as OpenFile;
    await assertRejects(() => compressFile({ ...file, size: 300_000 }, MADE[0]));
    assertEquals(await send(files, { ...file, size: 300_000 }), 500);
    assert(await send(files, opened(path, 0)) > 0);
  }));
