/** Rates at which the next byte is due later than a timer can wait. */
import { assertEquals, assertRejects } from "@std/assert";
import * as http from "node:http";
import * as net from "node:net";
// @ts-types="@types/compression"
import compression from "compression";
import { serveFile } from "../../http/mod.ts";
import { sendFile } from "../../http/node.ts";
import { sendfile } from "../../mod.ts";
import { assertBytes, bytes, openBelow, testFile, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { raw } from "../support/pairs.ts";

/** Bytes per second: the second byte is due after 10^10 ms. */
const RATE = 1e-7;

/** Longer than a timer waits that has overflown. */
const soon = () => new Promise<string>((resolve) => setTimeout(resolve, 100, "soon"));

for (const zeroCopy of [true, false]) {
  test(`a tiny rate limit lets one byte go, and a signal ends it [zeroCopy ${zeroCopy}]`, async () => {
    using file = testFile(bytes(1000));
    const pair = await raw.open();
    const stop = new AbortController();
    let sent = 0;
    const onProgress = (bytes: number) => void (sent = bytes);
    const sending = sendfile(pair.socket, file.path, {
      zeroCopy,
      rateLimit: RATE,
      signal: stop.signal,
      onProgress,
    });
    await pair.peer.atLeast(1);
    assertEquals(await Promise.race([sending, soon()]), "soon");
    assertEquals(sent, 1);
    stop.abort(new Error("enough"));
    await assertRejects(() => sending, Error, "enough");
    assertBytes(pair.peer.received, bytes(1));
    pair.close();
  });
}

test("a body with a tiny rate limit gives one byte, and its reader may leave", async () => {
  using file = testFile(bytes(1000));
  const before = openBelow(file.path).length;
  const response = await serveFile(new Request("http://a/"), file.path, { rateLimit: RATE });
  const reader = response.body!.getReader();
  assertBytes((await reader.read()).value!, bytes(1));
  assertEquals(await Promise.race([reader.read(), soon()]), "soon");
  await reader.cancel();
  await until("the file is closed", () => openBelow(file.path).length === before);
});

test("a client of node:http may leave a response with a tiny rate limit that is copied", async () => {
  using file = testFile(bytes(1000));
  const before = openBelow(file.path).length;
  let sending: Promise<unknown> | undefined;
  const wrap = compression({ threshold: 0 });
  const server = http.createServer((request, response) =>
    wrap(request as never, response as never, () => {
      sending = sendFile(request, response, file.path, { rateLimit: RATE });
    })
  );
  try {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const client = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
    client.write("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    await until("the file is open", () => openBelow(file.path).length > before);
    await soon();
    client.destroy();
    await sending;
    await until("the file is closed", () => openBelow(file.path).length === before);
  } finally {
    server.close();
  }
});
