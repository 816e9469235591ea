/** The examples in frameworks as they are, each in a process of its own: files, the framework's own routes, and the way. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { whyNotSendfile } from "../../mod.ts";
import { bytes, folder } from "../support/data.ts";
import { type Example, EXAMPLES, withExample } from "../support/example.ts";
import { isBun, test } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";

const LARGE = Buffer.from(bytes(5 * 1024 * 1024 + 1));

/** Runs `body` with an example that serves a directory. */
async function serving(name: string, body: (example: Example, port: number) => Promise<void>): Promise<void> {
  const root = folder();
  fs.writeFileSync(join(root, "large.bin"), LARGE);
  fs.mkdirSync(join(root, "sub"));
  fs.writeFileSync(join(root, "sub/index.html"), "<p>sub");
  try {
    await withExample([name, root, "0"], async (example) => body(example, await example.port()));
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** What was printed of the large file that was sent first. */
async function wayOf(example: Example): Promise<string> {
  return (await example.printed(/^\S*\/large\.bin (\{[^}]*\})/m)).replace(/\s+/g, " ");
}

/** What the framework does with files that others write to its response. */
const BY_RESPONSE = /way: "sendfile"/;
/** On Deno past the server; on Bun by Bun.serve's own sendfile(2), which has no reason against it. */
const BY_FETCH = isBun ? /^\{ via: "native",? \}$/ : /^\{ via: "sendfile",? \}$/;
/** On Deno by `serve` itself, which counts it; on Bun by Bun.serve, which counts nothing. */
const BY_SERVE = isBun ? /^\{ transfers: 0, / : /^\{ transfers: 1, .*bytes: 5242881,? \}$/;

const FRAMEWORKS: Record<string, RegExp> = {
  express: BY_RESPONSE,
  fastify: BY_RESPONSE,
  koa: BY_RESPONSE,
  hono: BY_FETCH,
  elysia: BY_FETCH,
  h3: BY_FETCH,
  srvx: BY_FETCH,
  serve_hono: BY_SERVE,
  serve_h3: BY_SERVE,
  serve_elysia: BY_SERVE,
};

for (const [name, way] of Object.entries(FRAMEWORKS)) {
  test(
    `the ${name} example serves files by sendfile(2), and its own routes`,
    () =>
      serving(name, async (example, port) => {
        const { status, headers, body } = await ask(port, "/files/large.bin");
        assertEquals([status, headers["content-type"]], [200, "application/octet-stream"]);
        assertSame(body, LARGE, "the file");
        assert(way.test(await wayOf(example)), example.output);
        const part = await ask(port, "/files/large.bin?part", { fields: "Range: bytes=-3000000\r\n" });
        assertEquals(part.status, 206);
        assertSame(part.body, LARGE.subarray(-3_000_000), "the range");
        const head = await ask(port, "/files/large.bin", { method: "HEAD" });
        assertEquals([head.status, head.headers["content-length"]], [200, `${LARGE.length}`]);
        const stored = { fields: `If-None-Match: ${headers.etag}\r\n` };
        assertEquals((await ask(port, "/files/large.bin", stored)).status, 304);

        assertEquals(String((await ask(port, "/files/sub/")).body), "<p>sub");
        const bare = await ask(port, "/files/sub?q=1");
        assertEquals([bare.status, bare.headers.location], [301, "sub/?q=1"]);
        assertSame(
          (await ask(port, "/this")).body,
          fs.readFileSync(join(EXAMPLES, `${name}.ts`)),
          "the example itself",
        );

        assertEquals(String((await ask(port, "/")).body), "hello");
        for (const path of ["/files/missing", "/files/..%2f..%2fetc/passwd", "/missing"]) {
          const { status, body } = await ask(port, path);
          assertEquals([status, String(body).includes("nothing here")], [404, true], path);
        }
      }),
    { skip: isBun ? undefined : whyNotSendfile() },
  );
}

test(
  "the fastify example serves files by hijack(), too",
  () =>
    serving("fastify", async (example, port) => {
      assertSame((await ask(port, "/own/large.bin")).body, LARGE, "the file");
      assert(BY_RESPONSE.test(await wayOf(example)), example.output);
      assertEquals((await ask(port, "/own/missing")).status, 404);
    }),
  { skip: whyNotSendfile() },
);

test("the hono example lets its own middleware add a field, and its own route have a path below the files", () =>
  serving("hono", async (_example, port) => {
    const { headers, body } = await ask(port, "/files/large.bin");
    assertEquals(headers["x-content-type-options"], "nosniff");
    assertSame(body, LARGE, "the file");
    assertEquals(String((await ask(port, "/files/made")).body), "made by a route");
  }));
