/** What can happen to a transfer on its way, by sendfile(2) and by copy. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ConnectionClosedError, sendfile, sendfileStats } from "../../mod.ts";
import { assertBytes, bytes, concat, DATA, descriptors, testFile, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import { bodyOf, kinds, raw } from "../support/pairs.ts";
import { nodeAccepted } from "../support/pairs_node.ts";

const ways = [true, false];
const named = (zeroCopy: boolean) => zeroCopy ? "sendfile" : "copy";

/**
 * Registers a test in which all bytes must go by sendfile(2), or all by copy. `mixed`: some of its sockets are always
 * copied.
 */
function way(zeroCopy: boolean, name: string, body: () => Promise<void>, { mixed = false } = {}): void {
  test(`${name} [${named(zeroCopy)}]`, async () => {
    const before = sendfileStats();
    await body();
    const after = sendfileStats();
    const [used, other] = zeroCopy ? ["sendfile", "copy"] as const : ["copy", "sendfile"] as const;
    assert(after[used].transfers > before[used].transfers, `nothing went by ${used}`);
    if (!mixed) assertEquals(after[other].bytes, before[other].bytes, `bytes went by ${other}`);
  });
}

/** Opens and closes a pair, so that the runtime has opened what it keeps. */
async function warmUp(path: string, zeroCopy: boolean): Promise<void> {
  const pair = await raw.open();
  await sendfile(pair.socket, path, { count: 10, zeroCopy });
  pair.close();
}

for (const zeroCopy of ways) {
  way(zeroCopy, "a slow reader gets every byte", async () => {
    using file = testFile(DATA);
    for (const kind of [raw, nodeAccepted]) {
      const pair = await kind.open({ small: true });
      const sending = sendfile(pair.socket, file.file, { zeroCopy });
      for (let length = 1; length < DATA.length; length += 100_000) {
        await pair.peer.atLeast(length);
        pair.peer.socket.pause();
        await new Promise((resolve) => setTimeout(resolve, 2)); // what makes it slow
      }
      const all = pair.peer.all();
      assertEquals(await sending, DATA.length);
      pair.end();
      assertBytes(await all, DATA);
      pair.close();
    }
  });

  way(zeroCopy, "a trailer follows a file that ends before its count", async () => {
    using file = testFile(DATA.subarray(0, 500));
    const [header, trailer] = [bytes(100, 2), bytes(300, 3)];
    for (const kind of [raw, nodeAccepted]) {
      const pair = await kind.open();
      const all = pair.peer.all();
      assertEquals(await sendfile(pair.socket, file.path, { header, trailer, count: 1000, zeroCopy }), 500);
      pair.end();
      assertBytes(await all, concat(header, DATA.subarray(0, 500), trailer));
      pair.close();
    }
  });

  way(zeroCopy, "a slow but steady reader is not timed out", async () => {
    using file = testFile(DATA);
    const timeout = 1500;
    const pair = await raw.open({ small: true });
    const sending = sendfile(pair.socket, file.path, { zeroCopy, timeout });
    const began = performance.now();
    for (let length = 1; length < DATA.length; length += 120_000) {
      await Promise.race([pair.peer.atLeast(length), sending]);
      pair.peer.socket.pause();
      await new Promise((resolve) => setTimeout(resolve, timeout / 6)); // what makes it slow
    }
    assert(performance.now() - began > timeout, "it was not slow enough");
    const all = pair.peer.all();
    assertEquals(await sending, DATA.length);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  });

  way(zeroCopy, "100 sockets at once, each with its own bytes, and no descriptor left", async () => {
    const content = bytes(400_000, 31);
    using file = testFile(content);
    await warmUp(file.path, zeroCopy); // opens what the runtime opens once and keeps
    const atFirst = descriptors().length;
    await warmUp(file.path, zeroCopy);
    await until("the first pair is gone", () => descriptors().length <= atFirst);
    const before = sendfileStats();
    const open = descriptors().length;
    const pairs = await Promise.all(Array.from({ length: 100 }, () => raw.open({ small: true })));
    await Promise.all(pairs.map(async (pair, i) => {
      const all = pair.peer.all();
      const header = new TextEncoder().encode(`this is ${i}`);
      assertEquals(
        await sendfile(pair.socket, file.path, { offset: i * 17, header, zeroCopy }),
        content.length - i * 17,
      );
      pair.end();
      assertBytes(await all, concat(header, content.subarray(i * 17)));
      pair.close();
    }));
    const after = sendfileStats();
    assertEquals(after[named(zeroCopy)].transfers - before[named(zeroCopy)].transfers, 100);
    if (zeroCopy) assert(after.waits > before.waits, "no EAGAIN happened");
    await until("the descriptors are closed", () => descriptors().length <= open);
  });

  way(
    zeroCopy,
    "an abort in the middle ends the stream, so that the peer cannot take it for whole",
    async () => {
      const content = bytes(16 * 1024 * 1024);
      using file = testFile(content);
      for (const kind of kinds) {
        const pair = await kind.open({ small: kind.native });
        const stop = new AbortController();
        const sending = sendfile(pair.socket, file.file, { zeroCopy, signal: stop.signal });
        await pair.peer.atLeast(1000);
        pair.peer.socket.pause();
        stop.abort(new Error("enough"));
        await assertRejects(() => sending, Error, "enough");
        const received = await pair.peer.all(); // ends although nobody calls end()
        const part = bodyOf(kind, received);
        assert(part.length < content.length, kind.name);
        assertBytes(part, content.subarray(0, part.length));
        pair.close();
      }
    },
    { mixed: true },
  );

  test(`an abort before the start sends nothing and leaves the socket alone [${named(zeroCopy)}]`, async () => {
    using file = testFile(DATA);
    for (const kind of kinds.filter(({ name }) => name !== "node:http")) {
      const pair = await kind.open();
      const reason = new Error("never mind");
      const options = { zeroCopy, signal: AbortSignal.abort(reason) };
      assertEquals(await assertRejects(() => sendfile(pair.socket, file.file, options)), reason);
      await pair.write(new TextEncoder().encode("still here"));
      pair.end();
      assertEquals(new TextDecoder().decode(await pair.peer.all()), "still here");
      pair.close();
    }
  });

  way(zeroCopy, "a rate limit spreads the bytes, and changes none", async () => {
    using file = testFile(DATA);
    const pair = await raw.open();
    const all = pair.peer.all();
    const steps: number[] = [];
    const began = performance.now();
    const onProgress = (sent: number) => void steps.push(sent);
    const options = { rateLimit: 1_000_000, count: 400_000, zeroCopy, onProgress };
    assertEquals(await sendfile(pair.socket, file.file, options), 400_000);
    // Not an assertion on speed: pieces of a tenth of a second, of which the last starts when three have passed.
    assert(performance.now() - began >= 290, "it was too fast");
    assertEquals(steps, [100_000, 200_000, 300_000, 400_000]);
    pair.end();
    assertBytes(await all, DATA.subarray(0, 400_000));
    pair.close();
  });

  way(zeroCopy, "an exception in a callback ends the transfer and frees everything", async () => {
    using file = testFile(DATA);
    const pair = await raw.open({ small: true });
    const open = descriptors().length;
    const wrong = () => {
      throw new Error("my mistake");
    };
    await assertRejects(
      () => sendfile(pair.socket, file.path, { zeroCopy, onStart: wrong }),
      Error,
      "my mistake",
    );
    await assertRejects(
      () => sendfile(pair.socket, file.path, { zeroCopy, onProgress: wrong }),
      Error,
      "my mistake",
    );
    await until("the descriptors are closed", () => descriptors().length <= open);
    pair.close();
  });

  way(zeroCopy, "a peer that resets while the transfer waits is reported", async () => {
    using file = testFile(bytes(16 * 1024 * 1024));
    for (const kind of [raw, nodeAccepted]) {
      const pair = await kind.open({ small: true });
      const sending = sendfile(pair.socket, file.file, { zeroCopy });
      await pair.peer.atLeast(1);
      pair.peer.socket.pause();
      pair.peer.socket.resetAndDestroy();
      await assertRejects(() => sending, ConnectionClosedError);
      pair.close();
    }
  });
}

test("progress is told in order, up to the whole", async () => {
  using file = testFile(DATA);
  const pair = await raw.open({ small: true });
  const all = pair.peer.all();
  const steps: number[] = [];
  const options = { onProgress: (sent: number) => void steps.push(sent) };
  assertEquals(await onlyBy("sendfile", () => sendfile(pair.socket, file.file, options)), DATA.length);
  assert(steps.length > 1);
  assertEquals(steps, [...steps].sort((a, b) => a - b));
  assertEquals(steps.at(-1), DATA.length);
  pair.end();
  assertBytes(await all, DATA);
  pair.close();
});
