/** sendfileSync and createSendfileCallable. */
import { assertEquals, assertThrows } from "@std/assert";
import type * as net from "node:net";
import { createSendfileCallable, sendfile, SendfileNotAvailableError, sendfileSync } from "../../mod.ts";
import { assertBytes, bytes, concat, DATA, testFile } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { raw } from "../support/pairs.ts";
import { nodeAccepted } from "../support/pairs_node.ts";

test("sendfileSync refuses a socket that has something else to send before", async () => {
  using file = testFile(DATA);
  const limit = { timeout: 1000 }; // of a call that would go through: this thread is the reader's too
  {
    const pair = await raw.open({ small: true });
    const sending = sendfile(pair.socket, file.path);
    const error = assertThrows(() => sendfileSync(pair.socket, file.path, limit), SendfileNotAvailableError);
    assertEquals([error.reason, error.sent], ["another transfer of this socket is under way", 0]);
    const all = pair.peer.all();
    assertEquals(await sending, DATA.length);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  }
  const pair = await nodeAccepted.open({ small: true });
  const socket = pair.socket as net.Socket;
  const before = bytes(4_000_000, 5);
  socket.write(before); // the peer does not read yet
  const error = assertThrows(() => sendfileSync(socket, file.path, limit), SendfileNotAvailableError);
  assertEquals([error.reason, error.sent], ["the runtime still holds earlier bytes", 0]);
  socket.end();
  assertBytes(await pair.peer.all(), before);
  pair.close();
});

test("createSendfileCallable sends to its socket", async () => {
  using file = testFile(DATA);
  const pair = await raw.open();
  const send = createSendfileCallable(pair.socket);
  const all = pair.peer.all();
  assertEquals([await send(file.file, 1, 2), await send(file.path, DATA.length - 4)], [2, 4]);
  pair.end();
  assertBytes(await all, concat(DATA.subarray(1, 3), DATA.subarray(-4)));
  pair.close();
});
