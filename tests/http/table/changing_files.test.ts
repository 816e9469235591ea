/** Files that grow, shrink or are replaced while they are sent, and clients that leave meanwhile. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { bytes } from "../../support/data.ts";
import { isBun } from "../../support/harness.ts";
import { ask, assertSame, Client, type Reply, request } from "../../support/http_client.ts";
import { MIB, until } from "../../support/site.ts";
import { assertWhole, partsOf } from "./assert_reply.ts";
import { CONTENT, each, LARGE, largeContent } from "./place.ts";

const STALLING = "Bun.serve lets a file that became shorter stall until its idleTimeout";

const LEAVING: [string, string][] = [
  ["a file", ""],
  ["a range", "Range: bytes=5-\r\n"],
  ["parts", `Range: bytes=0-${LARGE / 2 - 1},${LARGE / 2}-\r\n`],
];

for (const [what, fields] of LEAVING) {
  each(`survives clients that leave in the middle of ${what}`, async (place) => {
    const content = place.add(`${LARGE}.bin`, largeContent());
    const clients = await Promise.all(Array.from({ length: 12 }, () => Client.to(place.port)));
    await Promise.all(clients.map((client, i) => {
      // Every other client has pipelined more requests, which are never answered.
      client.send(request(`/${LARGE}.bin`, { fields }).repeat(i % 2 === 0 || isBun ? 1 : 3));
      return client.begun();
    }));
    clients.forEach(({ socket }, i) => i % 3 === 0 ? socket.resetAndDestroy() : socket.destroy());
    await until(() => place.held().length === 0, "the files to be closed");
    assertWhole(await place.get(`/${LARGE}.bin`), content);
  });

  each(`ends the connection where a file becomes shorter in the middle of ${what}`, async (place) => {
    const content = place.add(`${LARGE}.bin`, largeContent());
    const whole = place.wellFormed(await ask(place.port, `/${LARGE}.bin`, { fields }));
    const client = await Client.to(place.port);
    client.send(request(`/${LARGE}.bin`, { fields }));
    // Bun.serve closes the connection for a pipelined request (oven-sh/bun#38128), which would hide the end.
    if (place.kind.name !== "Bun.serve") client.send(request("/10.bin"));
    await client.begun();
    fs.truncateSync(place.path(`${LARGE}.bin`), 0);
    client.socket.resume();
    const all = await client.rest();
    client.close();
    assertPrefix(all, whole, content);
    // A stream ends early only by an error, which Deno.serve passes to its onError.
    assertEquals(place.server.errors.splice(0).filter((error) => !/became shorter/.test(String(error))), []);
    assertWhole(await place.get("/10.bin"), CONTENT.get(10)!);
  }, { skip: (kind) => kind === "Bun.serve" && !what.startsWith("parts") && STALLING });

  each(`sends what was promised where a file grows in the middle of ${what}`, async (place) => {
    place.add(`${LARGE}.bin`, largeContent());
    const whole = place.wellFormed(await ask(place.port, `/${LARGE}.bin`, { fields }));
    const client = await Client.to(place.port);
    client.send(request(`/${LARGE}.bin`, { fields: `Connection: close\r\n${fields}` }));
    await client.begun();
    fs.appendFileSync(place.path(`${LARGE}.bin`), bytes(MIB));
    client.socket.resume();
    const reply = await client.reply();
    assertSame(bodyOf(reply), bodyOf(whole), "the body");
    assertEquals((await client.rest()).length, 0);
    client.close();
  });
}

/** A multipart body's content without its boundaries, which differ. */
function bodyOf(reply: Reply): Buffer {
  const parts = partsOf(reply);
  return parts ? Buffer.concat(parts.map(({ body }) => body)) : reply.body;
}

/** Asserts that the received bytes are a prefix of the response `whole`. */
function assertPrefix(all: Buffer, whole: Reply, content: Buffer): void {
  const end = all.indexOf("\r\n\r\n") + 4;
  const body = all.subarray(end);
  if (whole.headers["transfer-encoding"]) { // Without the last chunk, what came counts for nothing.
    return assert(
      !all.subarray(-7).equals(Buffer.from("\r\n0\r\n\r\n")),
      "the end of a body that is not whole",
    );
  }
  assert(body.length < content.length, "the end of a file that is not there any more");
  const boundary = (head: string) => /boundary="?([^"\r]+)/.exec(head)?.[1] ?? "";
  const [from, to] = [boundary(whole.head), boundary(all.subarray(0, end).toString("latin1"))];
  const expected = Buffer.from(whole.body);
  if (from) {
    assertEquals(from.length, to.length);
    for (let at = 0; (at = expected.indexOf(from, at)) >= 0; at += to.length) {
      expected.write(to, at, "latin1");
    }
  }
  assertSame(body, expected.subarray(0, body.length), "what came");
}

each("sends what was promised of a file that grows once it was looked at", async (place) => {
  for (const size of place.sizes()) {
    const content = CONTENT.get(size)!;
    const { status, headers, body } = await place.get(`/${size}.bin`);
    assertEquals([status, headers["content-range"]], [200, undefined], `${size}`);
    // Bun.serve reads the file's size itself, later.
    const length = place.kind.name === "Bun.serve" && size > 100_000 ? body.length : size;
    assert(length === size || length === size + 1);
    assertSame(body, Buffer.concat([content, Buffer.from("+")]).subarray(0, length), `${size}`);
    const part = await place.get(`/${size}.bin`, { Range: "bytes=5-8" });
    assertEquals(part.status, 206);
    assertSame(part.body, content.subarray(5, 9), "a part");
  }
}, {
  options: {
    headers(path) {
      fs.appendFileSync(path, "+");
      return {};
    },
  },
});

for (const fields of ["", "Range: bytes=5-\r\n"]) {
  const what = fields ? "a range of it is" : "it is";
  each(`ends early where a file becomes shorter before ${what} sent`, async (place) => {
    for (const size of place.sizes()) {
      const client = await Client.to(place.port);
      client.send(request(`/${size}.bin`, { fields: `Connection: close\r\n${fields}` }));
      const all = await client.rest();
      client.close();
      const [head, status] = /^HTTP\/1\.1 (\d+)[^]*?\r\n\r\n/.exec(all.toString("latin1"))!;
      if (Number(status) >= 400) continue;
      const body = all.subarray(head.length);
      const first = fields ? 5 : 0;
      assertEquals(status, fields ? "206" : "200");
      assertSame(body, CONTENT.get(size)!.subarray(first, first + body.length), `${size}`);
      assert(body.length <= size / 2, `${body.length} bytes of a file that has ${size / 2}`);
      const [, length] = /^content-length: (\d+)/im.exec(head)!;
      if (!fields && place.kind.name !== "Bun.serve") { // which looks at the file itself
        assertEquals([Number(length), body.length < Number(length)], [size, true], "a body that looks whole");
      }
      // A part as long as its Content-Length must be the whole range that Content-Range names.
      if (fields && body.length === Number(length)) {
        assertStringIncludes(head, ` bytes 5-${4 + body.length}/`);
      }
    }
    assertEquals(place.server.errors.splice(0).filter((error) => !/became shorter/.test(String(error))), []);
  }, {
    options: {
      headers(path, { size }) {
        fs.truncateSync(path, size / 2);
        return {};
      },
    },
    skip: (kind) => kind === "Bun.serve" && fields !== "" && "Bun.serve asks the file itself how long it is",
  });
}

each("sends the old file where a new one takes its name on the way", async (place) => {
  const content = place.add(`${LARGE}.bin`, largeContent());
  const client = await Client.to(place.port);
  client.send(request(`/${LARGE}.bin`, { fields: "Connection: close\r\n" }));
  await client.begun();
  place.add("new.bin", "new");
  fs.renameSync(place.path("new.bin"), place.path(`${LARGE}.bin`));
  client.socket.resume();
  assertWhole(place.wellFormed(await client.reply()), content);
  client.close();
  assertEquals(String((await place.get(`/${LARGE}.bin`)).body), "new");
});
