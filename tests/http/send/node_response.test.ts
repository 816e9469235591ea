/** On Node.js there is no FFI: the same functions stream. Bundled by Bun, as Node.js 20 reads no TypeScript. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { bytes, folder } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { ask, assertSame, Client, parseMultipart, request } from "../../support/http_client.ts";
import { missing, until } from "../../support/site.ts";

const LARGE = Buffer.from(bytes(5_000_001));

test("Node.js streams: whole files, ranges, pipelined, and says why it is no sendfile", async () => {
  const root = folder();
  try {
    fs.writeFileSync(join(root, "large.bin"), LARGE);
    fs.writeFileSync(join(root, "small.txt"), "small");
    const bundle = join(root, ".server.mjs");
    const source = join(import.meta.dirname!, "../../support/node_server.ts");
    const built = spawnSync(process.execPath, ["build", "--target=node", source, `--outfile=${bundle}`]);
    assertEquals(String(built.stderr), "");
    const child = spawn("node", [bundle, root]);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => output += chunk);
    try {
      const port = await until(() => Number(/^port (\d+)$/m.exec(output)?.[1]) || undefined, "the port");
      const client = await Client.to(port);
      client.send(request("/large.bin"), request("/small.txt"), request("/large.bin", { method: "HEAD" }));
      assertSame((await client.reply()).body, LARGE, "the large file");
      assertEquals(String((await client.reply()).body), "small");
      assertEquals((await client.reply({ bodiless: true })).headers["content-length"], `${LARGE.length}`);
      client.close();
      const part = await ask(port, "/large.bin", { fields: "Range: bytes=1000000-3999999\r\n" });
      assertEquals(part.status, 206);
      assertSame(part.body, LARGE.subarray(1_000_000, 4_000_000), "the range");
      const parts = await ask(port, "/large.bin", { fields: "Range: bytes=0-999999,2000000-\r\n" });
      assertEquals(parts.status, 206);
      const [one, two, ...others] = parseMultipart(parts.headers["content-type"], parts.body);
      assertEquals([one.span, two.span, others], [[0, 999_999], [2_000_000, LARGE.length - 1], []]);
      assertSame(one.body, LARGE.subarray(0, 1_000_000), "the first part");
      assertSame(two.body, LARGE.subarray(2_000_000), "the second part");
      assertEquals((await ask(port, "/../x")).status, 404);
      const tag = part.headers.etag;
      assertEquals((await ask(port, "/large.bin", { fields: `If-None-Match: ${tag}\r\n` })).status, 304);
      assertEquals(
        new Set(output.match(/^way .*$/gm)),
        new Set(["way copy (this runtime has no FFI)", "way copy (small)", "way -"]),
      );
    } finally {
      child.kill("SIGKILL");
    }
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}, { only: "bun", skip: missing("node") });
