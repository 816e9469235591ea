/** Request bodies: read over where they are short, never taken for requests, never asked for. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { assertSame, request } from "../support/http_client.ts";
import { assertAnswered, ending, LARGE, largeContent, serving, SMUGGLED, soon, written } from "./serving.ts";

serving("never takes a body for a request", async (place) => {
  for (const method of ["GET", "HEAD", "OPTIONS", "POST", "DELETE"]) {
    for (const length of [SMUGGLED.length, 4095, 4096, 4097, 16_384, 65_536]) {
      const body = SMUGGLED.repeat(Math.ceil(length / SMUGGLED.length)).slice(0, length);
      const client = await place.client();
      client.send(
        request("/a.txt", { method, fields: `Content-Length: ${length}\r\n` }),
        body,
        request("/b.txt"),
      );
      const { status } = await client.reply({ bodiless: method === "HEAD" });
      assertEquals(status, { GET: 200, HEAD: 200, OPTIONS: 204 }[method] ?? 405);
      assertEquals(String((await client.reply()).body), "this is b", `${method} ${length}`);
      client.close();
    }
  }
});

serving("takes leading zeros in a length, and a length of 0", async (place) => {
  for (const length of ["0", "00", "0".repeat(100)]) {
    await assertAnswered(
      place,
      request("/a.txt", { fields: `Content-Length: ${length}\r\n` }),
      200,
      "this is a",
    );
  }
  for (const length of ["5", "05", "0000000000000000000000005"]) {
    await assertAnswered(
      place,
      `${request("/a.txt", { fields: `Content-Length: ${length}\r\n` })}hello`,
      200,
    );
  }
});

serving(
  "answers what has a body in chunks, one that is too long, or one to be asked for, and then ends",
  async (place) => {
    const framings = [
      "Transfer-Encoding: chunked\r\n",
      "Transfer-Encoding: CHUNKED\r\n",
      "Content-Length: 65537\r\n",
      "Content-Length: 9007199254740993\r\n",
      "Content-Length: 18446744073709551616\r\n",
      `Content-Length: ${"9".repeat(400)}\r\n`,
      "Content-Length: 5\r\nExpect: 100-continue\r\n",
      "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
    ];
    for (const framing of framings) {
      for (const body of ["", SMUGGLED, `0\r\n\r\n${SMUGGLED}`, `5\r\nhello\r\n0\r\n\r\n${SMUGGLED}`]) {
        const client = await place.client();
        const end = ending(client);
        client.send(request("/a.txt", { fields: framing }), body);
        const { status, headers, body: content } = await client.reply();
        assertEquals([status, String(content), headers.connection], [200, "this is a", "close"], framing);
        assertEquals((await client.rest()).length, 0);
        assertEquals(await end, "FIN");
        client.close();
      }
    }
  },
);

serving("asks for no body that it would not read", async (place) => {
  const fields = "Content-Length: 5\r\nExpect: 100-continue\r\n";
  for (const version of ["1.0", "1.1"]) {
    const client = await place.client();
    client.send(request("/a.txt", { method: "POST", version, fields }));
    const { status, headers } = await client.reply(); // fails at "100 Continue", which has no length
    assertEquals([status, headers.connection], [405, "close"]);
    assertEquals((await client.rest()).length, 0);
    client.close();
  }
  await assertAnswered(place, request("/a.txt", { fields: "Expect: 100-continue\r\n" }), 200, "this is a");
});

for (
  const [what, fields] of [["a body", `Content-Length: ${LARGE}\r\n`], ["requests", "Connection: close\r\n"]]
) {
  serving(`sends a large file to who writes ${what} as large before it reads`, async (place) => {
    place.add("large.bin", largeContent);
    const client = await place.client();
    const end = ending(client);
    client.socket.pause();
    client.send(request("/large.bin", { fields }));
    await soon(written(client, Buffer.alloc(LARGE, SMUGGLED)), "the server to read what comes meanwhile");
    client.socket.resume();
    const { status, body } = await client.reply();
    assertEquals(status, 200);
    assertSame(body, largeContent, "the file");
    assertEquals((await client.rest()).length, 0);
    assertEquals(await end, "FIN");
  });
}

serving("reads over a body of 64 KiB that comes in pieces behind a large file", async (place) => {
  place.add("large.bin", largeContent);
  const client = await place.client();
  client.send(request("/large.bin", { fields: "Content-Length: 65536\r\n" }));
  await client.begun();
  for (let left = 65_536; left > 0; left -= 4096) await written(client, SMUGGLED.repeat(200).slice(0, 4096));
  client.send(request("/b.txt"));
  client.socket.resume();
  assertSame((await client.reply()).body, largeContent, "the file");
  assertEquals(String((await client.reply()).body), "this is b");
});
