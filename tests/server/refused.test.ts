/** Requests that RFC 9112 lets a server refuse: each is refused, and nothing sent behind it is answered. */
import { assertEquals } from "@std/assert";
import { request } from "../support/http_client.ts";
import { assertRefused, serving, SMUGGLED } from "./serving.ts";

const REFUSED: Record<string, [text: string, status: number][]> = {
  "a request line that is none": [
    ["GET /a.txt\r\n\r\n", 400], // HTTP/0.9
    ["GET  /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt  HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET\t/a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt\tHTTP/1.1\r\nHost: x\r\n\r\n", 400],
    [" GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1 \r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\n", 400], // what follows is taken for fields
    ["GET /a b.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    [" /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["G(T /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["G\u00c9T /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["\u00ef\u00bb\u00bfGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400], // a byte order mark
    ["\0GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["HTTP/1.1 200 OK\r\nHost: x\r\n\r\n", 400],
    ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400], // a TLS ClientHello
  ],
  "a version that is none, or another": [
    ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505],
    ["GET /a.txt HTTP/2.0\r\nHost: x\r\n\r\n", 505],
    ["GET /a.txt HTTP/3.0\r\nHost: x\r\n\r\n", 505],
    ["GET /a.txt HTTP/0.9\r\nHost: x\r\n\r\n", 505],
    ["GET /a.txt http/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt Http/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTPS/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.10\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/01.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1,1\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1x\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt ICE/1.0\r\nHost: x\r\n\r\n", 400],
  ],
  "a line that does not end in CRLF": [
    ["GET /a.txt HTTP/1.1\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\nHost: x\n\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\n\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: y\n\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\rHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: y\rz\r\n\r\n", 400],
    ["GET /a.txt\r HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["GET /a\n.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["\rGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400],
  ],
  "a field that is none": [
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400], // obs-fold
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: y\r\n\tz\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\n Host: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost : x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n", 400],
    ['GET /a.txt HTTP/1.1\r\nHost: x\r\n"X": z\r\n\r\n', 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX\u00e4: z\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX\0: z\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: y\0z\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: y\x01\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: y\x7f\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: \x0by\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nX: \x0cy\r\n\r\n", 400],
  ],
  "a Host that is missing, twice, or malformed": [
    ["GET /a.txt HTTP/1.1\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.2\r\n\r\n", 400],
    ["GET http://x/a.txt HTTP/1.1\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nhOST: y\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost:\r\nHost: y\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.0\r\nHost: x y\r\n\r\n", 400],
    ...[
      "a b",
      "a/b",
      "a?b",
      "a#b",
      "a\\b",
      "u@a",
      "a, b",
      "a:b",
      "a:1:2",
      "::1",
      "[::1",
      "a]",
      "\u00e4",
      '"a"',
      "<a>",
    ]
      .map((host): [string, number] => [`GET /a.txt HTTP/1.1\r\nHost: ${host}\r\n\r\n`, 400]),
  ],
  "a target with control bytes": [
    ...["/\x01", "/\x1f", "/a.txt\x7f", "/\0", "/a\t.txt", "/a\x0b.txt", "/a\x0c.txt"]
      .map((target): [string, number] => [`GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`, 400]),
  ],
  "a length that is none, or more than one": [
    ...[
      "5, 5",
      "5,5",
      "+5",
      "-5",
      "-0",
      "0x5",
      "5x",
      "5.0",
      "1e1",
      "5 5",
      "",
      " ",
      "five",
      "\u00b2",
      '"5"',
      "5;",
    ]
      .map((
        length,
      ): [string, number] => [`GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`, 400]),
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX: y\r\ncontent-length: 50\r\n\r\n", 400],
    ["GET /a.txt HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400],
  ],
  "a transfer coding that it does not know, or beside a length": [
    ["POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400],
    ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
    ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: identity\r\n\r\n", 400],
    ["POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
    ["POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
    ["POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
    ["POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
    ...[
      "gzip",
      "gzip, chunked",
      "chunked, gzip",
      "identity",
      "chunked, identity",
      "xchunked",
      "chunked;q=1",
      '"chunked"',
    ]
      .map((coding): [string, number] => [
        `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: ${coding}\r\n\r\n`,
        501,
      ]),
    [
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chun\u212aed\r\n\r\n".replace(
        "\u212a",
        "\xe2\x84\xaa",
      ),
      501,
    ],
    ["POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\xa0\r\n\r\n", 501],
  ],
};

for (const [what, cases] of Object.entries(REFUSED)) {
  serving(`refuses ${what}, and ends the connection`, async (place) => {
    for (const [text, status] of cases) await assertRefused(place, text, status);
    assertEquals(place.requests, []);
  });
}

serving("refuses what is malformed behind requests that were answered", async (place) => {
  for (const [text, status] of Object.values(REFUSED).map(([first]) => first)) {
    const client = await place.client();
    client.send(request("/a.txt"), request("/b.txt"), text, SMUGGLED);
    assertEquals(String((await client.reply()).body), "this is a");
    assertEquals(String((await client.reply()).body), "this is b");
    assertEquals((await client.reply()).status, status);
    assertEquals((await client.rest()).length, 0);
    client.close();
  }
});
