/** Raw sockets (CP-001 to CP-006). */
import { assert, assertEquals } from "@std/assert";
import { sendfileStats } from "../../../mod.ts";
import { assertBytes, bytes, concat, DATA } from "../../support/data.ts";
import { raw } from "../../support/pairs.ts";
import { both, on, send, SMALL } from "./ways.ts";

both(
  "CP-001",
  "sends the whole file through small buffers",
  (way) =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      const waits = sendfileStats().waits;
      const all = peer.all();
      assertEquals(await send(way, socket, file.file), DATA.length);
      end();
      assertBytes(await all, DATA);
      file.assertPosition(DATA.length);
      if (way === "sendfile") assert(sendfileStats().waits > waits, "no EAGAIN happened");
    }, SMALL),
);

both(
  "CP-002",
  "sends count bytes from offset",
  (way) =>
    on(raw, DATA, async ({ socket, peer, end }, file) => {
      assertEquals(await send(way, socket, file.file, { offset: 1000, count: 2000 }), 2000);
      end();
      assertBytes(await peer.all(), DATA.subarray(1000, 3000));
      file.assertPosition(3000);
    }, SMALL),
);

both(
  "CP-003",
  "sends nothing of an empty file",
  (way) =>
    on(raw, new Uint8Array(0), async ({ socket, peer, end }, file) => {
      assertEquals(await send(way, socket, file.file, { offset: 0 }), 0);
      end();
      assertEquals((await peer.all()).length, 0);
      file.assertPosition(0);
    }),
);

for (const offset of [0, 3, 6]) {
  both(
    "CP-004",
    `takes offset ${offset} as absolute, with the file's position at its end`,
    (way) =>
      on(raw, bytes(6), async ({ socket, peer, end }, file) => {
        file.seek(6);
        assertEquals(await send(way, socket, file.file, { offset }), 6 - offset);
        end();
        assertBytes(await peer.all(), bytes(6).subarray(offset));
        file.assertPosition(6);
      }),
  );
}

for (const offset of [0, DATA.length >> 1, DATA.length]) {
  both(
    "CP-005",
    `takes offset ${offset} as absolute, with the file's position at 123`,
    (way) =>
      on(raw, DATA, async ({ socket, peer, end }, file) => {
        file.seek(123);
        const all = peer.all();
        assertEquals(await send(way, socket, file.file, { offset }), DATA.length - offset);
        end();
        assertBytes(await all, DATA.subarray(offset));
        file.assertPosition(DATA.length);
      }),
  );
}

both(
  "CP-006",
  "keeps its place between two ordinary writes",
  (way) =>
    on(raw, DATA, async ({ socket, peer, end, write }, file) => {
      const all = peer.all();
      const [before, after] = [bytes(65536, 2), bytes(65536, 3)];
      await write(before);
      assertEquals(await send(way, socket, file.file), DATA.length);
      await write(after);
      end();
      assertBytes(await all, concat(before, DATA, after));
      file.assertPosition(DATA.length);
    }, SMALL),
);
