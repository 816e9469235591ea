/**
 * socket.sendfile with 10 MiB (CP-044 to CP-055, CP-078). Its native form is the blocking sendfileSync, with the peer in
 * another process.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as fs from "node:fs";
import {
  sendfile,
  SendfileError,
  type SendfileFile,
  sendfileStats,
  sendfileSync,
  SendfileTimeoutError,
} from "../../../mod.ts";
import { assertBytes, bytes, concat, DATA, testFile } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { readInChild } from "../../support/helpers.ts";
import type { Pair } from "../../support/pair.ts";
import { raw } from "../../support/pairs.ts";
import { both, on, one, send, SMALL } from "./ways.ts";

const TEN = bytes(10 * 1024 * 1024, 5);

function tenMiB(
  id: string,
  name: string,
  options: { offset?: number; count?: number; timeout?: number },
): void {
  const { offset = 0 } = options;
  const expected = TEN.subarray(offset, options.count === undefined ? TEN.length : offset + options.count);
  test(`${id} ${name} [sync]`, async () => {
    using file = testFile(TEN);
    await using child = await readInChild();
    const before = sendfileStats();
    assertEquals(sendfileSync(child.socket, file.file, options), expected.length);
    assertEquals(sendfileStats().sendfile.bytes - before.sendfile.bytes, expected.length);
    file.assertPosition(offset + expected.length);
    assertBytes(await child.received(), expected);
  });
  for (const way of ["sendfile", "copy"] as const) {
    test(`${id} ${name} [${way}]`, () =>
      on(raw, TEN, async ({ socket, peer, end }, file) => {
        const all = peer.all();
        assertEquals(await send(way, socket, file.file, options), expected.length);
        end();
        assertBytes(await all, expected);
        file.assertPosition(offset + expected.length);
      }));
  }
}

tenMiB("CP-044", "sends a regular file", {});
tenMiB("CP-047", "sends from an offset", { offset: 5000 });
tenMiB("CP-048", "sends an odd count", { count: 5000007 });
tenMiB("CP-049", "sends one byte", { count: 1 });
tenMiB("CP-050", "sends an odd count from an odd offset", { offset: 2007, count: 100007 });
tenMiB("CP-052", "does not mind a timeout that is not reached", { timeout: 60_000 });

one(
  "CP-045 CP-078",
  "sends a Blob by copy, from its start or an offset",
  () =>
    on(raw, DATA, async ({ socket, peer, end }) => {
      const all = peer.all();
      const blob = new Blob([DATA as BlobPart]);
      assertEquals(await send("copy", socket, blob, { zeroCopy: true }), DATA.length);
      assertEquals(await send("copy", socket, blob, { zeroCopy: true, offset: 7, count: 70 }), 70);
      end();
      assertBytes(await all, concat(DATA, DATA.subarray(7, 77)));
    }),
);

one("CP-046", "sends nothing of an empty file, blocking", async () => {
  using file = testFile(new Uint8Array(0));
  await using child = await readInChild();
  assertEquals(sendfileSync(child.socket, file.file), 0);
  file.assertPosition(0);
  assertEquals((await child.received()).length, 0);
});

both(
  "CP-053",
  "reports a timeout, not a short success",
  (way) =>
    on(raw, TEN, async ({ socket, peer }, file) => {
      const error = await assertRejects(
        () => send(way, socket, file.file, { timeout: 10 }),
        SendfileTimeoutError,
        "10 ms",
      );
      assertEquals(error.code, "ETIMEDOUT");
      assert(error.sent < TEN.length);
      file.assertPosition(error.sent);
      peer.socket.destroy();
    }, SMALL),
);

one("CP-053", "reports a timeout, blocking", () =>
  on(raw, TEN, ({ socket }, file) => {
    const error = assertThrows(() => sendfileSync(socket, file.file, { timeout: 10 }), SendfileTimeoutError);
    assert(error.sent < TEN.length);
    file.assertPosition(error.sent);
    return Promise.resolve();
  }, SMALL));

one("CP-055", "refuses closed and impossible descriptors", () =>
  on(raw, DATA, async ({ socket }) => {
    using file = testFile(DATA);
    const closed = fs.openSync(file.path, "r");
    fs.closeSync(closed);
    const error = await assertRejects(() => sendfile(socket, closed), SendfileError);
    assertEquals(error.code, "EBADF");
    await assertRejects(() => sendfile(socket, 2 ** 1000), RangeError);
    await assertRejects(() => sendfile(2 ** 1000, file.file), RangeError);
    await assertRejects(() => sendfile(socket, null as unknown as SendfileFile), TypeError);
    await assertRejects(() => sendfile(null as unknown as Pair["socket"], file.file), TypeError);
  }));
