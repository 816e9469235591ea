/** The poller on kqueue. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { poller } from "../../ffi/poller.ts";
import { SendfileError } from "../../mod.ts";
import { assertBytes, concat, DATA, descriptors, until } from "../support/data.ts";
import type { Fake, Name } from "./fake.ts";
import { abi, fill, HEADER, LITTLE, TRAILER, transfer, withSocket } from "./fixture.ts";

/** Resolves when this system's poller holds nothing any more, neither in the kernel nor in a descriptor. */
async function idle(f: Fake): Promise<void> {
  await until("no filter is left", () => f.knotes() === 0);
  await until("no kqueue is left", () => f.queues() === 0);
}

function readiness(name: Name): void {
  abi(name, "kqueue tells writable and readable", (f) =>
    withSocket(f, async ({ fd, peer }) => {
      const p = poller(f.libc);
      let read = false;
      const readable = p.wait(fd, "readable").then(() => read = true);
      // Both filters of one descriptor, and the same one twice: one fires, the other stays.
      await Promise.all([p.wait(fd, "writable"), p.wait(fd, "writable")]);
      await p.wait(fd, "writable");
      // A filter that was armed again while its event was being delivered stays until it fires once more, with no waiter.
      await until("one filter is left", () => f.knotes() === 1);
      assertEquals([read, p.size], [false, 1]);
      f.libc.send(peer, LITTLE.subarray(0, 1), false);
      await readable;
    }));

  abi(name, "kqueue tells both directions at once", (f) =>
    withSocket(f, async ({ fd, peer }) => {
      const p = poller(f.libc);
      f.libc.send(peer, LITTLE.subarray(0, 1), false);
      assert(f.libc.block(fd, "readable", 10_000));
      await Promise.all([p.wait(fd, "readable"), p.wait(fd, "writable")]);
    }));

  abi(name, "kqueue tells the end of the stream as readable", (f) =>
    withSocket(f, async ({ fd, peer }) => {
      const readable = poller(f.libc).wait(fd, "readable");
      assertEquals(f.knotes(), 1);
      f.libc.shutdown(peer);
      await readable;
    }));

  abi(
    name,
    "kqueue tells a full socket as writable once it has been read from",
    (f) =>
      withSocket(f, async ({ fd, read, rest }) => {
        const sent = fill(f, fd, DATA);
        const controller = new AbortController();
        const aborted = assertRejects(
          () => poller(f.libc).wait(fd, "writable", controller.signal),
          Error,
          "over",
        );
        assertEquals(f.knotes(), 1);
        controller.abort(new Error("over"));
        await aborted;
        assertEquals(f.knotes(), 0);

        let written = false;
        const writable = poller(f.libc).wait(fd, "writable").then(() => written = true);
        // A round trip through the same kqueue: if the socket were writable, its event would arrive no later than this one.
        await withSocket(f, (other) => poller(f.libc).wait(other.fd, "writable"));
        assertEquals(written, false);
        const first = read(sent - 10_000);
        await writable;
        assertBytes(concat(first, rest()), DATA.subarray(0, sent));
      }, { small: true }),
  );

  abi(name, "kqueue tells many descriptors", async (f) => {
    const pairs = Array.from({ length: 100 }, () => f.pair());
    const p = poller(f.libc);
    let told = 0;
    const waits = pairs.map(([fd]) => p.wait(fd, "readable").then(() => told++));
    assertEquals([f.knotes(), p.size], [100, 100]);
    await until("all are in one kqueue", () => f.queues() === 1); // an earlier one may be about to close
    for (const [i, [, peer]] of pairs.entries()) {
      if (i % 2 === 0) f.libc.send(peer, LITTLE.subarray(0, 1), false);
    }
    await Promise.all(waits.filter((_, i) => i % 2 === 0));
    assertEquals([told, f.knotes(), p.size], [50, 50, 50]);
    for (const [i, [, peer]] of pairs.entries()) if (i % 2 === 1) f.libc.close(peer);
    await Promise.all(waits);
    for (const [i, [fd, peer]] of pairs.entries()) {
      f.libc.close(fd);
      if (i % 2 === 0) f.libc.close(peer);
    }
  });

  abi(
    name,
    "an aborted wait rejects with the reason and leaves the others",
    (f) =>
      withSocket(f, async ({ fd, peer }) => {
        const p = poller(f.libc);
        const controller = new AbortController();
        const readable = p.wait(fd, "readable");
        const aborted = assertRejects(() => p.wait(fd, "readable", controller.signal), Error, "no more");
        controller.abort(new Error("no more"));
        await aborted;
        await assertRejects(() => p.wait(fd, "readable", controller.signal), Error, "no more");
        assertEquals([f.knotes(), p.size], [1, 1]);
        f.libc.send(peer, LITTLE.subarray(0, 1), false);
        await readable;
      }),
  );

  abi(name, "the last abort wakes the waiter, which ends", (f) =>
    withSocket(f, async ({ fd }) => {
      await idle(f);
      const controller = new AbortController();
      const failed = assertRejects(
        () => poller(f.libc).wait(fd, "readable", controller.signal),
        Error,
        "over",
      );
      await until("a thread waits", () => f.inside() === 1);
      controller.abort(new Error("over"));
      await failed;
      assertEquals(f.knotes(), 0);
      await idle(f);
      assertEquals(f.inside(), 0);
    }));

  abi(
    name,
    "a number that is closed and handed out again is told for itself",
    (f) =>
      withSocket(f, (one) =>
        withSocket(f, async (other) => {
          const { libc } = f;
          const { fcntl, F_DUPFD_CLOEXEC } = libc.system;
          const number = 700; // so high that nobody else gets it
          const p = poller(libc);
          assertEquals(fcntl(libc.library, one.fd, F_DUPFD_CLOEXEC, number), number);
          const controller = new AbortController();
          const aborted = assertRejects(() => p.wait(number, "readable", controller.signal), Error, "closed");
          libc.send(one.peer, LITTLE.subarray(0, 1), false); // its report may be under way
          controller.abort(new Error("closed"));
          libc.close(number);
          assertEquals(fcntl(libc.library, other.fd, F_DUPFD_CLOEXEC, number), number);
          let read = false;
          const readable = p.wait(number, "readable").then(() => read = true);
          await aborted;
          await p.wait(number, "writable");
          assertEquals(read, false);
          libc.send(other.peer, LITTLE.subarray(0, 1), false);
          await readable;
          libc.close(number);
        })),
  );

  abi(name, "what is no descriptor cannot be waited for", async (f) => {
    const error = await assertRejects(() => poller(f.libc).wait(2 ** 31 - 1, "writable"), SendfileError);
    assertEquals(error.code, "EBADF");
    assertEquals([poller(f.libc).size, f.knotes()], [0, 0]);
  });

  abi(name, "no descriptor is left over", async (f) => {
    const rounds = () =>
      withSocket(f, async ({ fd }) => {
        const p = poller(f.libc);
        await p.wait(fd, "writable");
        const controller = new AbortController();
        const failed = assertRejects(() => p.wait(fd, "readable", controller.signal), Error, "over");
        await p.wait(fd, "writable");
        controller.abort(new Error("over"));
        await failed;
        await transfer(f, DATA, { options: { header: HEADER, trailer: TRAILER } });
        f.reset();
      });
    await rounds(); // the runtime's own that come with the first use of anything
    await idle(f);
    // What closes from here on does no harm: the runtime's connections to a registry, an earlier test's sockets.
    const before = new Set(descriptors());
    await rounds();
    await rounds();
    await idle(f);
    const left = () => descriptors().filter((entry) => !before.has(entry));
    await until("no descriptor is left", () => left().length === 0).catch((error) => {
      throw new Error(`${left()}`, { cause: error });
    });
  });
}

for (const name of ["darwin", "freebsd"] as const) readiness(name);
