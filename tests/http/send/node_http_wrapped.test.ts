/** Files through a response whose `write` another middleware has replaced: Express's `compression()`, or one that counts. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
// @ts-types="@types/compression"
import compression from "compression";
// @ts-types="@types/express"
import express from "express";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import type { Server } from "node:http";
import type * as net from "node:net";
import process from "node:process";
import { gunzipSync } from "node:zlib";
import { type Sent, serveStatic } from "../../../http/node.ts";
import { bytes, folder, openBelow } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { until } from "../../support/site.ts";

const MIB = 1024 * 1024;

/** Repeats, so that to compress it takes little, and nowhere at the distance of a chunk. */
const TEXT = Buffer.from("a line of some text that a client can check.\n".repeat(700_000));
const RANDOM = Buffer.from(bytes(40 * MIB + 1));
const FILES: Record<string, Buffer> = { "text.txt": TEXT, "random.bin": RANDOM };

const WRAPPED = "copy (the response is wrapped)";

/** What an application saw of a response. */
class Seen {
  /** Bytes that were written to the response. */
  written = 0;
  /** Listeners of 'drain' that were added by the time it had closed. */
  drainListeners = 0;
  /** Listeners that the response had more at its end than before. */
  left: Record<string, number> = {};
  closed = false;
}

/** Events that somebody who writes a body listens to. */
const NAMES = ["drain", "close", "finish", "error"];

/** Takes note of what is done with a response; so it wraps `write` itself. */
function watch(response: express.Response): Seen {
  const seen = new Seen();
  const { on, write } = response;
  response.on = function (name: string, listener: (...values: unknown[]) => void) {
    if (name === "drain") seen.drainListeners++;
    return on.call(response, name, listener);
  };
  response.write = function (chunk: Uint8Array, ...rest: unknown[]) {
    seen.written += chunk.length;
    return Reflect.apply(write, response, [chunk, ...rest]);
  };
  on.call(response, "close", () =>
    // The listeners of whoever waits for this very event go after it.
    setTimeout(() => {
      for (const [i, name] of NAMES.entries()) {
        const more = response.listenerCount(name) - before[i];
        if (more > 0) seen.left[name] = more;
      }
      seen.closed = true;
    }));
  const before = NAMES.map((name) => response.listenerCount(name));
  return seen;
}

interface App {
  readonly port: number;
  readonly root: string;
  readonly seen: Seen[];
  readonly sent: Sent[];
}

/** Runs `body` with an application that serves FILES; fails where anybody is warned of too many listeners. */
async function withApp(compresses: boolean, body: (app: App) => Promise<void>): Promise<void> {
  const root = folder();
  const seen: Seen[] = [];
  const sent: Sent[] = [];
  const warnings: string[] = [];
  const onWarning = ({ message }: Error) => warnings.push(message);
  process.on("warning", onWarning);
  let server: Server | undefined;
  try {
    for (const [name, content] of Object.entries(FILES)) fs.writeFileSync(join(root, name), content);
    const app = express();
    if (compresses) app.use(compression());
    app.use((_request, response, next) => {
      seen.push(watch(response));
      next();
    });
    app.use(serveStatic(root, { onSent: (outcome) => sent.push(outcome) }));
    server = app.listen(0, "127.0.0.1");
    await new Promise((resolve) => server!.once("listening", resolve));
    await body({ port: (server.address() as net.AddressInfo).port, root, seen, sent });
    await until(() => openBelow(root).length === 0, "the files to be closed");
    assertEquals(warnings, []);
  } finally {
    server?.closeAllConnections();
    server?.close();
    process.off("warning", onWarning);
    fs.rmSync(root, { recursive: true });
  }
}

const GZIP = { fields: "Accept-Encoding: gzip\r\n" };

test("compression(): one listener of 'drain' for a whole response, and the bytes are right", () =>
  withApp(true, async ({ port, seen, sent }) => {
    const client = await Client.to(port);
    for (const [name, content] of Object.entries(FILES)) {
      client.send(request(`/${name}`, GZIP));
      const { headers, body } = await client.reply();
      assertEquals(headers["content-encoding"], "gzip");
      assertSame(gunzipSync(body), content, name);
    }
    client.close();
    await until(() => sent.length === 2 && seen.every(({ closed }) => closed), "the ends");
    assertEquals(seen.map(({ drainListeners }) => drainListeners), [1, 1]);
    assertEquals(seen.map(({ written }) => written), [TEXT.length, RANDOM.length]);
    assertEquals(
      sent.map(({ way, bytes, problem }) => [way, bytes, problem]),
      [[WRAPPED, TEXT.length, undefined], [WRAPPED, RANDOM.length, undefined]],
    );
  }));

for (const compresses of [true, false]) {
  const name = compresses ? "compression() of what the client takes as it is" : "a wrapped response";

  test(`${name}: the bytes are right, also of ranges, and no listener is left`, () =>
    withApp(compresses, async ({ port, seen, sent }) => {
      const client = await Client.to(port);
      client.send(request("/random.bin"), request("/random.bin", { fields: "Range: bytes=7-9000007\r\n" }));
      assertSame((await client.reply()).body, RANDOM, "the file");
      assertSame((await client.reply()).body, RANDOM.subarray(7, 9_000_008), "the range");
      client.send(request("/random.bin", { method: "HEAD" }));
      const { headers } = await client.reply({ bodiless: true });
      assertEquals(headers["content-length"], `${RANDOM.length}`);
      client.send(request("/random.bin", { fields: `If-None-Match: ${headers.etag}\r\n` }));
      assertEquals((await client.reply()).status, 304);
      client.send(request("/text.txt"));
      assertSame((await client.reply()).body, TEXT, "the text");
      client.close();
      await until(() => sent.length === 5 && seen.every(({ closed }) => closed), "the ends");
      assertEquals(seen.map(({ left }) => left), Array(5).fill({}));
      assertEquals(seen.map(({ drainListeners }) => drainListeners), [1, 1, 0, 0, 1]);
    }));
}

/** Waits until nothing more is written, since the client takes nothing. */
async function resting(seen: Seen): Promise<void> {
  let last = -1;
  let same = 0;
  await until(() => {
    same = seen.written === last ? same + 1 : 0;
    last = seen.written;
    return same === 40;
  }, "the writing to rest");
}

for (const [name, compresses] of [["compression()", true], ["a wrapped response", false]] as const) {
  test(`${name}: nothing is read ahead of a client that takes nothing, which then gets all`, () =>
    withApp(compresses, async ({ port, seen, sent }) => {
      const client = await Client.to(port);
      client.send(request("/random.bin", GZIP));
      await client.begun();
      await resting(seen[0]);
      assert(
        seen[0].written < 24 * MIB,
        `${seen[0].written} bytes were written to a client that takes nothing`,
      );
      client.socket.resume();
      const { body } = await client.reply();
      assertSame(compresses ? gunzipSync(body) : body, RANDOM, "the file");
      client.close();
      await until(() => sent.length === 1, "the end");
      assertEquals(sent[0].problem, undefined);
    }));

  test(`${name}: a client that leaves in the middle ends the reading, and is reported`, () =>
    withApp(compresses, async ({ port, seen, sent }) => {
      const client = await Client.to(port);
      client.send(request("/random.bin", GZIP));
      await client.begun();
      await resting(seen[0]);
      client.socket.resetAndDestroy();
      await until(() => sent.length === 1 && seen[0].closed, "the end");
      assertEquals(sent[0].problem, "the client left");
      assert(sent[0].bytes < 24 * MIB, `${sent[0].bytes} bytes are said to be sent`);
    }));

  test(`${name}: a file that becomes shorter in the middle ends the connection`, () =>
    withApp(compresses, async ({ port, root, seen, sent }) => {
      const client = await Client.to(port);
      client.send(request("/random.bin", GZIP));
      await client.begun();
      await resting(seen[0]);
      fs.truncateSync(join(root, "random.bin"), seen[0].written);
      client.socket.resume();
      assert((await client.rest()).length < RANDOM.length, "all came");
      await until(() => sent.length === 1, "the end");
      assertEquals(sent[0].problem, "the file became shorter");
    }));
}
