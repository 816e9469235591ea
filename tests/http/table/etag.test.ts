/** When a file's ETag changes, and when it must not. */
import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { ask } from "../../support/http_client.ts";
import { KINDS } from "../../support/http_servers.ts";
import { MIB, missing } from "../../support/site.ts";
import { CONTENT, each, MODIFIED } from "./place.ts";

each("changes the tag with the size and with the time", async (place) => {
  const tags = [await place.tag("/10.bin")];
  assertEquals(await place.tag("/10.bin"), tags[0]);
  place.add("10.bin", "0123456789+");
  tags.push(await place.tag("/10.bin"));
  for (const ms of [-1, 1, 1000]) {
    const time = new Date(MODIFIED.getTime() + ms);
    fs.utimesSync(place.path("10.bin"), time, time);
    tags.push(await place.tag("/10.bin"));
  }
  assertEquals(new Set(tags).size, tags.length, String(tags));
});

/** Sets the time to the nanosecond, which utimes() cannot. */
function touch(path: string, nanoseconds: string): void {
  assertEquals(spawnSync("touch", ["-d", `2021-03-04T05:06:07.${nanoseconds}Z`, path]).status, 0);
}

each("changes the tag with a nanosecond", async (place) => {
  const tags: string[] = [];
  for (const fraction of ["123456788", "123456789", "123456790", "123000000"]) {
    touch(place.path("10.bin"), fraction);
    tags.push(await place.tag("/10.bin"));
  }
  assertEquals(new Set(tags).size, tags.length, String(tags));
}, { skip: () => missing("touch") });

each("gives the tag that Deno and Bun agree on", async (place) => {
  touch(place.path("10.bin"), "123456789");
  assertEquals(await place.tag("/10.bin"), '"a-60406abf.75bcd15"');
}, { skip: () => missing("touch") });

each("gives the same file the same tag as any other server, wherever it lies", async (place) => {
  place.sizes();
  place.add("copy/10.bin", CONTENT.get(10)!);
  assertEquals(await place.tag("/copy/10.bin"), await place.tag("/10.bin"));
  for (const kind of KINDS) {
    const other = await kind.start({ root: place.root });
    try {
      for (const target of ["/10.bin", `/${3 * MIB}.bin`]) {
        assertEquals((await ask(other.port, target)).headers.etag, await place.tag(target), kind.name);
      }
    } finally {
      await other.close();
    }
  }
});
