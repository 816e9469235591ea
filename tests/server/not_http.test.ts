/** What arrives at the static server's port and is no HTTP: it is refused and closed at once, not after a minute. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as tls from "node:tls";
import { canBecomeHead } from "../../server/request_head.ts";
import { test } from "../support/harness.ts";
import { Client } from "../support/http_client.ts";
import { KINDS } from "../support/http_servers.ts";

const start = () => KINDS.find(({ name }) => name === "FileServer")!.start({ root: import.meta.dirname! });

const NOT_HTTP: Record<string, string | Buffer> = {
  "an SSH banner": "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
  "an SMTP greeting": "EHLO example.org\r\n",
  "a line without a version": "GET /\r\n",
  "a head in bare LF": "GET / HTTP/1.1\nHost: test\n\n",
  "one field that ends in bare LF": "GET / HTTP/1.1\r\nHost: test\nX: y",
  "a CR alone": "GET / HTTP/1.1\rHost: test",
  "a TLS record": Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
  "an RDP request": Buffer.from([3, 0, 0, 19, 14, 224, 0, 0]),
  "zeros": Buffer.alloc(8),
  "a request of HTTP, and then none": "GET /none HTTP/1.1\r\nHost: test\r\n\r\n\x16\x03\x01",
};

for (const [what, sent] of Object.entries(NOT_HTTP)) {
  for (const piecewise of [false, true]) {
    test(`FileServer answers ${what} with 400${piecewise ? ", byte by byte" : ""}, and ends`, async () => {
      const server = await start();
      const client = await Client.to(server.port);
      try {
        const bytes = Buffer.from(sent as string, "latin1");
        if (!piecewise) client.send(bytes.toString("latin1"));
        else for (const byte of bytes) client.send(String.fromCharCode(byte));
        if (what.endsWith("none")) assertEquals((await client.reply()).status, 404);
        const { status, headers } = await client.reply();
        assertEquals([status, headers.connection], [400, "close"]);
        assertEquals((await client.rest()).length, 0);
        assertEquals(server.errors, []);
      } finally {
        client.close();
        await server.close();
      }
    });
  }
}

test("FileServer fails a TLS client fast", async () => {
  const server = await start();
  const began = performance.now();
  const socket = tls.connect({ port: server.port, host: "127.0.0.1", rejectUnauthorized: false });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", () => resolve());
      socket.once("close", () => resolve());
      socket.once("secureConnect", () => reject(new Error("there is no TLS here")));
    });
    assert(performance.now() - began < 30_000, "before the time limit for the rest of a head");
  } finally {
    socket.destroy();
    await server.close();
  }
});

test("a head in pieces is one, wherever it is cut", () => {
  const head = Buffer.from('GET /\xfc?q="x" HTTP/1.1\r\nHost: test\r\nX:\ta\xff\r\n\r\n', "latin1");
  for (let cut = 0; cut <= head.length; cut++) {
    assert(canBecomeHead(head, 0, 0, cut), String(cut));
    assert(canBecomeHead(head, 0, cut, head.length), `from ${cut}`);
  }
});
