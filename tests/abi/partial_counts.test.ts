/** The count of bytes that comes together with EAGAIN, EINTR, EBUSY or EIO: none is lost, none sent twice. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { replaceLibc } from "../../ffi/load.ts";
import { poller } from "../../ffi/poller.ts";
import { sendfile, SendfileError, sendfileStats } from "../../mod.ts";
import { assertBytes, concat, DATA, testFile } from "../support/data.ts";
import { nodeAccepted } from "../support/pairs_node.ts";
import { ALL, EAGAIN, EBUSY, EINTR, EIO, EPERM, type Name, UNTOUCHED } from "./fake.ts";
import { abi, assertContiguous, errorName, LITTLE, transfer, withFile, withSocket } from "./fixture.ts";

function partialCounts(name: Name): void {
  abi(name, "sendfile gives the partial count that comes with EAGAIN", async (f) => {
    const content = DATA.subarray(0, 400_000);
    await withFile(content, (file) =>
      withSocket(f, async ({ fd, read, rest }) => {
        // The first call fills the socket, and the kernel says both: EAGAIN, and how much it took.
        const first = f.libc.sendfile(fd, file, 0, content.length);
        assert(first > 0 && first < content.length, `${first} bytes`);
        const received: Uint8Array[] = [];
        let at = first;
        let refused = 0;
        while (at < content.length) {
          const sent = f.libc.sendfile(fd, file, at, content.length - at);
          if (sent > 0) at += sent;
          else {
            assertEquals(errorName(f, sent), "EAGAIN");
            refused++;
            do received.push(read(10_000)); while (!f.libc.block(fd, "writable", 5));
            await poller(f.libc).wait(fd, "writable");
          }
        }
        assert(refused > 0);
        assertBytes(concat(...received, rest()), content);
        assertContiguous(f.calls());
      }, { small: true }));
  });

  for (const [code, errno] of [["EAGAIN", EAGAIN], ["EINTR", EINTR], ["EBUSY", EBUSY]] as const) {
    if (code === "EBUSY" && name === "darwin") continue; // FreeBSD's alone
    abi(
      name,
      `sendfile gives the partial count that comes with ${code}, and ${code} where there is none`,
      (f) =>
        withFile(LITTLE, (file) =>
          withSocket(f, ({ fd, rest }) => {
            f.script(1, errno, 5000);
            f.script(2, errno, 0);
            f.script(3, errno, 1);
            assertEquals(f.libc.sendfile(fd, file, 0, LITTLE.length), 5000);
            assertEquals(errorName(f, f.libc.sendfile(fd, file, 5000, LITTLE.length - 5000)), code);
            assertEquals(f.libc.sendfile(fd, file, 5000, LITTLE.length - 5000), 1);
            assertEquals(f.libc.sendfile(fd, file, 5001, LITTLE.length - 5001), LITTLE.length - 5001);
            assertBytes(rest(), LITTLE);
          })),
    );

    abi(name, `a transfer goes on behind the bytes that ${code} came with`, async (f) => {
      f.script(1, errno, 4097);
      f.script(2, errno, 0);
      f.script(3, errno, 0);
      f.script(4, errno, 1);
      f.script(5, errno, 3000);
      f.script(7, errno, 0);
      const calls = await transfer(f, DATA);
      assertEquals(calls.slice(0, 5).map((call) => call.moved), [4097, 0, 0, 1, 3000]);
    });
  }

  abi(name, `${title(name)}'s partial count with EAGAIN is not sent twice`, async (f) => {
    const before = sendfileStats();
    const calls = await transfer(f, DATA);
    const after = sendfileStats();
    assert(calls.some(({ moved, count }) => moved > 0 && moved < count), "no call was cut short");
    assertEquals(after.sendfile.bytes - before.sendfile.bytes, DATA.length);
    assertEquals(after.copy, before.copy);
    assert(after.waits > before.waits);
  });

  abi(name, "all of the count with EAGAIN is not sent twice", async (f) => {
    // xnu: the socket's buffer is full to the brim, which it sees before it sees that nothing is left to send.
    f.script(1, EAGAIN, ALL);
    assertEquals(await transfer(f, LITTLE), [{ offset: 0, count: LITTLE.length, moved: LITTLE.length }]);
  });

  abi(name, "all of the count with EINTR is not sent twice", async (f) => {
    f.script(1, EINTR, ALL);
    assertEquals(await transfer(f, LITTLE), [{ offset: 0, count: LITTLE.length, moved: LITTLE.length }]);
  });

  abi(name, "a call that never wrote the count has sent nothing", async (f) => {
    await withFile(LITTLE, (file) =>
      withSocket(f, ({ fd, rest }) => {
        f.script(1, EPERM, UNTOUCHED);
        f.script(2, EIO, UNTOUCHED);
        assertEquals(errorName(f, f.libc.sendfile(fd, file, 0, LITTLE.length)), "EPERM");
        assertEquals(errorName(f, f.libc.sendfile(fd, file, 0, LITTLE.length)), "EIO");
        assertBytes(rest(), new Uint8Array(0));
      }));
  });

  abi(name, "a transfer that is not permitted in the middle goes on by copy", async (f) => {
    f.script(1, EAGAIN, 5000);
    f.script(2, EPERM, UNTOUCHED);
    const before = sendfileStats();
    const calls = await transfer(f, DATA, { options: { fallback: true } });
    const after = sendfileStats();
    assertEquals(calls.length, 2);
    assertEquals(after.sendfile.bytes - before.sendfile.bytes, 5000);
    assertEquals(after.copy.bytes - before.copy.bytes, DATA.length - 5000);
  });

  abi(name, "a partial count that comes with EIO is in the error's sent", async (f) => {
    using file = testFile(LITTLE);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EIO, 5000);
      f.script(2, EIO, 0);
      const error = await assertRejects(() => sendfile(pair.socket, file.file), SendfileError);
      const { code, errno, syscall, sent } = error;
      assertEquals({ code, errno, syscall, sent }, {
        code: "EIO",
        errno: EIO,
        syscall: "sendfile",
        sent: 5000,
      });
      pair.end();
      assertBytes(await pair.peer.all(), LITTLE.subarray(0, 5000));
    } finally {
      pair.close();
    }
  });
}

function title(name: Name): string {
  return name === "darwin" ? "Darwin" : "FreeBSD";
}

for (const name of ["darwin", "freebsd"] as const) partialCounts(name);
