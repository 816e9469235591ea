/** Whether the command sends by sendfile(2): what it prints, what strace sees, and what it does without FFI. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join, resolve } from "@std/path";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { test } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";
import { LARGE, MIB, missing, serving, until } from "../support/site.ts";

test("serve prints its addresses and whether zero-copy is on", () =>
  serving((server, { root }) => {
    assertEquals(server.lines.slice(0, 3), [
      `Serving ${root}`,
      `http://127.0.0.1:${server.port}/`,
      "zero-copy: on",
    ]);
    return Promise.resolve();
  }), { skip: process.platform === "linux" ? undefined : "the third line differs" });

test("serve copies without --allow-ffi, says so and never prompts", () =>
  serving(async (server, site) => {
    for (const target of ["/1.bin", "/65537.bin", LARGE]) {
      assertSame((await ask(server.port, target)).body, site.files.get(target)!, target);
    }
    assertStringIncludes(server.lines[2], "zero-copy: off (no permission: run with --allow-ffi");
    await server.line(/ GET \/20971520\.bin 200 20971520 copy \(no permission: run with --allow-ffi/);
  }, { permissions: ["--no-prompt", "--allow-net", "--allow-read", "--allow-env"] }), { only: "deno" });

test("serve lets the body's bytes go by sendfile(2)", async () => {
  const trace = join(fs.mkdtempSync(join(tmpdir(), "strace-")), "trace");
  const calls = "trace=sendfile,write,writev,sendto,sendmsg,splice";
  try {
    await serving(async (server) => {
      assertEquals((await ask(server.port, LARGE)).status, 200);
      await server.line(/ sendfile$/);
    }, { before: ["strace", "-D", "-f", "-s", "0", "-e", calls, "-o", trace] });
    // The tracer, which is nobody's child, writes on for a moment.
    const lines = await until(() => {
      const text = fs.readFileSync(trace, "utf8");
      return /\+\+\+ (killed|exited)/.test(text) && text.split("\n");
    }, "the end of the trace");
    const moved = (pattern: RegExp) =>
      lines.filter((line) => pattern.test(line))
        .reduce((sum, line) => sum + Number(/ = (\d+)$/.exec(line)?.[1] ?? 0), 0);
    assertEquals(moved(/\bsendfile\b/), 20 * MIB);
    assert(moved(/\b(write|writev|sendto|sendmsg|splice)\b/) < MIB);
  } finally {
    fs.rmSync(resolve(trace, ".."), { recursive: true });
  }
}, { skip: missing("strace") });
