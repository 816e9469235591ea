/** What TCP makes of a transfer: bytes written and acknowledged, segments, bytes held back. */
import { assert, assertEquals } from "@std/assert";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { sendfile } from "../../mod.ts";
import { assertBytes, bytes, concat, testFile, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { descriptor } from "../support/pairs_node.ts";

test("what a connection has written includes what still waits to be sent", async () => {
  const libc = loadLibc() as Libc;
  const pair = await descriptor.open({ small: true });
  const fd = pair.socket as number;
  try {
    const chunk = bytes(10_000);
    let written = 0;
    for (let sent; (sent = libc.send(fd, chunk, false)) > 0;) written += sent;
    const { written: told, acked } = { ...libc.tcp(fd)! };
    assertEquals(told, written);
    assert(acked < written);
    await pair.peer.atLeast(written);
    await until("all is acknowledged", () => libc.tcp(fd)!.acked === written);
    assertEquals(libc.tcp(fd)!.written, written);
  } finally {
    pair.close();
  }
});

const TCP_INFO = 11;
const IPPROTO_TCP = 6;
const NOTSENT_BYTES = 144;
const DATA_SEGS_OUT = 156;

/** What TCP has done with what was written: segments with data sent, and bytes held back (struct tcp_info). */
function sentOf(fd: number): { segments: number; heldBack: number } {
  const { call } = (loadLibc() as Libc).library;
  const info = new DataView(new ArrayBuffer(256));
  const length = new Uint32Array([info.byteLength]);
  assertEquals(call.getsockopt(fd, IPPROTO_TCP, TCP_INFO, new Uint8Array(info.buffer), length), 0);
  return { segments: info.getUint32(DATA_SEGS_OUT, true), heldBack: info.getUint32(NOTSENT_BYTES, true) };
}

test("header, file and trailer of a small response leave in one segment, and at once", async () => {
  const content = bytes(4096);
  using file = testFile(content);
  const [header, trailer] = [bytes(150, 2), bytes(50, 3)];
  for (const options of [{ header }, { trailer }, { header, trailer }]) {
    const pair = await descriptor.open();
    const fd = pair.socket as number;
    await sendfile(fd, file.path, options);
    assertEquals(sentOf(fd), { segments: 1, heldBack: 0 });
    const expected = concat(options.header ?? new Uint8Array(), content, options.trailer ?? new Uint8Array());
    assertBytes(await pair.peer.atLeast(expected.length), expected);
    pair.close();
  }
});

test("a header whose file has ended is not held back", async () => {
  using file = testFile(bytes(10));
  const pair = await descriptor.open();
  const fd = pair.socket as number;
  const header = bytes(150, 2);
  assertEquals(await sendfile(fd, file.path, { header, offset: 10, count: 5 }), 0);
  assertEquals(sentOf(fd), { segments: 1, heldBack: 0 });
  assertBytes(await pair.peer.atLeast(150), header);
  pair.close();
});
