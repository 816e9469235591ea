/** The bare call of libc, and header and trailer around a file (CP-056 to CP-063). */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import type { Libc } from "../../../ffi/libc.ts";
import { libc as loadLibc } from "../../../ffi/load.ts";
import { writable } from "../../../ffi/mod.ts";
import { assertBytes, concat, DATA, testFile } from "../../support/data.ts";
import { raw } from "../../support/pairs.ts";
import { descriptor, nodeAccepted } from "../../support/pairs_node.ts";
import { both, on, one, send, SMALL } from "./ways.ts";

async function bare(offset: number): Promise<Uint8Array> {
  const libc = loadLibc() as Libc;
  const content = DATA.subarray(0, 163840);
  using file = testFile(content);
  const pair = await descriptor.open({ small: true });
  const fd = fs.openSync(file.path, "r");
  try {
    const all = pair.peer.all();
    for (let at = offset; at < content.length;) {
      const sent = libc.sendfile(pair.socket as number, fd, at, 4096);
      assert(sent <= 4096);
      if (sent >= 0) at += sent;
      else if (libc.errorName(sent) === "EAGAIN") await writable(pair.socket as number);
      else throw libc.error(sent, "sendfile");
    }
    assertEquals(libc.sendfile(pair.socket as number, fd, content.length + 4096, 4096), 0, "behind the end");
    pair.end();
    return await all;
  } finally {
    fs.closeSync(fd);
    pair.close();
  }
}

one("CP-056", "the bare call sends a whole file, 4096 bytes a call", async () => {
  assertBytes(await bare(0), DATA.subarray(0, 163840));
});

one("CP-057 CP-058", "the bare call sends the second half, and nothing behind the end", async () => {
  assertBytes(await bare(81920), DATA.subarray(81920, 163840));
});

both(
  "CP-058",
  "sends nothing from behind the end",
  (way) =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      assertEquals(await send(way, socket, file.file, { offset: DATA.length + 4096 }), 0);
      assertEquals(await send(way, socket, file.file, { offset: DATA.length + 4096, count: 5 }), 0);
      end();
      assertEquals((await peer.all()).length, 0);
      file.assertPosition(DATA.length + 4096);
    }),
);

both("CP-061", "takes its arguments by name", (way) =>
  on(raw, DATA, async ({ socket, peer, end }, file) => {
    assertEquals(await send(way, socket, file.file, { count: 3, offset: 4 }), 3);
    end();
    assertBytes(await peer.all(), DATA.subarray(4, 7));
    file.assertPosition(7);
  }));

both("CP-062", "sends a header before the file", async (way) => {
  for (const kind of [raw, nodeAccepted]) {
    await on(kind, DATA, async ({ socket, peer, end }, file) => {
      const all = peer.all();
      const header = concat(new Uint8Array(512).fill(120), new Uint8Array(256).fill(121));
      assertEquals(await send(way, socket, file.file, { header }), DATA.length);
      end();
      assertBytes(await all, concat(header, DATA));
      file.assertPosition(DATA.length);
    }, SMALL);
  }
});

both("CP-063", "sends a trailer after a part of the file", async (way) => {
  for (const kind of [raw, nodeAccepted]) {
    await on(kind, new TextEncoder().encode("abcdef"), async ({ socket, peer, end }, file) => {
      const trailer = new TextEncoder().encode("123456789");
      assertEquals(await send(way, socket, file.file, { count: 5, trailer }), 5);
      end();
      assertEquals(new TextDecoder().decode(await peer.all()), "abcde123456789");
      file.assertPosition(5);
    });
  }
});
