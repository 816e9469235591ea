/** What the loop of calls does with errors, aborts and EAGAIN (CP-023 to CP-032, CP-070). */
import { assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import type { Libc } from "../../../ffi/libc.ts";
import { libc as loadLibc } from "../../../ffi/load.ts";
import { writable } from "../../../ffi/mod.ts";
import { poller } from "../../../ffi/poller.ts";
import {
  sendfile,
  SendfileError,
  type SendfileFile,
  SendfileNotAvailableError,
  sendfileStats,
} from "../../../mod.ts";
import { assertBytes, concat, DATA, until } from "../../support/data.ts";
import { faulty } from "../../support/faults.ts";
import { test } from "../../support/harness.ts";
import { fill, socketPair } from "../../support/helpers.ts";
import { raw } from "../../support/pairs.ts";
import { descriptor } from "../../support/pairs_node.ts";
import { on, one, send, SMALL, withLibc } from "./ways.ts";

one("CP-023", "without a sendfile in libc says so", () =>
  on(raw, DATA, async ({ socket }, file) => {
    await withLibc("the C library could not be loaded: no sendfile", async () => {
      await assertRejects(
        () => sendfile(socket, file.file, { fallback: false }),
        SendfileNotAvailableError,
        "no sendfile",
      );
    });
    file.assertPosition(0);
  }));

one("CP-024", "refuses what is no file", () =>
  on(raw, DATA, async ({ socket, peer, end }) => {
    await assertRejects(() => sendfile(socket, {} as SendfileFile), TypeError, "file must be");
    await assertRejects(
      () => sendfile(socket, undefined as unknown as SendfileFile),
      TypeError,
      "file must be",
    );
    end();
    assertEquals((await peer.all()).length, 0);
  }));

one("CP-025", "does not send a Blob by sendfile", () =>
  on(raw, DATA, async ({ socket, peer, end }) => {
    const error = await assertRejects(
      () => sendfile(socket, new Blob([DATA as BlobPart]), { fallback: false }),
      SendfileNotAvailableError,
    );
    assertEquals(error.reason, "not a regular file");
    end();
    assertEquals((await peer.all()).length, 0);
  }));

one(
  "CP-026",
  "refuses descriptors that are no regular file",
  () =>
    on(raw, DATA, async ({ socket, peer, end }) => {
      await assertRejects(() => sendfile(socket, -1), RangeError);
      const folder = fs.openSync("/", "r");
      try {
        for (const file of [folder, "/", "/dev/null"]) {
          const error = await assertRejects(() => sendfile(socket, file), SendfileNotAvailableError);
          assertEquals(error.reason, "not a regular file");
        }
      } finally {
        fs.closeSync(folder);
      }
      end();
      assertEquals((await peer.all()).length, 0);
    }),
);

one(
  "CP-027",
  "takes its wait back at once when it is aborted",
  () =>
    on(raw, DATA, async ({ socket }, file) => {
      const { size } = poller(loadLibc() as Libc);
      const stop = new AbortController();
      const sending = send("sendfile", socket, file.file, { signal: stop.signal });
      await until("the transfer waits", () => poller(loadLibc() as Libc).size === size + 1);
      stop.abort(new Error("enough"));
      assertEquals(poller(loadLibc() as Libc).size, size);
      await assertRejects(() => sending, Error, "enough");
    }, SMALL),
);

one(
  "CP-028",
  "sends nothing more after it was aborted, though the socket becomes writable",
  () =>
    on(raw, DATA, async ({ socket, peer }, file) => {
      const stop = new AbortController();
      let sent = 0;
      const sending = send("sendfile", socket, file.file, {
        signal: stop.signal,
        onProgress: (bytes) => sent = bytes,
      });
      await until("the transfer waits", () => poller(loadLibc() as Libc).size > 0);
      stop.abort(new Error("enough"));
      await assertRejects(() => sending, Error, "enough");
      // The abort has ended the stream, so all that ever came is what had been sent.
      assertBytes(await peer.all(), DATA.subarray(0, sent));
      file.assertPosition(sent);
      assertEquals(poller(loadLibc() as Libc).size, 0);
    }, SMALL),
);

one(
  "CP-029",
  "on EAGAIN waits for writability, and does not ask again before it",
  () =>
    on(descriptor, DATA, async ({ socket, peer, end }, file) => {
      const results: string[] = [];
      await withLibc(faulty({}, results), async () => {
        const libc = loadLibc() as Libc;
        const before = fill(libc, socket as number);
        const { waits } = sendfileStats();
        let settled = false;
        const sending = send("sendfile", socket, file.file).finally(() => settled = true);
        await until("the transfer waits", () => poller(libc).size === 1);
        using other = socketPair();
        await writable(other.here); // a round through the same poller
        assertEquals(results, ["EAGAIN"]);
        assertEquals([settled, sendfileStats().waits - waits], [false, 1]);
        const all = peer.all();
        assertEquals(await sending, DATA.length);
        end();
        assertBytes(await all, concat(before, DATA));
        file.assertPosition(DATA.length);
      });
    }, SMALL),
);

one(
  "CP-030 CP-070",
  "gives up on EINVAL at the first call, with nothing sent, and copies where it may",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc(faulty({ 1: "EINVAL" }), async () => {
        const error = await assertRejects(
          () => sendfile(socket, file.file, { fallback: false }),
          SendfileNotAvailableError,
          "EINVAL",
        );
        assertEquals(error.sent, 0);
        assertEquals(poller(loadLibc() as Libc).size, 0);
        file.assertPosition(0);
      });
      const all = peer.all();
      const ways: string[] = [];
      await withLibc(faulty({ 1: "EINVAL" }), async () => {
        const onStart = ({ via, reason }: { via: string; reason?: string }) =>
          ways.push(`${via} ${reason ?? ""}`);
        assertEquals(await sendfile(socket, file.file, { onStart }), DATA.length);
      });
      assertEquals(ways, ["sendfile ", "copy sendfile: EINVAL"]);
      end();
      assertBytes(await all, DATA);
      file.assertPosition(DATA.length);
    }),
);

one(
  "CP-031",
  "reports an error after 1000 bytes as it is, with the position there",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc(faulty({ 1: 1000, 2: "EIO" }), async () => {
        const error = await assertRejects(() => send("sendfile", socket, file.file), SendfileError);
        assertEquals([error.code, error.errno, error.syscall, error.sent], ["EIO", 5, "sendfile", 1000]);
        assertEquals(poller(loadLibc() as Libc).size, 0);
      });
      file.assertPosition(1000);
      end();
      assertBytes(await peer.all(), DATA.subarray(0, 1000));
    }),
);

one(
  "CP-032",
  "does not hide 1000 bytes when sendfile is not available any more",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc(faulty({ 1: 1000, 2: "EINVAL" }), async () => {
        const error = await assertRejects(
          () => send("sendfile", socket, file.file, { fallback: false }),
          SendfileNotAvailableError,
        );
        assertEquals(error.sent, 1000);
      });
      file.assertPosition(1000);
      end();
      assertBytes(await peer.all(), DATA.subarray(0, 1000));
    }),
);

test("EINVAL after 1000 bytes: the copy goes on from there", () =>
  on(raw, DATA, async ({ socket, peer, end }, file) => {
    const all = peer.all();
    await withLibc(faulty({ 1: 1000, 2: "EINVAL" }), async () => {
      assertEquals(await sendfile(socket, file.file), DATA.length);
    });
    end();
    assertBytes(await all, DATA);
    file.assertPosition(DATA.length);
  }));
