/** A process without a descriptor left, in the middle of a transfer. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Libc } from "../../ffi/libc.ts";
import { replaceLibc } from "../../ffi/load.ts";
import { sendfile, SendfileNotAvailableError, sendfileStats, SendfileTimeoutError } from "../../mod.ts";
import { assertBytes, concat, DATA, testFile, until } from "../support/data.ts";
import { faulty } from "../support/faults.ts";
import { test } from "../support/harness.ts";
import { kinds, raw } from "../support/pairs.ts";

/** errno.h */
const EMFILE = 24;

/** Counts the calls that failed. */
interface Failing {
  readonly libc: Libc;
  calls: number;
}

function withoutDuplicates(): Failing {
  const failing = { libc: faulty({}), calls: 0 };
  failing.libc.dup = () => {
    failing.calls++;
    return -EMFILE;
  };
  return failing;
}

/** `calls`: how often it fails before there are descriptors again. */
function withoutPoller(calls: number): Failing {
  const failing = { libc: faulty({}), calls: 0 };
  const real = failing.libc.openSelector.bind(failing.libc);
  failing.libc.openSelector = () => {
    if (failing.calls === calls) return real();
    failing.calls++;
    throw failing.libc.error(-EMFILE, "epoll_create1");
  };
  return failing;
}

const HEADER = new TextEncoder().encode("in front ");

/** Asserts that all of DATA behind HEADER came to the peer, and nothing behind it. */
function assertCame(received: Uint8Array): void {
  // A node:http socket's peer gets a head first.
  const length = HEADER.length + DATA.length;
  assertBytes(received.subarray(Math.max(0, received.length - length)), concat(HEADER, DATA));
}

for (const kind of kinds.filter(({ native }) => native)) {
  // With a callback the duplicate comes before the first byte, without one behind the first step.
  for (const onStart of [undefined, () => {}]) {
    const when = onStart ? "at the start" : "on the way";
    test(`sendfile copies where no descriptor is left for a duplicate [${kind.name}, ${when}]`, async () => {
      const pair = await kind.open({ small: true });
      using file = testFile(DATA);
      const failing = withoutDuplicates();
      const before = sendfileStats();
      replaceLibc(failing.libc);
      try {
        const sending = sendfile(pair.socket, file.path, { header: HEADER, onStart });
        const all = pair.peer.all();
        assertEquals(await sending, DATA.length);
        pair.end();
        assertCame(await all);
        const { copy, sendfile: native } = sendfileStats();
        // Deno's node:net sockets come with a duplicate.
        assertEquals(copy.bytes > before.copy.bytes, failing.calls > 0);
        assertEquals(native.bytes > before.sendfile.bytes, failing.calls === 0 || onStart === undefined);
      } finally {
        replaceLibc(undefined);
        pair.close();
      }
    });
  }

  test(`sendfile goes on where no descriptor is left for a poller for a while [${kind.name}]`, async () => {
    const pair = await kind.open({ small: true });
    using file = testFile(DATA);
    const failing = withoutPoller(20);
    const before = sendfileStats();
    replaceLibc(failing.libc);
    try {
      const sending = sendfile(pair.socket, file.path, { header: HEADER });
      await until("the poller to be missed", () => failing.calls === 20);
      const all = pair.peer.all();
      assertEquals(await sending, DATA.length);
      pair.end();
      assertCame(await all);
      assertEquals(sendfileStats().copy.bytes, before.copy.bytes);
    } finally {
      replaceLibc(undefined);
      pair.close();
    }
  });
}

test("sendfile without a descriptor for the duplicate says so where the copy is not wanted", async () => {
  const pair = await raw.open({ small: true });
  using file = testFile(DATA);
  replaceLibc(withoutDuplicates().libc);
  try {
    const error = await assertRejects(
      () => sendfile(pair.socket, file.path, { fallback: false }),
      SendfileNotAvailableError,
    );
    assertEquals(error.reason, "dup: EMFILE");
    assert(error.sent > 0);
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
});

test("sendfile ends where no poller comes before its timeout", async () => {
  const pair = await raw.open({ small: true });
  using file = testFile(DATA);
  const failing = withoutPoller(Infinity);
  replaceLibc(failing.libc);
  try {
    await assertRejects(() => sendfile(pair.socket, file.path, { timeout: 100 }), SendfileTimeoutError);
    assert(failing.calls > 1);
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
});
