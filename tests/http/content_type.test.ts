import { assertEquals } from "@std/assert";
import { contentType } from "../../http/content_type.ts";
import { test } from "../support/harness.ts";

test("contentType goes by the extension", () => {
  assertEquals(contentType("/a/index.html"), "text/html; charset=utf-8");
  assertEquals(contentType("a.b/STYLE.CSS"), "text/css; charset=utf-8");
  assertEquals(contentType("app.mjs"), "text/javascript; charset=utf-8");
  assertEquals(contentType("app.wasm"), "application/wasm");
  assertEquals(contentType("icon.svg"), "image/svg+xml");
  for (const path of ["README", "a.unheard-of", ".bashrc", "a.", "html"]) {
    assertEquals(contentType(path), "application/octet-stream", path);
  }
});
