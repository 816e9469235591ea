import { assert, assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import { sendfile, SendfileNotAvailableError, type SendfileStart, sendfileStats } from "../mod.ts";
import { allReasons, codeOf } from "../reasons.ts";
import { assertBytes, DATA, testFile } from "./support/data.ts";
import { test } from "./support/harness.ts";
import { bodyOf, kinds } from "./support/pairs.ts";
import { denoUnix } from "./support/pairs_deno.ts";

test("codeOf: each text, whatever follows a beginning, has its own code, and an unknown one has other", () => {
  for (const [text, code] of allReasons()) {
    assert(code !== "other", text);
    assertEquals(codeOf(text), code);
  }
  assertEquals(codeOf("sendfile: EINVAL"), "kernel-refused");
  assertEquals(codeOf("turned off by ZEROCOPY_SENDFILE=0"), "turned-off");
  assertEquals(codeOf("TLS and more"), "other");
});

test("ReasonCode: the reference describes each code once", () => {
  const reference = fs.readFileSync(new URL("../docs/reference.md", import.meta.url), "utf8");
  const table = reference.slice(reference.indexOf("\n## Reasons\n"), reference.indexOf("\n## The rest\n"));
  const described = [...table.matchAll(/^\| `([a-z-]+)`/gm)].map(([, code]) => code).sort();
  assertEquals(described, [...new Set(allReasons().map(([, code]) => code)), "other"].sort());
});

for (const kind of kinds) {
  const expected = kind.native ? "turned-off" : kind === denoUnix ? "unix-socket" : "tls";
  test(`sendfile: ${kind.name} says why not by a code, to onStart, to the statistics and in the error`, async () => {
    using file = testFile(DATA);
    const pair = await kind.open({});
    try {
      const all = pair.peer.all();
      const before = sendfileStats();
      const starts: SendfileStart[] = [];
      const options = {
        zeroCopy: kind.native ? false : undefined,
        onStart: (start: SendfileStart) => starts.push(start),
      };
      await sendfile(pair.socket, file.file, options);
      const { reason, code } = starts[0];
      assertEquals(code, expected);
      assertEquals(code, codeOf(reason!));
      const after = sendfileStats();
      assertEquals((after.codes[code!] ?? 0) - (before.codes[code!] ?? 0), 1);
      assertEquals(after.reasons[reason!] - (before.reasons[reason!] ?? 0), 1);
      const error = await assertRejects(
        () => sendfile(pair.socket, file.file, { ...options, fallback: false }),
        SendfileNotAvailableError,
      );
      assertEquals([error.reason, error.code], [reason, code]);
      pair.end();
      assertBytes(bodyOf(kind, await all), DATA);
    } finally {
      pair.close();
    }
  });
}
