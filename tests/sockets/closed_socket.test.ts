/** The runtime closes its socket in the middle of a transfer, which then ends. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type * as net from "node:net";
import { ConnectionClosedError, sendfile } from "../../mod.ts";
import { bytes, openBelow, testFile, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import type { Kind } from "../support/pair.ts";
import { kinds, raw } from "../support/pairs.ts";
import { descriptor } from "../support/pairs_node.ts";
import { closeHere } from "./close_here.ts";

const ways = [true, false];

test("the runtime closes its socket in the middle: the transfer ends, and leaves no descriptor", async () => {
  const content = bytes(16 * 1024 * 1024);
  for (const kind of kinds) {
    if (kind === descriptor) continue; // its owner is the node:net socket
    using file = testFile(content);
    const own = openBelow(file.path).length;
    const pair = await kind.open({ small: kind.native });
    try {
      let sent = 0;
      const sending = sendfile(pair.socket, file.file, { onProgress: (bytes) => sent = bytes });
      await until(`${kind.name}: something was sent`, () => sent > 0);
      if (kind.name.startsWith("node")) (pair.socket as net.Socket).destroy();
      else pair.close();
      const error = await assertRejects(() => sending, ConnectionClosedError);
      assertEquals(error.sent, sent, kind.name);
    } finally {
      pair.close();
    }
    await until(
      `${kind.name}: no descriptor leads to the file but the test's own`,
      () => openBelow(file.path).length === own,
    );
  }
});

test("the runtime closes its socket while the peer reads nothing: the transfer ends all the same", async () => {
  using file = testFile(bytes(16 * 1024 * 1024));
  const owners = kinds.filter((kind) => kind !== descriptor);
  await Promise.all(
    owners.flatMap((kind) => ways.map((zeroCopy) => closedInTheMiddle(kind, zeroCopy, file.path))),
  );
});

async function closedInTheMiddle(kind: Kind, zeroCopy: boolean, path: string): Promise<void> {
  const pair = await kind.open({ small: kind.native });
  try {
    const outcome = sendfile(pair.socket, path, { zeroCopy }).catch((error) => error);
    await pair.peer.atLeast(1000);
    pair.peer.socket.pause();
    closeHere(pair);
    const error = await Promise.race([outcome, after(10_000)]);
    assert(error instanceof ConnectionClosedError, `${kind.name}, ${zeroCopy}: ${error}`);
  } finally {
    pair.close();
  }
}

function after(ms: number): Promise<string> {
  return new Promise((resolve) => setTimeout(() => resolve(`nothing after ${ms} ms`), ms));
}

test("a Bun socket that is paused when its peer resets ends a transfer", async () => {
  using file = testFile(bytes(16 * 1024 * 1024));
  for (const zeroCopy of ways) {
    const pair = await raw.open({ small: true });
    try {
      (pair.socket as unknown as { pause(): void }).pause();
      const outcome = sendfile(pair.socket, file.path, { zeroCopy }).catch((error) => error);
      await pair.peer.atLeast(1000);
      pair.peer.socket.resetAndDestroy();
      const error = await Promise.race([outcome, after(10_000)]);
      assert(error instanceof ConnectionClosedError, String(error));
    } finally {
      pair.close();
    }
  }
}, { only: "bun" });
