/** withSendfile: files that change while they are sent. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as fs from "node:fs";
import { type BodyWay, serveFile } from "../../../http/mod.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { until } from "../../support/site.ts";
import {
  assertMoved,
  DENO,
  HUGE,
  LARGE,
  native,
  OTHER,
  SENDFILE,
  serving,
  takeHuge,
  waitingClient,
} from "../../support/with_sendfile.ts";

test("a file truncated during the transfer ends the connection early", () =>
  serving(async (place) => {
    const client = await waitingClient(place);
    fs.truncateSync(place.path("huge.bin"), 100_000);
    client.socket.resume();
    const whole = await client.rest();
    const body = whole.subarray(whole.indexOf("\r\n\r\n") + 4);
    assert(body.length < HUGE.length, `${body.length} bytes came`);
    // What waited to be sent was of the file's pages, whose last one the kernel has cut short as well.
    const left = Math.min(body.length, 100_000);
    assertSame(body.subarray(0, left), HUGE.subarray(0, left), "what came");
    client.close();
    assertEquals(place.ways, [SENDFILE]);
    await until(() => place.completed.length === 1, "the request to be over");
  }, { errors: /the file became shorter/ }), DENO);

test("a file truncated before it is sent ends the connection early", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/"));
    const whole = await client.rest();
    const end = whole.indexOf("\r\n\r\n") + 4;
    const head = whole.subarray(0, end).toString("latin1");
    assert(head.startsWith("HTTP/1.1 200 OK\r\n"), head);
    assertStringIncludes(head.toLowerCase(), `\r\ncontent-length: ${LARGE.length}\r\n`);
    const body = whole.subarray(end);
    assert(body.length <= 10, `${body.length} bytes came`);
    assertSame(body, LARGE.subarray(0, body.length), "what came");
    client.close();
    await until(() => place.completed.length === 1, "the request to be over");
    assertEquals(place.errors.length, 1);
  }, {
    errors: /the file became shorter/,
    handler: (place) => async (request) => {
      const response = await serveFile(request, place.path("large.bin"));
      fs.truncateSync(place.path("large.bin"), 10);
      return response;
    },
  }), DENO);

test("a file that grows in the middle is sent as long as was promised", () =>
  serving(async (place) => {
    const client = await waitingClient(place);
    fs.appendFileSync(place.path("huge.bin"), OTHER);
    await takeHuge(client);
    client.close();
    assertMoved(place, HUGE.length);
  }), DENO);

const CHANGES: [name: string, change: (path: string) => void, way: BodyWay][] = [
  ["grows", (path) => fs.appendFileSync(path, OTHER), SENDFILE],
  ["is removed", (path) => fs.rmSync(path), native("the file no longer exists")],
  ["is replaced", (path) => {
    fs.writeFileSync(`${path}.new`, OTHER);
    fs.renameSync(`${path}.new`, path);
  }, native("the file was replaced")],
];

for (const [name, change, way] of CHANGES) {
  for (const range of ["", "Range: bytes=1000-2500000\r\n"]) {
    test(
      `a file that ${name} behind its handler is sent as its head says${range && ", in a range"}`,
      () =>
        serving(async (place) => {
          const [from, to] = range ? [1000, 2_500_001] : [0, LARGE.length];
          const asked = new Request("http://localhost/", { method: "HEAD" });
          const tag = (await serveFile(asked, place.path("large.bin"))).headers.get("etag");
          const client = await Client.to(place.port);
          client.send(request("/", { fields: range }));
          const { headers, body } = await client.reply();
          client.close();
          assertEquals([headers["content-length"], headers.etag], [`${to - from}`, tag]);
          assertSame(body, LARGE.subarray(from, to), "the file");
          assertEquals(place.ways, [way]);
        }, {
          handler: (place) => async (request) => {
            const response = await serveFile(request, place.path("large.bin"));
            change(place.path("large.bin"));
            return response;
          },
        }),
      DENO,
    );
  }
}

test("a file removed during the transfer is sent to its end", () =>
  serving(async (place) => {
    const client = await waitingClient(place);
    fs.rmSync(place.path("huge.bin"));
    client.socket.resume();
    assertSame((await client.reply()).body, HUGE, "the file");
    client.close();
    assertMoved(place, HUGE.length);
  }), DENO);
