/** shutil's copy by sendfile: when it copies instead, and when an error is an error (CP-067 to CP-077). */
import { assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import { sendfile, SendfileError, sendfileStats } from "../../../mod.ts";
import { assertBytes, bytes, concat, DATA } from "../../support/data.ts";
import { faulty } from "../../support/faults.ts";
import { raw } from "../../support/pairs.ts";
import { both, on, one, send, SMALL, withLibc } from "./ways.ts";

both("CP-067", "names a source that does not exist", (way) =>
  on(raw, DATA, async ({ socket }) => {
    const error = await assertRejects(
      () => send(way, socket, "/nonexistent/file"),
      Error,
      "/nonexistent/file",
    );
    assertEquals((error as { code?: string }).code, "ENOENT");
  }));

both(
  "CP-068",
  "sends header and trailer of an empty file",
  (way) =>
    on(raw, new Uint8Array(0), async ({ socket, peer, end }, file) => {
      const [header, trailer] = [bytes(100, 6), bytes(100, 7)];
      assertEquals(await send(way, socket, file.file, { header, trailer }), 0);
      end();
      assertBytes(await peer.all(), concat(header, trailer));
      file.assertPosition(0);
    }),
);

one(
  "CP-069",
  "does not take an exception for a reason to copy",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc(faulty({ 1: new Error("boom") }), async () => {
        await assertRejects(() => sendfile(socket, file.file), Error, "boom");
      });
      end();
      assertEquals((await peer.all()).length, 0);
    }),
);

one(
  "CP-071",
  "reports ENOSPC at the first call, and does not copy",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc(faulty({ 1: "ENOSPC" }), async () => {
        const error = await assertRejects(() => send("sendfile", socket, file.file), SendfileError);
        assertEquals([error.code, error.sent], ["ENOSPC", 0]);
      });
      end();
      assertEquals((await peer.all()).length, 0);
      file.assertPosition(0);
    }),
);

one(
  "CP-072",
  "reports EBADF at the second call, and does not copy",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc(faulty({ 1: 1000, 2: "EBADF" }), async () => {
        const error = await assertRejects(() => send("sendfile", socket, file.file), SendfileError);
        assertEquals([error.code, error.sent], ["EBADF", 1000]);
      });
      end();
      assertBytes(await peer.all(), DATA.subarray(0, 1000));
      file.assertPosition(1000);
    }),
);

both(
  "CP-074",
  "without a count sends a growing file up to its current end",
  (way) =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      const more = bytes(100_000, 8);
      const all = peer.all();
      let grown = false;
      const onProgress = () => {
        if (!grown) fs.appendFileSync(file.path, more);
        grown = true;
      };
      assertEquals(await send(way, socket, file.file, { onProgress }), DATA.length + more.length);
      end();
      assertBytes(await all, concat(DATA, more));
      file.assertPosition(DATA.length + more.length);
    }, SMALL),
);

both(
  "CP-075",
  "stops at the end of a file that has shrunk",
  (way) =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      const all = peer.all();
      let sent = 0;
      const onProgress = (bytes: number) => {
        if (sent === 0) fs.truncateSync(file.path, 700_000);
        sent = bytes;
      };
      const count = DATA.length + 100 * 1024 * 1024;
      assertEquals(await send(way, socket, file.file, { count, onProgress }), 700_000);
      end();
      assertBytes(await all, DATA.subarray(0, 700_000));
      file.assertPosition(700_000);
    }, SMALL),
);

one(
  "CP-077",
  "remembers that the kernel has no sendfile",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      const all = peer.all();
      await withLibc(faulty({ 1: "ENOSYS" }), async () => {
        const { calls } = sendfileStats().sendfile;
        assertEquals(await sendfile(socket, file.file), DATA.length);
        assertEquals(sendfileStats().sendfile.calls - calls, 1);
        assertEquals(await send("copy", socket, file.file, { zeroCopy: true }), DATA.length);
        assertEquals(sendfileStats().sendfile.calls - calls, 1, "it was tried again");
      });
      end();
      assertBytes(await all, concat(DATA, DATA));
    }),
);
