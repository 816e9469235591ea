/** Whole transfers over the other systems' ABI: sockets, offsets, TCP_NOPUSH, peers that leave, aborts. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import { replaceLibc } from "../../ffi/load.ts";
import { ConnectionClosedError, sendfile, SendfileError, sendfileSync } from "../../mod.ts";
import { assertBytes, DATA, testFile, until } from "../support/data.ts";
import { readInChild } from "../support/helpers.ts";
import { kinds } from "../support/pairs.ts";
import { nodeAccepted } from "../support/pairs_node.ts";
import { EAGAIN, EINTR, EIO, type Name } from "./fake.ts";
import {
  abi,
  assertContiguous,
  GIB4,
  HEADER,
  LITTLE,
  TRAILER,
  transfer,
  withFile,
  withSocket,
} from "./fixture.ts";

function wholeTransfers(name: Name): void {
  for (const kind of kinds.filter((kind) => kind.native)) {
    abi(name, `a transfer over ${kind.name}`, async (f) => {
      f.script(1, EAGAIN, 1000);
      f.script(2, EINTR, 0);
      await transfer(f, DATA, { open: kind });
    });
  }

  abi(name, "sendfileSync waits by poll", async (f) => {
    using file = testFile(DATA);
    await using child = await readInChild();
    f.script(1, EAGAIN, 5000);
    f.script(2, EAGAIN, 0);
    f.script(3, EINTR, 1);
    replaceLibc(f.libc);
    assertEquals(sendfileSync(child.socket, file.path), DATA.length);
    replaceLibc(undefined);
    assertBytes(await child.received(), DATA);
    assertContiguous(f.calls());
  });

  abi(
    name,
    "the end of the file is no error",
    (f) =>
      withFile(LITTLE, (file) =>
        withSocket(f, ({ fd, rest }) => {
          const { length } = LITTLE;
          assertEquals(f.libc.sendfile(fd, file, length - 100, 1000), 100);
          assertEquals(f.libc.sendfile(fd, file, length, 1000), 0);
          assertEquals(f.libc.sendfile(fd, file, length + GIB4, 1000), 0);
          assertBytes(rest(), LITTLE.subarray(length - 100));
        })),
  );

  abi(name, "a file truncated on the way ends the transfer", async (f) => {
    using file = testFile(LITTLE);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EAGAIN, 1000);
      const sent = await sendfile(pair.socket, file.file, {
        count: LITTLE.length,
        fallback: false,
        onProgress: (sent) => sent === 1000 && fs.truncateSync(file.path, 1500),
      });
      assertEquals(sent, 1500);
      pair.end();
      assertBytes(await pair.peer.all(), LITTLE.subarray(0, 1500));
      assertEquals(f.calls().map((call) => call.moved), [1000, 500, 0]);
    } finally {
      pair.close();
    }
  });

  abi(name, "offsets above 4 GiB arrive whole", async (f) => {
    using file = testFile(new Uint8Array(0));
    const fd = fs.openSync(file.path, "r+");
    fs.writeSync(fd, LITTLE, 0, LITTLE.length, GIB4 + 77);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EAGAIN, 3000);
      const sent = await sendfile(pair.socket, file.file, { offset: GIB4 + 77, fallback: false });
      assertEquals(sent, LITTLE.length);
      pair.end();
      assertBytes(await pair.peer.all(), LITTLE);
      assertContiguous(f.calls(), GIB4 + 77);

      const into = new Uint8Array(100);
      assertEquals(f.libc.pread(fd, into, GIB4 + 78), 100);
      assertBytes(into, LITTLE.subarray(1, 101));
    } finally {
      pair.close();
      fs.closeSync(fd);
    }
  });

  abi(name, "TCP_NOPUSH is set before header, file and trailer, and cleared after them", async (f) => {
    const expected = name === "darwin" ? /^CS+F+S+US$/ : /^CS+F+S+U$/;
    await transfer(f, LITTLE, { options: { header: HEADER, trailer: TRAILER } });
    assert(expected.test(f.history()), f.history());
    f.reset();
    f.script(1, EAGAIN, 100);
    f.script(3, EINTR, 0);
    await transfer(f, DATA, { options: { header: HEADER, trailer: TRAILER } });
    assert(expected.test(f.history()), f.history());
  });

  abi(name, "a header alone is held back by TCP_NOPUSH too, and a file alone is not", async (f) => {
    await transfer(f, LITTLE, { options: { header: HEADER } });
    assert((name === "darwin" ? /^CS+F+US$/ : /^CS+F+U$/).test(f.history()), f.history());
    f.reset();
    await transfer(f, LITTLE);
    assert(/^F+$/.test(f.history()), f.history());
  });

  abi(name, "TCP_NOPUSH is cleared after an error", async (f) => {
    using file = testFile(LITTLE);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EIO, 0);
      await assertRejects(() => sendfile(pair.socket, file.file, { header: HEADER }), SendfileError, "EIO");
      assert((name === "darwin" ? /^CS+US$/ : /^CS+U$/).test(f.history()), f.history());
    } finally {
      pair.close();
    }
  });

  abi(name, "a peer that leaves ends a transfer that waits", async (f) => {
    using file = testFile(DATA);
    const pair = await nodeAccepted.open({ small: true });
    try {
      replaceLibc(f.libc);
      const sending = assertRejects(
        () => sendfile(pair.socket, file.file, { fallback: false }),
        ConnectionClosedError,
      );
      await until("the transfer waits", () => f.knotes() === 1);
      pair.peer.socket.destroy();
      await sending;
      assertEquals(f.knotes(), 0);
    } finally {
      pair.close();
    }
  });

  abi(name, "an abort ends a transfer that waits", async (f) => {
    using file = testFile(DATA);
    const pair = await nodeAccepted.open({ small: true });
    try {
      replaceLibc(f.libc);
      const controller = new AbortController();
      const sending = sendfile(pair.socket, file.file, { fallback: false, signal: controller.signal });
      const failed = assertRejects(() => sending, Error, "enough");
      await until("the transfer waits", () => f.knotes() === 1);
      controller.abort(new Error("enough"));
      await failed;
      assertEquals(f.knotes(), 0);
    } finally {
      pair.close();
    }
  });
}

for (const name of ["darwin", "freebsd"] as const) wholeTransfers(name);
