/** Every kind of socket, by sendfile(2) and by copy: the bytes, their order, and no descriptor left. */
import { assertEquals, assertRejects } from "@std/assert";
import { replaceLibc } from "../../ffi/load.ts";
import {
  canUseSendfile,
  sendfile,
  SendfileNotAvailableError,
  sendfileStats,
  whyNotSendfile,
} from "../../mod.ts";
import { assertBytes, bytes, concat, DATA, descriptors, testFile, until } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import type { Kind } from "../support/pair.ts";
import { bodyOf, kinds } from "../support/pairs.ts";
import { descriptor, nodeHttp } from "../support/pairs_node.ts";

for (const kind of kinds) {
  for (const zeroCopy of [true, false]) {
    const expected = kind.native && zeroCopy ? "sendfile" : "copy";
    test(`${kind.name}: a file with header and trailer goes by ${expected}${zeroCopy ? "" : " when asked to"}`, async () => {
      using file = testFile(DATA);
      const pair = await kind.open({ small: kind.native });
      try {
        if (zeroCopy) assertEquals(canUseSendfile(pair.socket), kind.native, whyNotSendfile(pair.socket));
        const before = sendfileStats();
        const all = pair.peer.all();
        const [header, trailer] = [bytes(100, 2), bytes(300_000, 3)];
        const starts: unknown[] = [];
        const sent = await sendfile(pair.socket, file.file, {
          header,
          trailer,
          zeroCopy,
          onStart: (start) => starts.push(start.via),
        });
        assertEquals(sent, DATA.length);
        pair.end();
        assertBytes(bodyOf(kind, await all), concat(header, DATA, trailer));
        const after = sendfileStats();
        assertEquals(starts, [expected]);
        assertEquals(after[expected].bytes - before[expected].bytes, DATA.length);
        assertEquals(after[expected].transfers - before[expected].transfers, 1);
      } finally {
        pair.close();
      }
    });
  }
}

test("a descriptor's number without FFI: Bun copies, Deno says that it cannot", async () => {
  using file = testFile(DATA);
  const pair = await descriptor.open();
  replaceLibc("not here, the test says");
  try {
    const sending = sendfile(pair.socket, file.path);
    if (isBun) {
      const all = pair.peer.all();
      assertEquals(await sending, DATA.length);
      pair.end();
      assertBytes(await all, DATA);
    } else {
      await assertRejects(() => sending, SendfileNotAvailableError, "not here");
      pair.end();
      assertEquals((await pair.peer.all()).length, 0);
    }
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
});

test("two transfers on one socket run one after the other", async () => {
  const [first, second] = [bytes(700_000, 11), bytes(700_001, 12)];
  for (const kind of kinds) {
    using one = testFile(first);
    using two = testFile(second);
    const pair = await kind.open({ small: kind.native });
    try {
      const all = pair.peer.all();
      const sent = await Promise.all([
        sendfile(pair.socket, one.file),
        sendfile(pair.socket, two.file),
        sendfile(pair.socket, one.file, { offset: 699_990 }),
      ]);
      assertEquals(sent, [first.length, second.length, 10]);
      pair.end();
      assertBytes(bodyOf(kind, await all), concat(first, second, first.subarray(699_990)));
    } finally {
      pair.close();
    }
  }
});

test("a transfer that fails lets the next one on its socket begin", async () => {
  using file = testFile(DATA);
  for (const kind of kinds.filter((kind) => kind !== nodeHttp)) {
    const pair = await kind.open();
    try {
      const all = pair.peer.all();
      const atOnce = sendfile(pair.socket, "/nonexistent");
      const later = sendfile(pair.socket, file.path, { rateLimit: 100_000, onProgress: failAt(20_000) });
      const next = sendfile(pair.socket, file.path);
      await assertRejects(() => atOnce, Error, "ENOENT");
      await assertRejects(() => later, Error, "after 20000");
      assertEquals(await next, DATA.length);
      pair.end();
      assertBytes(await all, concat(DATA.subarray(0, 20_000), DATA));
    } finally {
      pair.close();
    }
  }
});

function failAt(bytes: number): (sent: number) => void {
  return (sent) => {
    if (sent >= bytes) throw new Error(`after ${sent}`);
  };
}

test("all kinds of sockets leave no descriptor behind", async () => {
  using file = testFile(DATA);
  for (const kind of kinds) await once(kind, file.path); // opens what the runtime opens once and keeps
  const before = descriptors().length;
  for (let round = 0; round < 5; round++) {
    for (const kind of kinds) await once(kind, file.path);
  }
  await until("the descriptors are closed", () => descriptors().length <= before);
});

async function once(kind: Kind, path: string): Promise<void> {
  const pair = await kind.open({ small: kind.native });
  const all = pair.peer.all();
  await sendfile(pair.socket, path);
  pair.end();
  assertBytes(bodyOf(kind, await all), DATA);
  pair.close();
}
