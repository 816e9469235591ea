/** Options that serveDir and serveStatic refuse before they answer anything. */
import { assertRejects, assertThrows } from "@std/assert";
import { serveDir } from "../../http/mod.ts";
import { serveStatic } from "../../http/node.ts";
import { test } from "../support/harness.ts";
import type { Options } from "../support/http_servers.ts";

const REFUSED: [Options, typeof TypeError | typeof RangeError][] = [
  [{ rateLimit: 0 }, RangeError],
  [{ rateLimit: -1 }, RangeError],
  [{ rateLimit: NaN }, RangeError],
  [{ maxAge: -1 }, RangeError],
  [{ cacheControl: "no-store", maxAge: 1 }, TypeError],
  [{ precompressed: ["lzma"] }, TypeError],
  [{ headers: ["no colon"] }, TypeError],
  [{ headers: ["X: a\r\nY: b"] }, TypeError],
  [{ headers: ["X Y: a"] }, TypeError],
  [{ headers: ["Content-Length: 1"] }, TypeError],
  [{ index: 1 as unknown as string[] }, TypeError],
  [{ extensions: [1] as unknown as string[] }, TypeError],
];

for (const [options, error] of REFUSED) {
  test(`serveDir and serveStatic refuse ${JSON.stringify(options)}`, async () => {
    const root = import.meta.dirname!;
    await assertRejects(() => serveDir(new Request("http://test/"), { ...options, fsRoot: root }), error);
    assertThrows(() => serveStatic(root, options), error);
  });
}
