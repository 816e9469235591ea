/** Sockets whose runtime buffers what is written to them (CP-007 to CP-022). */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as dgram from "node:dgram";
import type * as net from "node:net";
import { ConnectionClosedError, sendfile, SendfileNotAvailableError } from "../../../mod.ts";
import { assertBytes, bytes, concat, DATA, testFile } from "../../support/data.ts";
import { raw, secure } from "../../support/pairs.ts";
import { descriptor, nodeAccepted, nodeTls } from "../../support/pairs_node.ts";
import { both, on, one, send, SMALL, withLibc } from "./ways.ts";

one("CP-007", "refuses a datagram socket", async () => {
  using file = testFile(DATA);
  const socket = dgram.createSocket("udp4");
  try {
    await assertRejects(
      () => sendfile(socket as unknown as net.Socket, file.file),
      TypeError,
      "stream socket",
    );
    file.assertPosition(0);
  } finally {
    socket.close();
  }
});

both(
  "CP-008",
  "sends a file over a node:net socket",
  (way) =>
    on(nodeAccepted, DATA, async ({ socket, peer, end }, file) => {
      const all = peer.all();
      assertEquals(await send(way, socket, file.file), DATA.length);
      end();
      assertBytes(await all, DATA);
      file.assertPosition(DATA.length);
    }, SMALL),
);

one(
  "CP-009",
  "falls back by itself, with the same result",
  () =>
    on(nodeAccepted, DATA, async ({ socket, peer, end }, file) => {
      const all = peer.all();
      await withLibc("not here, the test says", async () => {
        assertEquals(await send("copy", socket, file.file, { zeroCopy: true }), DATA.length);
      });
      end();
      assertBytes(await all, DATA);
      file.assertPosition(DATA.length);
    }),
);

one(
  "CP-010",
  "without a fallback says that sendfile is not available, and sends nothing",
  () =>
    on(nodeAccepted, DATA, async ({ socket, peer, end }, file) => {
      await withLibc("not here, the test says", async () => {
        const error = await assertRejects(
          () => sendfile(socket, file.file, { fallback: false }),
          SendfileNotAvailableError,
          "not available",
        );
        assertEquals([error.reason, error.sent], ["not here, the test says", 0]);
      });
      end();
      assertEquals((await peer.all()).length, 0);
      file.assertPosition(0);
    }),
);

for (const kind of [secure, nodeTls]) {
  one(
    "CP-011",
    `sends a file over TLS (${kind.name}), by copy`,
    () =>
      on(kind, DATA, async ({ socket, peer, end }, file) => {
        const all = peer.all();
        assertEquals(await send("copy", socket, file.file, { zeroCopy: true }), DATA.length);
        end();
        assertBytes(await all, DATA);
        file.assertPosition(DATA.length);
      }),
  );
}

both("CP-012", "refuses a socket that was closed, and sends nothing", async (way) => {
  for (const kind of [raw, nodeAccepted]) {
    await on(kind, DATA, async ({ socket, peer, end }, file) => {
      end();
      const error = await assertRejects(
        () => sendfile(socket, file.file, { zeroCopy: way === "sendfile" }),
        ConnectionClosedError,
      );
      assertEquals(error.sent, 0);
      assertEquals((await peer.all()).length, 0);
      file.assertPosition(0);
    });
  }
});

both(
  "CP-013",
  "is sent after earlier writes and before later writes",
  (way) =>
    on(nodeAccepted, DATA, async ({ socket, peer, end }, file) => {
      const all = peer.all();
      const [prefix, suffix] = [bytes(8192, 2), bytes(8192, 3)];
      const stream = socket as net.Socket;
      stream.write(prefix);
      const sending = send(way, socket, file.file);
      stream.write(suffix);
      assertEquals(await sending, DATA.length);
      end();
      assertBytes(await all, concat(prefix, DATA, suffix));
      file.assertPosition(DATA.length);
    }, SMALL),
);

one(
  "CP-014",
  "keeps the same order over TLS",
  () =>
    on(nodeTls, DATA, async ({ socket, peer, end }, file) => {
      const all = peer.all();
      const [prefix, suffix] = [bytes(7168, 2), bytes(10240, 3)];
      const stream = socket as net.Socket;
      stream.write(prefix);
      const sending = send("copy", socket, file.file, { zeroCopy: true });
      stream.write(suffix);
      assertEquals(await sending, DATA.length);
      end();
      assertBytes(await all, concat(prefix, DATA, suffix));
      file.assertPosition(DATA.length);
    }),
);

both(
  "CP-015",
  "sends a part of a file over a node:net socket",
  (way) =>
    on(nodeAccepted, DATA, async ({ socket, peer, end }, file) => {
      assertEquals(await send(way, socket, file.file, { offset: 1000, count: 100 }), 100);
      end();
      assertBytes(await peer.all(), DATA.subarray(1000, 1100));
      file.assertPosition(1100);
    }),
);

for (const kind of [secure, nodeTls]) {
  one(
    "CP-016",
    `sends a part of a file over TLS (${kind.name})`,
    () =>
      on(kind, DATA, async ({ socket, peer, end }, file) => {
        const options = { offset: 1000, count: 100, zeroCopy: true };
        assertEquals(await send("copy", socket, file.file, options), 100);
        end();
        assertBytes(await peer.all(), DATA.subarray(1000, 1100));
        file.assertPosition(1100);
      }),
  );
}

both(
  "CP-017",
  "succeeds if the peer leaves after the last byte",
  (way) =>
    on(nodeAccepted, DATA, async ({ socket, peer }, file) => {
      const received = peer.atLeast(DATA.length).then((all) => (peer.socket.destroy(), all));
      assertEquals(await send(way, socket, file.file), DATA.length);
      assertBytes(await received, DATA);
      file.assertPosition(DATA.length);
    }),
);

one(
  "CP-018",
  "succeeds if a TLS peer leaves after the last byte",
  () =>
    on(nodeTls, DATA, async ({ socket, peer }, file) => {
      const received = peer.atLeast(DATA.length).then((all) => (peer.socket.destroy(), all));
      assertEquals(await send("copy", socket, file.file, { zeroCopy: true }), DATA.length);
      assertBytes(await received, DATA);
      file.assertPosition(DATA.length);
    }),
);

both("CP-019 CP-020", "reports a peer that leaves in the middle, and how far it came", async (way) => {
  for (const kind of [raw, nodeAccepted, descriptor]) {
    const content = bytes(16 * 1024 * 1024, 4); // more than the socket buffers take
    await on(kind, content, async ({ socket, peer }, file) => {
      peer.atLeast(1024).then(() => peer.socket.destroy());
      const error = await assertRejects(() => send(way, socket, file.file), ConnectionClosedError);
      assert(error.sent >= 1024 && error.sent < content.length, `sent ${error.sent}`);
      assert(peer.length >= 1024 && peer.length < content.length, `received ${peer.length}`);
      file.assertPosition(error.sent);
      if (kind === nodeAccepted) assert((socket as net.Socket).destroyed, "the socket is not destroyed");
    });
  }
});

both(
  "CP-021",
  "holds back a bare write until it is done",
  (way) =>
    on(nodeAccepted, DATA, async ({ socket, peer, end }, file) => {
      const sending = send(way, socket, file.file);
      await peer.atLeast(1);
      let written = false;
      const late = bytes(1000, 9);
      (socket as net.Socket).write(late, () => written = true);
      const all = peer.all();
      assertEquals(await sending, DATA.length);
      end();
      assertBytes(await all, concat(DATA, late));
      assert(written);
      file.assertPosition(DATA.length);
    }, SMALL),
);

one("CP-022", "with a fallback-only socket and no fallback, fails before the file is touched", async () => {
  for (const kind of [secure, nodeTls]) {
    await on(kind, DATA, async ({ socket, peer, end }, file) => {
      const error = await assertRejects(
        () => sendfile(socket, file.file, { fallback: false }),
        SendfileNotAvailableError,
      );
      assertEquals(error.reason, "TLS");
      file.assertPosition(0);
      end();
      assertEquals((await peer.all()).length, 0);
    });
  }
});
