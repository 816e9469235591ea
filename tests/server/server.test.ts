/** What RFC 9112 demands of a server on raw sockets: of the static server's own one, and of each part of it. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { setImmediate } from "node:timers";
import { Worker } from "node:worker_threads";
import type { ResponsePlan } from "../../http/file_response.ts";
import { planDirectory } from "../../http/directory.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import type { Sent } from "../../http/send/socket.ts";
import { Connection, type Site } from "../../server/connection.ts";
import { endOfHead, type Head, parseHead } from "../../server/request_head.ts";
import { FileServer } from "../../server/server.ts";
import type { Listen, Transport } from "../../server/transport.ts";
import { listenBun } from "../../server/transport_bun.ts";
import { listenDeno } from "../../server/transport_deno.ts";
import type { SendfileSocket } from "../../sockets/mod.ts";
import { bytes, descriptors, openBelow } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { assertSame, Client, DEADLINE, request } from "../support/http_client.ts";
import { MIB, missing, noProc, until } from "../support/site.ts";

/** More than the sockets between server and client hold. */
const LARGE = 24 * MIB;
const largeContent = Buffer.alloc(LARGE, bytes(1_000_003));

/** What is never to be asked for: who finds a request in it has taken for one what is none. */
const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

const listen: Listen = isBun ? listenBun : listenDeno;

type RequestHead = Pick<Head, "method" | "target" | "field">;

/** A server of a directory of its own, and its clients. */
class Place {
  readonly root = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "server-")));
  /** The requests that were answered, and what came of them. */
  readonly requests: RequestHead[] = [];
  readonly sent: Sent[] = [];
  readonly errors: unknown[] = [];
  readonly clients: Client[] = [];
  readonly server: FileServer;
  readonly site: Site;
  port = 0;

  constructor(plan?: (request: RequestHead) => ResponsePlan | Promise<ResponsePlan>) {
    this.add("a.txt", "this is a");
    this.add("b.txt", "this is b");
    const resolved = resolveDirectoryOptions({});
    const files = (request: RequestHead) =>
      planDirectory(request, resolved, this.root, parseTarget(request.target));
    this.site = {
      resolved,
      plan: (request) => {
        this.requests.push(request);
        return (plan ?? files)(request);
      },
      onSent: (_, sent) => this.sent.push(sent),
      onError: (error) => this.errors.push(error),
    };
    this.server = new FileServer(this.site);
  }

  add(name: string, content: string | Buffer): void {
    fs.writeFileSync(join(this.root, name), content);
  }

  async client(): Promise<Client> {
    const client = await Client.to(this.port);
    this.clients.push(client);
    return client;
  }

  targets(): string[] {
    return this.requests.map(({ target }) => target);
  }

  close(): void {
    this.clients.forEach((client) => client.close());
    try {
      this.server.close();
    } catch {
      // the test has closed it
    }
    fs.rmSync(this.root, { recursive: true });
  }
}

interface ServingOptions {
  plan?: (request: RequestHead) => ResponsePlan | Promise<ResponsePlan>;
  /** What `onError` is told. */
  errors?: string[];
}

/** A test with a server of its own. What it has opened must be closed in the end. */
function serving(
  name: string,
  body: (place: Place) => Promise<void>,
  { plan, errors = [] }: ServingOptions = {},
): void {
  test(`FileServer ${name}`, async () => {
    const place = new Place(plan);
    const before = sockets();
    try {
      place.port = place.server.listen({ host: "127.0.0.1", port: 0, shared: false });
      await body(place);
      assertEquals(place.errors.map((error) => (error as Error).message), errors);
      assert(!place.targets().includes("/smuggled"), "what is no request was answered");
      place.clients.forEach((client) => client.close());
      await until(() => openBelow(place.root).length === 0, "the files to be closed");
    } finally {
      place.close();
    }
    await until(() => sockets() <= before, "the sockets to be closed");
  });
}

/** Sockets that this process has open. */
function sockets(): number {
  return noProc ? 0 : descriptors().filter((text) => text.includes("socket:")).length;
}

/** How the server ends the connection: "FIN", or the code of an error. To be asked before that happens. */
function ending({ socket }: Client): Promise<string> {
  return new Promise((resolve) => {
    socket.once("end", () => resolve("FIN"));
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code ?? "an error"));
  });
}

/** What `work` gives; fails where that takes too long. */
async function soon<T>(work: Promise<T>, what: string, limit = DEADLINE): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), limit);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Writes all, and resolves once the last byte has left this process. */
function written({ socket }: Client, content: string | Uint8Array): Promise<void> {
  const all = Buffer.isBuffer(content) ? content : Buffer.from(content as string, "latin1");
  return new Promise((resolve, reject) => socket.write(all, (error) => error ? reject(error) : resolve()));
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

// What is refused

/** Sends what must be refused, with a request behind it that must not be answered. */
async function assertRefused(place: Place, text: string, status: number): Promise<void> {
  const client = await place.client();
  const end = ending(client);
  client.send(text, SMUGGLED);
  const reply = await client.reply();
  assertEquals(reply.status, status, JSON.stringify(text));
  assertEquals(reply.headers.connection, "close", JSON.stringify(text));
  assertEquals((await client.rest()).length, 0, `more came behind ${JSON.stringify(text)}`);
  assertEquals(await end, "FIN", JSON.stringify(text));
  client.close();
}

/** Sends what must be answered, and then another request. */
async function assertAnswered(place: Place, text: string, status: number, content?: string): Promise<void> {
  const client = await place.client();
  client.send(text, request("/b.txt"));
  const bodiless = text.startsWith("HEAD ");
  const reply = await client.reply({ bodiless });
  assertEquals(reply.status, status, JSON.stringify(text));
  assert(reply.head.startsWith("HTTP/1.1 "), reply.head);
  if (content !== undefined) assertEquals(String(reply.body), content, JSON.stringify(text));
  assertEquals(String((await client.reply()).body), "this is b", `behind ${JSON.stringify(text)}`);
  client.close();
}

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

// What is answered

serving("takes each Host that may be one", async (place) => {
  const hosts = [
    "",
    "x",
    "x:80",
    "x:",
    "EXAMPLE.org",
    "a-b.c_d~e",
    "1.2.3.4:80",
    "[::1]",
    "[2001:DB8::1]:8000",
    "a%20b",
  ];
  for (const host of hosts) {
    await assertAnswered(place, `GET /a.txt HTTP/1.1\r\nHost: ${host}\r\n\r\n`, 200, "this is a");
    await assertAnswered(place, `GET /a.txt HTTP/1.1\r\nHOST:\t ${host}\t \r\n\r\n`, 200, "this is a");
  }
});

serving("answers HTTP/1.0 without Host, and ends the connection", async (place) => {
  const client = await place.client();
  client.send("GET /a.txt HTTP/1.0\r\n\r\n", SMUGGLED);
  const { status, head, headers, body } = await client.reply();
  assertEquals([status, String(body), headers.connection], [200, "this is a", "close"]);
  assert(head.startsWith("HTTP/1.1 "), head);
  assertEquals((await client.rest()).length, 0);
});

serving("answers a higher minor version as HTTP/1.1", async (place) => {
  for (const version of ["1.2", "1.9"]) {
    await assertAnswered(place, `GET /a.txt HTTP/${version}\r\nHost: x\r\n\r\n`, 200, "this is a");
  }
});

serving("answers a method that it does not know with 405, and goes on", async (place) => {
  for (const method of ["BREW", "get", "Get", "GETT", "M-SEARCH", "!#$%&'*+-.^_`|~", "X".repeat(1000)]) {
    await assertAnswered(place, `${method} /a.txt HTTP/1.1\r\nHost: x\r\n\r\n`, 405);
  }
});

serving("answers CONNECT with 405, TRACE too, and says nothing of what was sent", async (place) => {
  await assertAnswered(place, "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n", 405);
  await assertAnswered(
    place,
    "TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n",
    405,
    "405 Method Not Allowed\n",
  );
});

serving(
  "takes the absolute form whatever Host says, and the asterisk form for OPTIONS alone",
  async (place) => {
    for (const target of ["http://x/a.txt", "HTTP://other.example:1/a.txt?q", "https://[::1]/a.txt"]) {
      await assertAnswered(place, `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`, 200, "this is a");
    }
    await assertAnswered(place, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 204);
    for (const target of ["*", "a.txt", "x:80", "?/a.txt", "#"]) {
      await assertAnswered(place, `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`, 400);
    }
  },
);

serving("takes raw UTF-8 in a target as if it were percent-encoded", async (place) => {
  for (const name of ["\u00e4.txt", "\u6587.txt", "\u{1f600}.txt", "a\u0308.txt"]) {
    place.add(name, `this is ${name}`);
    const raw = Buffer.from(name).toString("latin1");
    const content = Buffer.from(`this is ${name}`).toString();
    await assertAnswered(place, `GET /${raw} HTTP/1.1\r\nHost: x\r\n\r\n`, 200, content);
    await assertAnswered(place, `GET /${encodeURIComponent(name)} HTTP/1.1\r\nHost: x\r\n\r\n`, 200, content);
    // In a head that is not UTF-8 besides.
    await assertAnswered(place, `GET /${raw} HTTP/1.1\r\nHost: x\r\nX: \xff\r\n\r\n`, 200, content);
  }
  await assertAnswered(place, "GET /\xe4.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400); // Latin-1: not UTF-8
});

serving("reads over an empty line before a request", async (place) => {
  const client = await place.client();
  for (let i = 0; i < 3; i++) {
    client.send("\r\n", request("/a.txt"));
    assertEquals(String((await client.reply()).body), "this is a");
  }
  const post = request("/", { method: "POST", fields: "Content-Length: 3\r\n" });
  client.send(`\r\n${post}abc\r\n${request("/b.txt")}`); // as old browsers did
  assertEquals((await client.reply()).status, 405);
  assertEquals(String((await client.reply()).body), "this is b");
});

serving("knows a field by its name in any case, its value without the space around it", async (place) => {
  const values: [line: string, value: string][] = [
    ["x-y:z", "z"],
    ["X-Y:  z \t", "z"],
    ["x-Y:\tz  z", "z  z"],
    ["X-Y:", ""],
    ["X-Y: \t ", ""],
    ["X-Y: a: b", "a: b"],
    ["X-Y: caf\xe9 \xff\x80", "caf\xe9 \xff\x80"], // obs-text
    ["X-Y: \xe2\x82\xac", "\xe2\x82\xac"],
    ["X-Y: \xef\xbb\xbf", "\xef\xbb\xbf"],
    ["X-Y: a\r\nx-y: b", "a, b"],
    ["X-Y:\r\nx-y: b\r\nX-Y: c", ", b, c"],
  ];
  for (const [line, value] of values) {
    await assertAnswered(place, `GET /a.txt HTTP/1.1\r\nHost: x\r\n${line}\r\n\r\n`, 200, "this is a");
    assertEquals(place.requests.at(-2)!.field("x-y"), value, JSON.stringify(line));
    assertEquals(place.requests.at(-1)!.field("x-y"), undefined);
  }
});

serving("does not find in a head what every object has", async (place) => {
  await assertAnswered(
    place,
    "GET /a.txt HTTP/1.1\r\nHost: x\r\n__proto__: y\r\nconstructor: z\r\n\r\n",
    200,
  );
  const { field } = place.requests[0];
  assertEquals([field("__proto__"), field("constructor"), field("tostring")], ["y", "z", undefined]);
});

// Bodies

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

// Pieces

const PIPELINE = [
  "\r\n",
  request("/a.txt"),
  request("/b.txt", { method: "HEAD" }),
  request("/missing", { fields: "Content-Length: 7\r\n" }),
  "GET / H",
  request("/b.txt", { method: "POST", fields: "Content-Length: 0\r\nX: \xe4\r\n" }),
  request("/a.txt"),
].join("");

async function assertPipeline(client: Client): Promise<void> {
  assertEquals(String((await client.reply()).body), "this is a");
  assertEquals((await client.reply({ bodiless: true })).headers["content-length"], "9");
  assertEquals((await client.reply()).status, 404);
  assertEquals((await client.reply()).status, 405);
  assertEquals(String((await client.reply()).body), "this is a");
}

serving("answers requests that come byte by byte", async (place) => {
  const client = await place.client();
  client.socket.setNoDelay();
  for (const byte of PIPELINE) {
    await written(client, byte);
    await turn();
  }
  await assertPipeline(client);
});

serving("answers thousands of requests in one write, and in odd pieces", async (place) => {
  const targets = Array.from({ length: 5000 }, (_, i) => ["/a.txt", "/b.txt", "/missing"][i * 7 % 3]);
  const content: Record<string, string> = { "/a.txt": "this is a", "/b.txt": "this is b" };
  const text = targets.map((target) => request(target)).join("");
  for (const piece of [text.length, 1009, 65_521]) {
    const client = await place.client();
    for (let at = 0; at < text.length; at += piece) client.send(text.slice(at, at + piece));
    for (const [i, target] of targets.entries()) {
      const body = String((await client.reply()).body);
      assertEquals(body, content[target] ?? "404 Not Found\n", `${i} of ${piece}`);
    }
    client.close();
  }
});

/** A head of so many bytes. */
function headOf(size: number): string {
  const head = request("/a.txt", { fields: "X: \r\n" });
  return request("/a.txt", { fields: `X: ${"x".repeat(size - head.length)}\r\n` });
}

serving("takes a head of 16 KiB, and none of a byte more", async (place) => {
  assertEquals(headOf(16_384).length, 16_384);
  await assertAnswered(place, headOf(16_384), 200, "this is a");
  await assertRefused(place, headOf(16_385), 431);
  await assertRefused(place, headOf(100_000), 431);
  const many = "X: y\r\n".repeat(3000);
  await assertRefused(place, request("/a.txt", { fields: many }), 431);
  const client = await place.client();
  client.send(request("/b.txt"), headOf(16_384), headOf(16_383), headOf(16_385), SMUGGLED);
  for (const expected of ["this is b", "this is a", "this is a"]) {
    assertEquals(String((await client.reply()).body), expected);
  }
  assertEquals((await client.reply()).status, 431);
  assertEquals((await client.rest()).length, 0);
});

serving("refuses a target without end with 414, however long it is", async (place) => {
  await assertRefused(place, request(`/${"x".repeat(16_384)}`), 414);
  const client = await place.client();
  client.send("GET /");
  await written(client, Buffer.alloc(8 * MIB, "x"));
  assertEquals((await client.reply()).status, 414);
  assertEquals((await client.rest()).length, 0);
});

// The end of a connection

type Ending = [fields: string, ends: boolean];

const ENDINGS: Record<string, Ending[]> = {
  "1.1": [
    ["", false],
    ["Connection: keep-alive\r\n", false],
    ["Connection:\r\n", false],
    ["Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", false],
    ["Connection: closed\r\n", false],
    ["Connection: x-close, close-x\r\n", false],
    ["Connection: \xa0close\r\n", false], // no-break space is no space
    ["Connection: close\r\n", true],
    ["Connection: CLOSE\r\n", true],
    ["connection:close\r\n", true],
    ["Connection: keep-alive, Close\r\n", true],
    ["Connection: close,keep-alive\r\n", true],
    ["Connection: , x,\tclose\t,, y\r\n", true],
    ["Connection: x\r\nConnection: close\r\n", true],
    ["Connection: close\r\nConnection: x\r\n", true],
  ],
  "1.0": [
    ["", true],
    ["Connection: close\r\n", true],
    ["Connection: x\r\n", true],
    ["Connection: keep-alives\r\n", true],
    ["Connection: keep-alive\xa0\r\n", true],
    ["Connection: keep-alive, close\r\n", true],
    ["Connection: close, keep-alive\r\n", true],
    ["Connection: close\r\nConnection: keep-alive\r\n", true],
    ["Keep-Alive: timeout=5\r\n", true],
    ["Connection: keep-alive\r\n", false],
    ["Connection: Keep-Alive\r\n", false],
    ["Connection: x,KEEP-ALIVE\r\n", false],
    ["Connection: x\r\nConnection: keep-alive\r\n", false],
  ],
};

for (const [version, endings] of Object.entries(ENDINGS)) {
  serving(`keeps or ends a connection of HTTP/${version} as its lists say`, async (place) => {
    for (const [fields, ends] of endings) {
      for (const target of ["/a.txt", "/missing"]) {
        const client = await place.client();
        const end = ending(client);
        client.send(request(target, { version, fields }), ends ? SMUGGLED : request("/b.txt"));
        const { headers } = await client.reply();
        const said = ends ? "close" : version === "1.0" ? "keep-alive" : undefined;
        assertEquals(headers.connection, said, `HTTP/${version} ${fields}`);
        if (ends) {
          const began = performance.now();
          assertEquals((await client.rest()).length, 0, fields);
          assertEquals(await end, "FIN", fields);
          assert(performance.now() - began < 1500, "the end comes with the response, and not after a wait");
        } else {
          assertEquals(String((await client.reply()).body), "this is b", fields);
        }
        client.close();
      }
    }
  });
}

serving(
  "does not reset under a slow reader for what was pipelined behind the last request",
  async (place) => {
    place.add("large.bin", largeContent);
    const client = await place.client();
    const end = ending(client);
    client.send(request("/large.bin", { fields: "Connection: close\r\n" }), SMUGGLED.repeat(100));
    await client.begun();
    for (let i = 0; i < 20; i++) await written(client, SMUGGLED.repeat(1000));
    client.socket.resume();
    assertSame((await client.reply()).body, largeContent, "the file");
    assertEquals((await client.rest()).length, 0);
    assertEquals(await end, "FIN");
  },
);

serving("does not reset for what comes when all was sent and nothing was read yet", async (place) => {
  const content = largeContent.subarray(0, 300_000); // less than the sockets hold
  place.add("file.bin", content);
  for (const target of ["/file.bin", "/missing"]) {
    const client = await place.client();
    const end = ending(client);
    client.socket.pause();
    const before = place.sent.length;
    client.send(request(target, { fields: "Connection: close\r\n" }));
    await until(() => place.sent.length > before, "the response to be sent");
    for (let i = 0; i < 20; i++) {
      await written(client, SMUGGLED.repeat(100));
      await turn();
    }
    client.socket.resume();
    const { body } = await client.reply();
    assertSame(body, target === "/missing" ? Buffer.from("404 Not Found\n") : content, target);
    assertEquals((await client.rest()).length, 0);
    assertEquals(await end, "FIN");
    client.close();
  }
});

serving("ends the connection of who has got the last response and stays", async (place) => {
  const client = await place.client();
  client.send(request("/a.txt", { fields: "Connection: close\r\n" }));
  await client.reply();
  await client.rest();
  // This side stays open; the server's own must not, for ever.
  assert(client.socket.writable && !client.socket.destroyed);
  await until(() => {
    try {
      client.socket.write("x");
    } catch { /* as good */ }
    return client.socket.destroyed || client.socket.closed || !client.socket.writable;
  }, "the connection to be closed");
});

// Half-closed clients

serving("answers all that a client has asked for before it ended its side", async (place) => {
  place.add("large.bin", largeContent);
  const client = await place.client();
  const end = ending(client);
  client.send(
    request("/a.txt"),
    request("/large.bin"),
    request("/missing"),
    request("/large.bin"),
    request("/b.txt"),
  );
  client.finish();
  await client.begun();
  client.socket.resume();
  assertEquals(String((await client.reply()).body), "this is a");
  assertSame((await client.reply()).body, largeContent, "the first");
  assertEquals((await client.reply()).status, 404);
  assertSame((await client.reply()).body, largeContent, "the second");
  assertEquals(String((await client.reply()).body), "this is b");
  assertEquals((await client.rest()).length, 0);
  assertEquals(await end, "FIN");
});

serving("answers thousands of requests behind a large file, and the end behind them", async (place) => {
  place.add("large.bin", largeContent);
  const client = await place.client();
  const end = ending(client);
  client.send(request("/large.bin"));
  await client.begun();
  // More than is read ahead.
  client.send(request("/a.txt").repeat(8000), "GET / HTTP/1.1\r\nHo");
  client.finish();
  client.socket.resume();
  assertSame((await client.reply()).body, largeContent, "the file");
  for (let i = 0; i < 8000; i++) assertEquals(String((await client.reply()).body), "this is a");
  assertEquals((await client.rest()).length, 0);
  assertEquals(await end, "FIN");
});

serving("ends the connection where a head or a body stops in the middle", async (place) => {
  for (
    const text of [
      "",
      "\r\n",
      "GET",
      "GET /a.txt HTTP/1.1\r\nHost: x\r\n",
      "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r",
    ]
  ) {
    const client = await place.client();
    const end = ending(client);
    client.send(text);
    client.finish();
    assertEquals((await client.rest()).length, 0, JSON.stringify(text));
    assertEquals(await end, "FIN");
  }
  assertEquals(place.requests, []);
  const client = await place.client();
  client.send(request("/a.txt", { fields: "Content-Length: 10\r\n" }), "12345");
  client.finish();
  assertEquals(String((await client.reply()).body), "this is a");
  assertEquals((await client.rest()).length, 0);
});

// Clients that reset

serving("lets go of everything where clients reset", async (place) => {
  place.add("large.bin", largeContent);
  const before = sockets();
  for (const behind of ["", request("/large.bin").repeat(5), request("/missing").repeat(5000), "GET /"]) {
    const clients = await Promise.all(Array.from({ length: 5 }, () => place.client()));
    await Promise.all(clients.map((client) => {
      client.send(request("/large.bin"), behind);
      return client.begun();
    }));
    clients.forEach(({ socket }) => socket.resetAndDestroy());
    await until(() => openBelow(place.root).length === 0, "the files to be closed");
    await until(() => sockets() <= before, "the sockets to be closed");
  }
  const client = await place.client();
  client.send(request("/a.txt"));
  assertEquals(String((await client.reply()).body), "this is a");
  client.close();
  await soon(place.server.stop(), "all to be forgotten", 5000);
});

/** More than fits, and no file. */
function answerLarge(): ResponsePlan {
  return { status: 200, headers: { "Content-Length": String(LARGE) }, body: new Uint8Array(LARGE).fill(7) };
}

serving("lets go of who resets while bytes that are no file's wait for room", async (place) => {
  const before = sockets();
  for (let i = 0; i < 5; i++) {
    const client = await place.client();
    client.send(request("/"));
    await client.begun();
    client.socket.resetAndDestroy();
  }
  await until(() => sockets() <= before, "the sockets to be closed");
  await until(() => place.sent.length === 5, "the responses to be given up");
  for (const { problem } of place.sent) assertEquals(problem, "the client left");
  await soon(place.server.stop(), "all to be forgotten", 5000);
}, { plan: answerLarge });

serving("sends bytes that are no file's whole to a slow reader", async (place) => {
  const client = await place.client();
  client.send(request("/"), request("/", { fields: "Connection: close\r\n" }));
  await client.begun();
  client.socket.resume();
  for (let i = 0; i < 2; i++) assertSame((await client.reply()).body, Buffer.alloc(LARGE, 7), `${i}`);
  assertEquals((await client.rest()).length, 0);
}, { plan: answerLarge });

/** A client in a thread of its own that asks without end, and reads what comes; it leaves by itself. */
const GREEDY = `
const { connect } = require("node:net");
const { workerData: { port, text } } = require("node:worker_threads");
const socket = connect(port, "127.0.0.1");
const flood = Buffer.from(text.repeat(10_000));
const more = () => { while (socket.write(flood)); };
socket.on("data", () => {}).on("error", () => {}).on("connect", more).on("drain", more);
setTimeout(() => socket.destroy(), 8000);
`;

for (const target of ["/a.txt", "/missing"]) {
  serving(
    `lets others have their turn beside a client that asks for ${target} without end`,
    async (place) => {
      const greedy = new Worker(GREEDY, {
        eval: true,
        workerData: { port: place.port, text: request(target) },
      });
      try {
        await until(() => place.requests.length > 1000, "the flood");
        const other = await place.client();
        let longest = 0;
        for (let i = 0; i < 20; i++) {
          const began = performance.now();
          other.send(request("/b.txt"));
          assertEquals(String((await other.reply()).body), "this is b");
          longest = Math.max(longest, performance.now() - began);
        }
        assert(longest < 1000, `another client waited for ${Math.round(longest)} ms`);
      } finally {
        await greedy.terminate();
      }
    },
  );
}

serving("lets go of who resets with more on its way than is read ahead", async (place) => {
  const before = sockets();
  const client = await place.client();
  client.send(request("/missing").repeat(200_000));
  await client.begun(); // reads no more, so that the responses do not fit
  let [seen, times] = [0, 0];
  await until(() => {
    times = place.sent.length === seen ? times + 1 : 0;
    seen = place.sent.length;
    return times === 20;
  }, "the responses to wait for room");
  assert(seen < 200_000);
  client.socket.resetAndDestroy();
  await until(() => sockets() <= before, "the socket to be closed");
  await soon(place.server.stop(), "all to be forgotten", 5000);
});

const neverAnswered = Promise.withResolvers<ResponsePlan>();

serving("takes no more from a client than is read ahead while it makes an answer", async (place) => {
  const client = await place.client();
  client.send(request("/first"));
  await until(() => place.requests.length === 1, "the request");
  let all = false;
  written(client, Buffer.alloc(32 * MIB, request("/next"))).then(() => all = true, () => {});
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setTimeout(resolve, 50)); // long enough to send it all
  assert(!all, "32 MiB were taken though nobody reads them");
  client.close();
  neverAnswered.resolve({ status: 200, headers: { "Content-Length": "4" }, body: "late" });
}, { plan: () => neverAnswered.promise });

// stop()

serving("ends idle connections when it stops, and takes no more", async (place) => {
  const clients = await Promise.all(Array.from({ length: 5 }, () => place.client()));
  for (const client of clients.slice(1)) {
    client.send(request("/a.txt"));
    await client.reply();
  }
  const ends = clients.map(ending);
  const stopped = place.server.stop();
  for (const client of clients) assertEquals((await client.rest()).length, 0);
  assertEquals(await Promise.all(ends), clients.map(() => "FIN"));
  clients.forEach((client) => client.finish());
  await soon(stopped, "the end of stop()", 1500);
  await Client.to(place.port).then(() => assert(false, "it still listens"), () => {});
});

serving("stops although an idle client stays", async (place) => {
  const client = await place.client();
  client.send(request("/a.txt"));
  await client.reply();
  await soon(place.server.stop(), "the end of stop()", 8000);
});

serving("stops although a client owes a body that nobody needs", async (place) => {
  const client = await place.client();
  client.send(request("/a.txt", { fields: "Content-Length: 5\r\n" }));
  assertEquals(String((await client.reply()).body), "this is a");
  await soon(place.server.stop(), "the end of stop()", 8000);
});

serving("stops at once where nobody is connected", async (place) => {
  await soon(place.server.stop(), "the end of stop()", 500);
});

serving(
  "sends the response under way whole when it stops, and answers what was sent behind it",
  async (place) => {
    place.add("large.bin", largeContent);
    const client = await place.client();
    const end = ending(client);
    client.send(request("/large.bin"));
    await client.begun();
    const stopped = place.server.stop();
    client.send(request("/a.txt"), SMUGGLED);
    client.socket.resume();
    assertSame((await client.reply()).body, largeContent, "the file");
    const { headers, body } = await client.reply();
    assertEquals([String(body), headers.connection], ["this is a", "close"]);
    assertEquals((await client.rest()).length, 0);
    assertEquals(await end, "FIN");
    client.finish();
    await soon(stopped, "the end of stop()", 1500);
  },
);

const slowAnswer = Promise.withResolvers<void>();

serving("sends a response whole that was still being made when it stopped", async (place) => {
  const client = await place.client();
  const end = ending(client);
  client.send(request("/dir/"));
  await until(() => place.requests.length === 1, "the request");
  const stopped = place.server.stop();
  const first = await Promise.race([stopped.then(() => "stopped"), turn().then(() => "still at it")]);
  assertEquals(first, "still at it");
  slowAnswer.resolve();
  const { status, body } = await client.reply();
  assertEquals([status, String(body)], [200, "late"]);
  assertEquals((await client.rest()).length, 0);
  assertEquals(await end, "FIN");
  client.finish();
  await soon(stopped, "the end of stop()", 1500);
}, {
  async plan() {
    await slowAnswer.promise;
    return { status: 200, headers: { "Content-Length": "4" }, body: "late" };
  },
});

// close()

serving("can be closed while it stops, and behind that", async (place) => {
  place.add("large.bin", largeContent);
  const client = await place.client();
  client.send(request("/large.bin"));
  await client.begun();
  const stopped = place.server.stop();
  place.server.close();
  client.socket.resume();
  await client.rest();
  client.close();
  await soon(stopped, "the end of stop()");
  place.server.close();
});

serving("ends everything when it is closed, and keeps no descriptor", async (place) => {
  place.add("large.bin", largeContent);
  const before = sockets();
  const starts = ["", "GET /", request("/a.txt"), request("/large.bin"), request("/large.bin").repeat(3)];
  starts.push(request("/large.bin", { fields: "Connection: close\r\n" }) + SMUGGLED.repeat(1000));
  starts.push(request("/missing").repeat(40_000), request("/a.txt", { fields: "Content-Length: 9\r\n" }));
  const clients = await Promise.all(starts.map(() => place.client()));
  await Promise.all(clients.map(async (client, i) => {
    client.send(starts[i]);
    if (starts[i].length > 10) await client.begun();
  }));
  place.server.close();
  clients.forEach((client) => client.socket.resume());
  for (const client of clients) await client.rest();
  clients.forEach((client) => client.close());
  await until(() => openBelow(place.root).length === 0, "the files to be closed");
  await until(() => sockets() < before, "the sockets to be closed, the listener's too");
});

serving("closes who reads nothing, too", async (place) => {
  place.add("large.bin", largeContent);
  const before = sockets();
  const clients = await Promise.all([place.client(), place.client(), place.client()]);
  await Promise.all(clients.map((client, i) => {
    client.send(i === 0 ? request("/large.bin") : request(i === 1 ? "/missing" : "/a.txt").repeat(200_000));
    return client.begun(); // reads no more
  }));
  place.server.close();
  await until(() => openBelow(place.root).length === 0, "the files to be closed");
  // What is left are the clients' own.
  await until(() => sockets() < before + clients.length, "the sockets to be closed");
});

// answer() that fails

serving("answers 500 where the answer fails, tells of it, and goes on in order", async (place) => {
  const client = await place.client();
  const targets = ["/throws", "/fine", "/rejects", "/fine", "/late", "/throws", "/fine"];
  client.send(...targets.map((target) => request(target, { fields: "Content-Length: 3\r\n" }) + "abc"));
  for (const target of targets) {
    const { status, headers, body } = await client.reply();
    assertEquals([status, headers.connection], [target === "/fine" ? 200 : 500, undefined], target);
    assertEquals(String(body), target === "/fine" ? "fine" : "500 Internal Server Error\n");
  }
  client.send(request("/throws", { method: "HEAD" }), request("/fine"));
  assertEquals((await client.reply({ bodiless: true })).status, 500);
  assertEquals(String((await client.reply()).body), "fine");
}, {
  plan({ target }) {
    if (target === "/throws") throw new Error("thrown");
    if (target === "/rejects") return Promise.reject(new Error("rejected"));
    if (target === "/late") return turn().then(() => Promise.reject(new Error("late")));
    return { status: 200, headers: { "Content-Length": "4" }, body: "fine" };
  },
  errors: ["thrown", "rejected", "late", "thrown", "thrown"],
});

for (const [target, content] of [["/a.txt", "this is a"], ["/missing", "404 Not Found\n"]]) {
  serving(
    `lets the event loop turn between requests for ${target} that one client has sent at once`,
    async (place) => {
      const COUNT = 5000;
      const client = await place.client();
      let before = 0;
      let most = 0;
      const each = () => {
        most = Math.max(most, place.sent.length - before);
        before = place.sent.length;
        if (before < COUNT && client.socket.writable) setImmediate(each);
      };
      each();
      client.send(request(target).repeat(COUNT));
      for (let i = 0; i < COUNT; i++) assertEquals(String((await client.reply()).body), content);
      assert(most < COUNT / 10, `${most} responses in one turn`);
    },
  );
}

// A connection on its own, with a wire that does as it is told

/** A wire of which both ends are here. Files go over it by read and write. */
class FakeTransport implements Transport {
  readonly client = undefined;
  /** What the connection has sent. */
  output = "";
  finished = false;
  closed = false;
  /** Bytes that may still be sent. */
  room = Infinity;
  #input: Buffer[] = [];
  #ended = false;
  #wake = () => {};
  #roomy = () => {};

  /** In the shape of a Deno.TlsConn, which has no descriptor. */
  readonly socket = {
    localAddr: {},
    remoteAddr: {},
    handshake() {},
    read() {},
    closeWrite: () => Promise.resolve(this.finish()),
    write: (bytes: Uint8Array) => this.#write(bytes),
  } as unknown as SendfileSocket;

  push(...pieces: string[]): void {
    for (const piece of pieces) this.#input.push(Buffer.from(piece, "latin1"));
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  makeRoom(bytes: number): void {
    this.room += bytes;
    this.#roomy();
  }

  async read(into: Uint8Array): Promise<number> {
    while (this.#input.length === 0 && !this.#ended && !this.closed) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    if (this.#input.length === 0 || this.closed) return 0;
    const piece = this.#input.shift()!;
    const bytes = piece.subarray(0, into.length);
    into.set(bytes);
    if (bytes.length < piece.length) this.#input.unshift(piece.subarray(bytes.length));
    return bytes.length;
  }

  async #write(bytes: Uint8Array): Promise<number> {
    while (this.room === 0 && !this.closed) await new Promise<void>((resolve) => this.#roomy = resolve);
    if (this.closed || this.finished) throw Object.assign(new Error("closed"), { code: "EPIPE" });
    const count = Math.min(bytes.length, this.room);
    this.room -= count;
    this.output += Buffer.from(bytes.subarray(0, count)).toString("latin1");
    return count;
  }

  finish(): void {
    this.finished = true;
  }

  close(): void {
    this.closed = true;
    this.#wake();
    this.#roomy();
  }
}

/** Runs `body` with a connection of a place that nobody else connects to. */
async function alone(
  body: (transport: FakeTransport, connection: Connection, place: Place) => Promise<void>,
  plan?: ServingOptions["plan"],
): Promise<void> {
  const place = new Place(plan);
  const transport = new FakeTransport();
  const connection = new Connection(transport, place.site);
  const running = connection.run();
  try {
    await body(transport, connection, place);
    assertEquals(place.errors, []);
    transport.end();
    connection.close();
    await soon(running, "the end of the connection");
    assertEquals(openBelow(place.root), []);
  } finally {
    connection.close();
    fs.rmSync(place.root, { recursive: true });
  }
}

/** The bodies and statuses of all responses, in a shape that can be compared. */
function withoutDates(output: string): string {
  return output.replace(/^Date: .*\r\n/gm, "").replace(/^(ETag|Last-Modified): .*\r\n/gm, "");
}

/** What comes of requests that are read in these pieces. */
async function outputOf(pieces: string[], count: number): Promise<string> {
  let output = "";
  await alone(async (transport, _, place) => {
    transport.push(...pieces);
    transport.end();
    await until(() => transport.closed, `${count} responses to ${pieces.length} pieces`);
    assertEquals(place.sent.length, count);
    output = withoutDates(transport.output);
  });
  return output;
}

test("a connection gives the same wherever what it reads is split", async () => {
  const whole = await outputOf([PIPELINE], 5);
  assertEquals(whole.split("HTTP/1.1 ").map((response) => response.slice(0, 3)), [
    "",
    "200",
    "200",
    "404",
    "405",
    "200",
  ]);
  for (let at = 1; at < PIPELINE.length; at++) {
    assertEquals(await outputOf([PIPELINE.slice(0, at), PIPELINE.slice(at)], 5), whole, `split at ${at}`);
  }
  assertEquals(await outputOf([...PIPELINE], 5), whole, "byte by byte");
});

test("a connection gives the same in pieces of any size around its buffers", async () => {
  const heads = [4094, 100, 4096, 4097, 50, 8191, 8192, 8193, 16_383, 16_384, 60, 16_384].map(headOf);
  const text = heads.join("");
  const whole = await outputOf([text], heads.length);
  for (const size of [1, 2, 3, 61, 4095, 4096, 4097, 8192, 16_383, 16_384, 16_385]) {
    const pieces: string[] = [];
    for (let at = 0; at < text.length; at += size) pieces.push(text.slice(at, at + size));
    assertEquals(await outputOf(pieces, heads.length), whole, `pieces of ${size}`);
  }
});

/** Looks so many times, a second after another. */
async function look(connection: Connection, seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    connection.look();
    if (i % 10 === 0) await turn();
  }
  await turn();
}

/** That it waits so many seconds, and hardly longer. */
async function assertWaits(transport: FakeTransport, connection: Connection, seconds: number): Promise<void> {
  await look(connection, seconds);
  assert(!transport.closed, `closed before ${seconds} seconds`);
  await look(connection, 3);
  assert(transport.closed, `not closed after ${seconds + 3} seconds`);
}

test("a connection waits 75 seconds for a request, anew behind each", () =>
  alone(async (transport, connection) => {
    for (let i = 1; i <= 3; i++) {
      await look(connection, 70);
      assert(!transport.closed);
      transport.push(request("/missing"));
      await until(() => transport.output.split("404 Not Found\n").length === i + 1, "the response");
    }
    await assertWaits(transport, connection, 75);
  }));

test("a connection waits 60 seconds for the rest of a head, however it trickles in", () =>
  alone(async (transport, connection) => {
    transport.push("GET / HTTP/1.1\r\n");
    await turn();
    await look(connection, 1);
    for (let i = 0; i < 59; i++) {
      transport.push("X");
      await turn();
      await look(connection, 1);
      assert(!transport.closed, `closed after ${i} seconds`);
    }
    await look(connection, 3);
    assert(transport.closed);
    assertEquals(transport.output, "");
  }));

test("a connection waits 60 seconds for the rest of a body", () =>
  alone(async (transport, connection) => {
    transport.push(request("/missing", { fields: "Content-Length: 5\r\n" }), "1234");
    await until(() => transport.output.endsWith("404 Not Found\n"), "the response");
    await turn();
    await assertWaits(transport, connection, 60);
  }));

test("a connection waits 120 seconds for room for bytes that are no file's, anew whenever some have left", () =>
  alone(async (transport, connection, place) => {
    transport.room = 0;
    transport.push(request("/"));
    await turn();
    for (let i = 1; i <= 3; i++) {
      await look(connection, 115);
      transport.makeRoom(100);
      await until(() => transport.output.length === 100 * i, "some bytes");
    }
    await assertWaits(transport, connection, 120);
    await until(() => place.sent.length === 1 && place.sent[0].problem, "the end of the response");
  }, answerLarge));

test("a connection waits for a file as long as its own time limit says", () =>
  alone(async (transport, connection, place) => {
    transport.room = 100;
    transport.push(request("/a.txt"));
    await until(() => transport.output.length === 100, "the first bytes");
    await look(connection, 1000);
    assert(!transport.closed);
    transport.makeRoom(10_000);
    await until(() => place.sent.length === 1, "the rest");
    assert(transport.output.endsWith("this is a"));
  }));

test("a connection waits for an answer that is being made", () => {
  const { promise, resolve } = Promise.withResolvers<ResponsePlan>();
  return alone(async (transport, connection) => {
    transport.push(request("/"), request("/"));
    await turn();
    await look(connection, 1000);
    assert(!transport.closed);
    resolve({ status: 200, headers: { "Content-Length": "4" }, body: "late" });
    await until(() => transport.output.split("late").length === 3, "the responses");
  }, () => promise);
});

test("a connection waits two seconds for the client's end behind the last response, whatever comes meanwhile", () =>
  alone(async (transport, connection) => {
    transport.push(request("/missing", { fields: "Connection: close\r\n" }));
    await until(() => transport.finished, "the end of this side");
    assert(transport.output.endsWith("404 Not Found\n"));
    await look(connection, 2);
    assert(!transport.closed);
    transport.push(SMUGGLED);
    await turn();
    await look(connection, 2);
    assert(transport.closed);
  }));

test("a connection that is stopped ends where it waits for a request, and not in the middle of one", async () => {
  await alone(async (transport, connection) => {
    connection.stop();
    await turn();
    assert(transport.finished && !transport.closed);
    transport.end();
    await until(() => transport.closed, "the end");
  });
  await alone(async (transport, connection, place) => {
    transport.room = 100;
    transport.push(request("/a.txt"), request("/b.txt"), SMUGGLED);
    await until(() => transport.output.length === 100, "the first bytes");
    connection.stop();
    await turn();
    assert(!transport.finished);
    transport.makeRoom(10_000);
    await until(() => transport.finished, "the end of this side");
    assertEquals(place.targets(), ["/a.txt", "/b.txt"]);
    assertEquals(transport.output.match(/^Connection: .*$/gm), ["Connection: close"]);
    assert(transport.output.endsWith("this is b"));
  });
});

test("a connection is given up where its client reads nothing of bytes that are no file's", async () => {
  const before = sockets();
  const place = new Place(answerLarge);
  const accepted: { connection: Connection; running: Promise<void> }[] = [];
  const listener = listen({ host: "127.0.0.1", port: 0, shared: false }, (transport) => {
    const connection = new Connection(transport, place.site);
    accepted.push({ connection, running: connection.run() });
    return false;
  });
  const client = await Client.to(listener.port);
  try {
    client.send(request("/"));
    await client.begun(); // reads no more
    const [{ connection, running }] = accepted;
    await until(async () => {
      await look(connection, 1); // each step that some bytes leave in between starts the wait anew
      return await Promise.race([running.then(() => true), turn().then(() => false)]);
    }, "the end of the connection");
    assertEquals(place.sent.length, 1);
    assert(place.sent[0].problem !== undefined);
    assertEquals(place.errors, []);
  } finally {
    client.close();
    listener.close();
    accepted.forEach(({ connection }) => connection.close());
    place.close();
  }
  await until(() => sockets() <= before, "the sockets to be closed");
});

// Against the parser of Node.js

/** What is sent behind a head, to see how much of it is its body. */
const BEHIND = `5\r\nhello\r\n0\r\n\r\n${"x".repeat(100)}`;

/** Tells what llhttp makes of heads, which come as JSON, each in base64. */
const LLHTTP = `
const { HTTPParser, allMethods } = process.binding("http_parser");
const { heads, behind } = JSON.parse(require("node:fs").readFileSync(0, "latin1"));
const verdicts = heads.map((head) => {
  const bytes = Buffer.from(head, "base64");
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {}, 64 * 1024, HTTPParser.kLenientNone);
  const lines = [];
  let seen, body = "", complete = false;
  parser[HTTPParser.kOnHeaders] = (more) => void lines.push(...more);
  parser[HTTPParser.kOnHeadersComplete] = (major, minor, more = [], method, target, _, __, ___, keep) => {
    if (complete) return 0; // another message
    seen = { old: major === 1 && minor === 0, lines: [...lines, ...more], method: allMethods[method], target, keep };
    return 0;
  };
  parser[HTTPParser.kOnBody] = (chunk) => void (complete || (body += chunk.latin1Slice()));
  parser[HTTPParser.kOnMessageComplete] = () => void (complete = true);
  const feed = (chunk) => {
    const result = parser.execute(chunk);
    return result instanceof Error ? result.code : undefined;
  };
  const early = feed(bytes.subarray(0, -1));
  if (early || seen) return early ?? "its head ends before ours";
  const late = feed(bytes.subarray(-1));
  if (late || !seen) return late ?? "its head ends behind ours";
  if (!complete) feed(Buffer.from(behind));
  return { ...seen, body: complete ? body : "more" };
});
process.stdout.write(JSON.stringify(verdicts));
`;

/** A head as llhttp has understood it. */
interface Understood {
  readonly old: boolean;
  readonly method: string;
  readonly target: string;
  /** Names and values by turns. */
  readonly lines: string[];
  readonly keep: boolean;
  /** Which part of BEHIND its body is; "more": not even all of it. */
  readonly body: string;
}

/** What llhttp makes of each: or the code of its error. */
function llhttp(heads: string[]): (Understood | string)[] {
  const input = JSON.stringify({
    heads: heads.map((head) => Buffer.from(head, "latin1").toString("base64")),
    behind: BEHIND,
  });
  const { stdout, stderr, status } = spawnSync("node", ["-e", LLHTTP], { input, maxBuffer: 256 * MIB });
  assertEquals(status, 0, String(stderr));
  return JSON.parse(String(stdout));
}

const VALID = [
  "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
  "GET /a.txt?q=1#f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
  "HEAD http://test:80/a HTTP/1.1\r\nHost: test:80\r\nConnection: close, x\r\n\r\n",
  "OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nX: y\r\n\r\n",
  "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nX: \xe4\r\n\r\n",
  "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nX:\r\n\r\n",
  "PUT /a HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
  "DELETE /%61 HTTP/1.1\r\nContent-Length: 12\r\nhost: a.b\r\nExpect: 100-continue\r\nX: 1\r\nx: 2\r\n\r\n",
  "GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 3\r\n\r\n",
];

/** What an attacker would put in. */
const PIECES = [
  ..."\r\n\t :,;/?#@[]%*\"'<>\\\0\x01\x0b\x0c\x7f\x80\xa0\xc4\xff+-_.059aAzZ",
  ...[
    "\r\n",
    "\r\n ",
    "\r\n\t",
    "\n\n",
    "\r\r\n",
    "  ",
    " \t",
    "GET",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "http://",
    "://",
  ],
  ...[
    "chunked",
    ", chunked",
    "close",
    "keep-alive",
    ", keep-alive",
    "Connection: ",
    "Content-Length: ",
    "Host: ",
  ],
  ...[
    "Transfer-Encoding: ",
    "\r\nContent-Length: 5",
    "\r\nContent-Length: 6",
    "\r\nTransfer-Encoding: chunked",
  ],
  ...[
    "\r\nHost: b",
    "\r\nConnection: close",
    "\r\nConnection: keep-alive",
    "\r\nX: y",
    "0x",
    "00",
    "99999999999999999999",
  ],
];

/** Numbers below `limit`, the same for the same seed (mulberry32). */
function numbers(seed: number): (limit: number) => number {
  return (limit) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

function mutate(head: string, below: (limit: number) => number): string {
  const at = below(head.length + 1);
  const piece = PIECES[below(PIECES.length)];
  const lines = head.split("\r\n");
  const line = below(lines.length);
  switch (below(8)) {
    case 0:
      return head.slice(0, at) + head.slice(at + 1 + below(3));
    case 1:
      return head.slice(0, at) + String.fromCharCode(below(256)) + head.slice(at + 1);
    case 2:
      return head.slice(0, at) + piece + head.slice(at + piece.length);
    case 3: // a line twice
      return [...lines.slice(0, line), ...lines.slice(line === 0 ? 0 : line - 1)].join("\r\n");
    case 4: { // around what means something
      const marks = [...head.matchAll(/\r\n|[:,= ]/g)];
      const { index, 0: mark } = marks[below(marks.length)] ?? { index: 0, 0: "" };
      return head.slice(0, index + below(2) * mark.length) + piece + head.slice(index + mark.length);
    }
    case 5: { // another case, of ASCII: the capital of ÿ is no byte any more
      const capitals = head.slice(at, at + 4).replace(/[a-z]/g, (letter) => letter.toUpperCase());
      return head.slice(0, at) + capitals + head.slice(at + 4);
    }
    default:
      return head.slice(0, at) + piece + head.slice(at);
  }
}

/** The head that the reader would find first; undefined where it would wait for more. */
function firstHead(text: string): string | undefined {
  const all = Buffer.from(text, "latin1");
  const end = endOfHead(all, 0, 0, all.length);
  return end < 0 ? undefined : text.slice(0, end);
}

const SCHEME = "http://";

function evenly(list: string): string {
  return list.replace(/[ \t]*,[ \t]*/g, ", ");
}

/** For what llhttp refuses although it is valid, something in its place that llhttp knows. */
function inTermsOfLlhttp(head: string): string {
  return head
    // Any token is a method (RFC 9110, 9.1); of CONNECT's body llhttp takes no note.
    .replace(/^(?!(?:GET|HEAD|POST|PUT|DELETE|OPTIONS) )[^ ]+/, "PATCH")
    // llhttp knows letters alone in a scheme (RFC 3986, 3.1).
    .replace(/^([A-Z]+ )[a-z][a-z0-9+.-]*:\/\//i, (_, method) => `${method}${SCHEME}`)
    // Space around a value and around the commas of a list (RFC 9110, 5.5 and 5.6.1), of which it takes some.
    .replace(/^([^: ]+:)[ \t]*(.*?)[ \t]*$/gm, "$1 $2")
    .replace(/^connection: .*$/gim, evenly)
    // A higher minor version is understood as the highest that one knows (RFC 9110, 2.5).
    .replace(/^([^\r\n]* HTTP\/1\.)[2-9]\r\n/, (_, start) => `${start}1\r\n`)
    // What a client should have encoded (RFC 3986, 2.1), as nginx and Apache take it.
    .replace(/[^\r\n]+/, (line) => line.replace(/[\x80-\xff]/g, (c) => `%${c.charCodeAt(0).toString(16)}`))
    // Lengths have no upper limit (RFC 9110, 8.6).
    .replace(/^(content-length:[ \t]*)0*(\d{19,})[ \t]*$/gim, "$19999999");
}

/** What is not the same in both; undefined: nothing, or ours has refused it. */
function difference(head: string, theirs: Understood | string): string | undefined {
  const ours = parseHead(Buffer.from(head, "latin1"));
  if (ours.kind !== "head" || parseTarget(ours.target).kind !== "target" && ours.target !== "*") {
    return undefined;
  }
  if (typeof theirs === "string") return `llhttp refuses it: ${theirs}`;
  const fields = new Map<string, string>();
  for (let i = 0; i < theirs.lines.length; i += 2) {
    const [name, value] = [theirs.lines[i].toLowerCase(), theirs.lines[i + 1]];
    fields.set(name, fields.has(name) ? `${fields.get(name)}, ${value}` : value);
  }
  const length = Number(ours.field("content-length") ?? 0);
  const isChunked = ours.field("transfer-encoding") !== undefined;
  const isUnknown = isChunked || (length > 0 && ours.field("expect") !== undefined);
  if (ours.body !== (isUnknown ? Infinity : length)) return `a body of ${ours.body}`;
  const body = isChunked ? "hello" : length > BEHIND.length ? "more" : BEHIND.slice(0, length);
  if (theirs.body !== body) return `its body: ${JSON.stringify(theirs.body)}`;
  if (ours.method !== theirs.method && theirs.method !== "PATCH") return `its method: ${theirs.method}`;
  if (ours.target.replace(/^[a-z][a-z0-9+.-]*:\/\//i, SCHEME) !== theirs.target) {
    return `its target: ${theirs.target}`;
  }
  if (ours.old !== theirs.old) return `its version: 1.${theirs.old ? 0 : 1}`;
  // "close" goes before "keep-alive" (RFC 9112, 9.3); llhttp looks for the latter alone in HTTP/1.0.
  const isTorn = ours.old && /\bclose\b/i.test(fields.get("connection") ?? "");
  if (ours.keep !== theirs.keep && !isTorn) return `whether it is kept: ${theirs.keep}`;
  for (const [name, value] of fields) {
    if (name === "content-length" && value === "9999999") continue; // in place of one that llhttp does not take
    if (evenly(ours.field(name) ?? "none") !== evenly(value)) {
      return `its field ${name}: ${JSON.stringify(value)}`;
    }
  }
  return undefined;
}

test("parseHead understands no head in another way than llhttp, and takes none that llhttp refuses", () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const below = numbers(seed);
  const heads = [...VALID];
  while (heads.length < 40_000) {
    let head = VALID[below(VALID.length)];
    for (let i = 1 + below(4); i > 0; i--) head = mutate(head, below);
    const first = firstHead(head);
    if (first !== undefined) heads.push(first);
  }
  const verdicts = llhttp(heads.map(inTermsOfLlhttp));
  const taken = heads.filter((head) => parseHead(Buffer.from(head, "latin1")).kind === "head").length;
  assert(taken > 5000 && taken < 35_000, `${taken} heads were taken, which tells little`);
  heads.forEach((head, i) => {
    const what = difference(head, verdicts[i]);
    assertEquals(what, undefined, `seed ${seed}, ${JSON.stringify(head)}`);
  });
}, { skip: missing("node") });
