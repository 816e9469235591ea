/** CPython's sendfile tests, line by line: the ids are those of shared/conformance/cpython.md. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as dgram from "node:dgram";
import * as fs from "node:fs";
import type * as net from "node:net";
import {
  ConnectionClosedError,
  createSendfileCallable,
  sendfile,
  SendfileError,
  type SendfileFile,
  SendfileNotAvailableError,
  type SendfileOptions,
  sendfileStats,
  sendfileSync,
  SendfileTimeoutError,
} from "../../mod.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { poller } from "../../ffi/poller.ts";
import { writable } from "../../ffi/mod.ts";
import { assertBytes, bytes, concat, DATA, type TestFile, testFile, until } from "../support/data.ts";
import { faulty } from "../support/faults.ts";
import { test } from "../support/harness.ts";
import { datagramDescriptor, fill, readInChild, socketPair } from "../support/helpers.ts";
import { descriptor, type Kind, nodeAccepted, nodeTls, type Pair, raw, secure } from "../support/pairs.ts";

type Way = "sendfile" | "copy";

const seen = new Set<string>();

function note(id: string): void {
  for (const part of id.split(" ")) seen.add(part);
}

/** A test that goes the same both ways. */
function both(id: string, name: string, body: (way: Way) => Promise<void>): void {
  note(id);
  for (const way of ["sendfile", "copy"] as const) test(`${id} ${name} [${way}]`, () => body(way));
}

function one(id: string, name: string, body: () => void | Promise<void>): void {
  note(id);
  test(`${id} ${name}`, body);
}

/** `sendfile` that must go one way, proved by the counters. */
async function send(
  way: Way,
  socket: Pair["socket"],
  file: SendfileFile,
  options: SendfileOptions = {},
): Promise<number> {
  const before = sendfileStats();
  const ways: string[] = [];
  let sent = -1;
  try {
    sent = await sendfile(socket, file, {
      zeroCopy: way === "sendfile",
      onStart: ({ via }) => ways.push(via),
      ...options,
    });
    return sent;
  } finally {
    const after = sendfileStats();
    const other = way === "sendfile" ? "copy" : "sendfile";
    assertEquals(after[other].bytes, before[other].bytes, `bytes went by ${other}`);
    assertEquals(ways.filter((via) => via !== way), [], "the way that onStart named");
    if (sent >= 0) assertEquals(after[way].bytes - before[way].bytes, sent, "the counter's bytes");
  }
}

/** A pair and a file for one test, closed after it. */
async function on(
  kind: Kind,
  content: Uint8Array,
  body: (pair: Pair, file: TestFile) => Promise<void>,
  small = false,
): Promise<void> {
  using file = testFile(content);
  const pair = await kind.open({ small });
  try {
    await body(pair, file);
  } finally {
    pair.close();
  }
}

/** Runs `body` with the C library replaced. */
async function withLibc<T>(replacement: Libc | string, body: () => Promise<T>): Promise<T> {
  replaceLibc(replacement);
  try {
    return await body();
  } finally {
    replaceLibc(undefined);
  }
}

const SMALL = true;

// 1a. Raw sockets

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

// 1b. Sockets whose runtime buffers

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

// 1c. The loop

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

// 1d. No native support

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

// 1e. socket.sendfile: 10 MiB. The native way is the blocking sendfileSync, with the peer in another process.

const TEN = bytes(10 * 1024 * 1024, 5);

function tenMiB(
  id: string,
  name: string,
  options: { offset?: number; count?: number; timeout?: number },
): void {
  note(id);
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

// 1f. The bare call

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

// 1g. The same state machine, from shutil

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

/** Lines that have no counterpart here, and why. */
const without: Record<string, string> = {
  "CP-038": "no runtime here has files in text mode",
  "CP-051": "a runtime's sockets are always non-blocking; sendfileSync waits for them with poll(2)",
  "CP-059": "offset -1 is a RangeError before any call (CP-043); the port below takes only checked numbers",
  "CP-064": "32-bit BSD: the header is written by send(2), there is no iovec to overflow",
  "CP-065": "32-bit BSD: as CP-064",
  "CP-066": "SF_NODISKIO is not offered",
  "CP-073": "a descriptor that fstat refuses is closed: EBADF (CP-055)",
  "CP-076": "the size asked of a call is no argument here",
  "CP-079": "Windows' TransmitFile; the same refusals as CP-024 to CP-026",
};

test("every line of CPython's suite is ported, or has its reason", () => {
  const missing: string[] = [];
  for (let i = 1; i <= 80; i++) {
    const id = `CP-${String(i).padStart(3, "0")}`;
    if (seen.has(id) === id in without) missing.push(id);
  }
  assertEquals(missing, []);
});
