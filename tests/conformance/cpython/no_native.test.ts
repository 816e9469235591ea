/** A system without sendfile, and arguments that are refused (CP-033 to CP-043, CP-054, CP-060, CP-080). */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Libc } from "../../../ffi/libc.ts";
import { libc as loadLibc } from "../../../ffi/load.ts";
import {
  createSendfileCallable,
  sendfile,
  SendfileNotAvailableError,
  type SendfileOptions,
  sendfileStats,
  sendfileSync,
} from "../../../mod.ts";
import { assertBytes, DATA, testFile } from "../../support/data.ts";
import { datagramDescriptor } from "../../support/helpers.ts";
import { raw } from "../../support/pairs.ts";
import { descriptor } from "../../support/pairs_node.ts";
import { on, one, send, withLibc } from "./ways.ts";

one(
  "CP-033 CP-034",
  "without native support and without fallback sends nothing",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc("sendfile is not here, the test says", async () => {
        await assertRejects(
          () => sendfile(socket, file.file, { fallback: false }),
          SendfileNotAvailableError,
        );
        assertThrows(() => sendfileSync(socket, file.file), SendfileNotAvailableError);
      });
      end();
      assertEquals((await peer.all()).length, 0);
      file.assertPosition(0);
    }),
);

one(
  "CP-035",
  "without native support copies the whole",
  () =>
    on(raw, DATA.subarray(0, 163840), async ({ socket, peer, end }, file) => {
      const all = peer.all();
      await withLibc("sendfile is not here, the test says", async () => {
        assertEquals(await send("copy", socket, file.file, { zeroCopy: true }), 163840);
      });
      end();
      assertBytes(await all, DATA.subarray(0, 163840));
      file.assertPosition(163840);
    }),
);

one(
  "CP-036",
  "without native support copies count bytes from offset",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      await withLibc("sendfile is not here, the test says", async () => {
        const options = { offset: 1000, count: 2000, zeroCopy: true };
        assertEquals(await send("copy", socket, file.file, options), 2000);
      });
      end();
      assertBytes(await peer.all(), DATA.subarray(1000, 3000));
      file.assertPosition(3000);
    }),
);

one(
  "CP-037 CP-080",
  "refuses a blocking descriptor",
  () =>
    on(descriptor, DATA, async ({ socket, peer, end }, file) => {
      const libc = loadLibc() as Libc;
      const F_SETFL = 4;
      libc.system.fcntl(libc.library, socket as number, F_SETFL, 0);
      try {
        for (const zeroCopy of [true, false]) {
          await assertRejects(
            () => sendfile(socket, file.file, { zeroCopy }),
            TypeError,
            "must be non-blocking",
          );
        }
      } finally {
        libc.system.fcntl(libc.library, socket as number, F_SETFL, libc.system.O_NONBLOCK);
      }
      end();
      assertEquals((await peer.all()).length, 0);
    }),
);

one("CP-039", "refuses a datagram descriptor", async () => {
  using file = testFile(DATA);
  using socket = datagramDescriptor();
  for (const zeroCopy of [true, false]) {
    await assertRejects(() => sendfile(socket.fd, file.file, { zeroCopy }), TypeError, "not a stream socket");
  }
  file.assertPosition(0);
});

one(
  "CP-040 CP-041 CP-042 CP-043 CP-054 CP-060",
  "refuses invalid counts and offsets",
  () =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      const calls = sendfileStats().sendfile.calls;
      const wrong: [SendfileOptions | Record<string, unknown>, new () => Error, string][] = [
        [{ count: "count" }, TypeError, "count must be a positive integer"],
        [{ count: "2" }, TypeError, "count must be a positive integer"],
        [{ count: 0.1 }, TypeError, "count must be a positive integer"],
        [{ count: NaN }, TypeError, "count must be a positive integer"],
        [{ count: 5n }, TypeError, "count must be a positive integer"],
        [{ count: null }, TypeError, "count must be a positive integer"],
        [{ count: 0 }, RangeError, "count must be a positive integer"],
        [{ count: -1 }, RangeError, "count must be a positive integer"],
        [{ count: 2 ** 60 }, RangeError, "count must be a positive integer"],
        [{ offset: "offset" }, TypeError, "offset must be a non-negative integer"],
        [{ offset: 1.5 }, TypeError, "offset must be a non-negative integer"],
        [{ offset: -1 }, RangeError, "offset must be a non-negative integer"],
        [{ timeout: 0 }, RangeError, "timeout"],
        [{ timeout: "1" }, TypeError, "timeout"],
        [{ rateLimit: -1 }, RangeError, "rateLimit"],
        [{ header: "text" }, TypeError, "header must be a Uint8Array"],
      ];
      for (const [options, type, message] of wrong) {
        const asked = options as SendfileOptions;
        await assertRejects(() => sendfile(socket, file.file, asked), type, message);
        assertThrows(() => sendfileSync(socket, file.file, asked), type, message);
      }
      await assertRejects(() => createSendfileCallable(socket)(file.file, 0, -1), RangeError);
      assertEquals(sendfileStats().sendfile.calls, calls, "a call was made");
      file.assertPosition(0);
      end();
      assertEquals((await peer.all()).length, 0);
    }),
);
