/** withSendfile around the handlers of Deno.serve: which way each body goes, and that it is what was promised. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as http2 from "node:http2";
import * as net from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import type { Duplex } from "node:stream";
import * as tls from "node:tls";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { Hono } from "hono";
import { compress } from "hono/compress";
import { secureHeaders } from "hono/secure-headers";
import { findPeer } from "../../../ffi/find.ts";
import { replaceLibc } from "../../../ffi/load.ts";
import { type BodyWay, serveDir, serveFile, withSendfile } from "../../../http/mod.ts";
import { sendfileStats } from "../../../mod.ts";
import { bytes, descriptors, folder, openBelow } from "../../support/data.ts";
import { faulty } from "../../support/faults.ts";
import { isBun, test } from "../../support/harness.ts";
import { assertSame, Client, parseMultipart, type Reply, request } from "../../support/http_client.ts";
import { DATA as DATA_FRAME, GOAWAY, Http2, RST_STREAM } from "../../support/http2_raw.ts";
import { MIB, missing, until } from "../../support/site.ts";
import { SlowClient } from "../../children/slow_client.ts";
import { codeOf } from "../../../reasons.ts";

const DENO = { only: "deno" } as const;

/** The server sends at most so many bytes of a file whose rest goes past it. */
const FIRST = 16 * 1024;

const BELOW = "the body is below the threshold";
const NOT_FIRST = "the connection was not seen from its first byte";
const OTHER_HEAD = "the server wrote something other than the expected head";
const LATE = "the server did not write the expected head in time";
const SEVERAL = "several connections have this peer";
const UNDER_WAY = "an earlier response is still under way";
const NOT_WORTH = "the search through all open descriptors would cost more than this body saves";
const NOT_THE_FILES = "the status or the length no longer match the file";
const SENDFILE: BodyWay = { via: "sendfile" };
const native = (reason: string): BodyWay => ({ via: "native", reason, code: codeOf(reason) });

const SMALL = Buffer.from("some small text");
const MIDDLE = Buffer.from(bytes(100_000, 2));
const MIDDLES = Buffer.from(bytes(MIB, 4));
const LARGE = Buffer.from(bytes(3 * MIB + 1));
const OTHER = Buffer.from(bytes(LARGE.length, 3));
const TEXT = Buffer.from("some text, again and again. ".repeat(100_000));
/** More than all buffers between two ends hold. */
const HUGE = Buffer.concat(Array(8).fill(LARGE));
const FILES = {
  "small.txt": SMALL,
  "middle.bin": MIDDLE,
  "large.bin": LARGE,
  "text.txt": TEXT,
  "huge.bin": HUGE,
};

type Handler = (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response>;

/** A folder with files, and a server of them in this process. */
interface Place {
  readonly root: string;
  readonly port: number;
  readonly server: Deno.HttpServer;
  readonly abort: AbortController;
  /** Set by who has shut the server down. */
  shut?: boolean;
  /** What onBody was told. */
  readonly ways: BodyWay[];
  /** What `completed` of each request came to. */
  readonly completed: string[];
  /** What the server's onError was told. */
  readonly errors: unknown[];
  path(name: string): string;
  /** Bytes that went by sendfile(2) since the start. */
  moved(): number;
}

interface Setup {
  /** Without one, serveDir. */
  handler?: (place: Place) => Handler;
  threshold?: number;
  rateLimit?: number;
  listen?: Partial<Deno.ServeTcpOptions & Deno.TlsCertifiedKeyPem & { automaticCompression: boolean }>;
  /** A unix socket in its folder instead. */
  unix?: boolean;
  /** Which errors the server's onError may be told of: none, without it. */
  errors?: RegExp;
  onBody?: (way: BodyWay) => void;
}

/** All that any onBody was told. */
const told: BodyWay[] = [];

const sockets = () => descriptors().filter((text) => text.includes(" socket:")).length;

async function withFiles(body: (root: string) => Promise<void>): Promise<void> {
  const root = fs.realpathSync(folder());
  try {
    for (const [name, content] of Object.entries(FILES)) fs.writeFileSync(join(root, name), content);
    await body(root);
    await until(() => openBelow(root).length === 0, `the files to be closed: ${openBelow(root)}`);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** Runs `body` with a server; afterwards neither file nor socket may be open that was not before. */
function serving(body: (place: Place) => Promise<void>, setup: Setup = {}): Promise<void> {
  return withFiles(async (root) => {
    const open = sockets();
    const before = sendfileStats();
    const since = told.length;
    const abort = new AbortController();
    const place = {
      root,
      port: 0,
      abort,
      ways: [] as BodyWay[],
      completed: [] as string[],
      errors: [] as unknown[],
      path: (name: string) => join(root, name),
      moved: () => sendfileStats().sendfile.bytes - before.sendfile.bytes,
    } as { -readonly [K in keyof Place]: Place[K] };
    const handler = setup.handler?.(place) ??
      ((request) => serveDir(request, { fsRoot: root, quiet: true, rateLimit: setup.rateLimit }));
    const wrapped = withSendfile<Deno.ServeHandlerInfo>((request, info) => {
      info?.completed.then(() => place.completed.push("done"), () => place.completed.push("failed"));
      return handler(request, info);
    }, {
      threshold: setup.threshold,
      onBody(way) {
        place.ways.push({ ...way });
        told.push({ ...way });
        setup.onBody?.(way);
      },
    });
    const listen = setup.unix
      ? { path: join(root, "socket") }
      : { hostname: "127.0.0.1", port: 0, ...setup.listen };
    place.server = Deno.serve({
      ...listen as Deno.ServeTcpOptions,
      signal: abort.signal,
      onListen() {},
      onError(error) {
        place.errors.push(error);
        return new Response("failed", { status: 500 });
      },
    }, wrapped);
    place.port = (place.server.addr as Deno.NetAddr).port;
    try {
      await body(place);
      assertStats(told.slice(since), before);
      assertEquals(place.errors.filter((error) => !setup.errors?.test(String(error))), []);
    } finally {
      // To abort what was shut down is an error of Deno's.
      if (!place.shut) abort.abort();
      await place.server.finished;
    }
    await until(() => sockets() <= open, `the sockets to be closed: ${open} were open, ${sockets()} are`);
  });
}

/** The counters say what onBody was told. */
function assertStats(ways: BodyWay[], before: ReturnType<typeof sendfileStats>): void {
  const after = sendfileStats();
  const left = ways.filter(({ via }) => via === "native");
  assertEquals(after.native.transfers - before.native.transfers, left.length);
  for (const reason of new Set(left.map(({ reason }) => reason!))) {
    const told = left.filter((way) => way.reason === reason).length;
    assertEquals((after.reasons[reason] ?? 0) - (before.reasons[reason] ?? 0), told, reason);
  }
}

/** That a body of `length` bytes went by sendfile(2), all but its beginning. */
function assertMoved(place: Place, length: number): void {
  assertEquals(place.ways, [SENDFILE]);
  const moved = place.moved();
  assert(moved < length && moved >= length - FIRST, `${moved} of ${length} bytes by sendfile`);
}

/** The one answer on a connection of its own, and that nothing follows it. */
async function only(port: number, text: string, bodiless = false): Promise<Reply> {
  const client = await Client.to(port);
  try {
    client.send(text);
    const reply = await client.reply({ bodiless });
    assertEquals((await client.rest()).length, 0, "something follows the body");
    return reply;
  } finally {
    client.close();
  }
}

/** Any socket, and all that comes on it. */
class Transport {
  readonly socket: Duplex;
  readonly chunks: Buffer[] = [];
  length = 0;
  ended = false;

  constructor(socket: Duplex) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.length += chunk.length;
    });
    for (const event of ["end", "close", "error"]) socket.on(event, () => this.ended = true);
  }

  static async to(options: net.NetConnectOpts): Promise<Transport> {
    const socket = net.connect(options);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return new Transport(socket);
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, "latin1"));
  }

  /** All until the end: the head, and what follows it. */
  async all(): Promise<[head: string, body: Buffer]> {
    await until(() => this.ended, "the end of the connection");
    const whole = Buffer.concat(this.chunks);
    const end = whole.indexOf("\r\n\r\n") + 4;
    assert(end > 3, `no head: ${whole}`);
    return [whole.subarray(0, end).toString("latin1"), whole.subarray(end)];
  }

  close(): void {
    this.socket.destroy();
  }
}

// What goes which way

for (const threshold of [undefined, 2_000_000]) {
  const limit = threshold ?? 2 * MIB;
  test(
    `a body of ${limit - 1} bytes keeps the connection and larger ones go by sendfile, with ${
      threshold === undefined ? "the default threshold" : `a threshold of ${limit}`
    }`,
    () =>
      serving(async (place) => {
        const content = Buffer.from(bytes(limit + 1, 7));
        for (const size of [limit - 1, limit, limit + 1]) {
          fs.writeFileSync(place.path(`${size}.bin`), content.subarray(0, size));
        }
        const client = await Client.to(place.port);
        for (let i = 0; i < 2; i++) {
          client.send(request(`/${limit - 1}.bin`));
          const { headers, body } = await client.reply();
          assertEquals([headers.connection, headers["content-length"]], [undefined, `${limit - 1}`]);
          assertSame(body, content.subarray(0, limit - 1), "below the threshold");
        }
        client.close();
        assertEquals(place.ways.splice(0), [native(BELOW), native(BELOW)]);
        assertEquals(place.moved(), 0);
        let moved = 0;
        for (const size of [limit, limit + 1]) {
          const { status, headers, body } = await only(place.port, request(`/${size}.bin`));
          assertEquals([status, headers.connection, headers["content-length"]], [200, "close", `${size}`]);
          assertSame(body, content.subarray(0, size), "from the threshold on");
          const by = place.moved() - moved;
          moved += by;
          assert(by < size && by >= size - FIRST, `${by} of ${size} bytes by sendfile`);
        }
        assertEquals(place.ways.splice(0), [SENDFILE, SENDFILE]);
      }, { threshold }),
    DENO,
  );
}

test(
  "with a threshold of 0 files go by sendfile that are not sent as bytes, and worth looking for the connection",
  () =>
    serving(async (place) => {
      for (const size of [0, 1, FIRST, FIRST + 1, FIRST + 2, 65_536]) {
        fs.writeFileSync(place.path("file.bin"), LARGE.subarray(0, size));
        const { body } = await only(place.port, request("/file.bin", { fields: "Connection: close\r\n" }));
        assertSame(body, LARGE.subarray(0, size), `${size} bytes`);
        const [way, ...others] = place.ways.splice(0);
        assertEquals(others, []);
        if (size <= FIRST) assertEquals(way, undefined);
        else if (way.via === "native") assertEquals(way, native(NOT_WORTH));
        else assertEquals(way, SENDFILE);
      }
    }, { threshold: 0 }),
  DENO,
);

const RANGES: [field: string, from: number, to: number][] = [
  ["0-", 0, LARGE.length],
  ["5-", 5, LARGE.length],
  ["-2500000", LARGE.length - 2_500_000, LARGE.length],
  ["0-2199999", 0, 2_200_000],
  ["700003-3000002", 700_003, 3_000_003],
];

for (const [field, from, to] of RANGES) {
  test(`the range ${field} goes by sendfile`, () =>
    serving(async (place) => {
      const reply = await only(place.port, request("/large.bin", { fields: `Range: bytes=${field}\r\n` }));
      const { status, headers, body } = reply;
      assertEquals(
        [status, headers.connection, headers["content-range"]],
        [206, "close", `bytes ${from}-${to - 1}/${LARGE.length}`],
      );
      assertSame(body, LARGE.subarray(from, to), "the range");
      assertMoved(place, to - from);
    }), DENO);
}

test("several ranges go by sendfile, each within its frame", () =>
  serving(async (place) => {
    const fields = "Range: bytes=100000-1199999,0-9,2000000-2999999\r\n";
    const { status, headers, body } = await only(place.port, request("/large.bin", { fields }));
    assertEquals([status, headers.connection], [206, "close"]);
    const parts = parseMultipart(headers["content-type"], body);
    assertEquals(parts.map(({ span }) => span), [[100_000, 1_199_999], [0, 9], [2_000_000, 2_999_999]]);
    for (const { span: [first, last], body } of parts) {
      assertSame(body, LARGE.subarray(first, last + 1), `${first}`);
    }
    assertMoved(place, 2_100_010);
  }), DENO);

test("several ranges are left to the server if the first of them is small", () =>
  serving(async (place) => {
    const fields = "Range: bytes=0-9,100000-2999999\r\n";
    const client = await Client.to(place.port);
    client.send(request("/large.bin", { fields }));
    const { headers, body } = await client.reply();
    assertEquals(headers.connection, undefined);
    const [one, two] = parseMultipart(headers["content-type"], body);
    assertSame(one.body, LARGE.subarray(0, 10), "the first");
    assertSame(two.body, LARGE.subarray(100_000, 3_000_000), "the second");
    client.close();
    assertEquals(place.ways, [native("the first range is small")]);
  }), DENO);

test("a limited file goes by sendfile, in pieces", () =>
  serving(async (place) => {
    const { sendfile: { calls } } = sendfileStats();
    const { body } = await only(place.port, request("/large.bin"));
    assertSame(body, LARGE, "the file");
    assertMoved(place, LARGE.length);
    // A tenth of a second's worth at a time.
    assert(sendfileStats().sendfile.calls - calls >= 3);
  }, { rateLimit: 10 * MIB }), DENO);

test(
  "responses without a file, and small files, keep the connection and are not reported",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin", { method: "HEAD" }));
      const { headers: { etag, connection, "content-length": length } } = await client.reply({
        bodiless: true,
      });
      assertEquals([connection, length], [undefined, `${LARGE.length}`]);
      client.send(request("/large.bin", { fields: `If-None-Match: ${etag}\r\n` }));
      const fresh = await client.reply();
      assertEquals([fresh.status, fresh.headers.connection], [304, undefined]);
      client.send(request("/missing"));
      const lost = await client.reply();
      assertEquals([lost.status, lost.headers.connection], [404, undefined]);
      client.send(request("/large.bin", { fields: "Range: bytes=99999999-\r\n" }));
      assertEquals((await client.reply()).status, 416);
      client.send(request("/small.txt"));
      const small = await client.reply();
      assertEquals(small.headers.connection, undefined);
      assertSame(small.body, SMALL, "the small file");
      client.send(request("/large.bin", { fields: "Range: bytes=7-1006\r\n" }));
      assertSame((await client.reply()).body, LARGE.subarray(7, 1007), "the small range");
      assertEquals(place.ways, []);
      client.close();
    }),
  DENO,
);

// Which connection

test(
  "clients of one address and port at two servers get their own files, whichever way they go",
  () =>
    serving((one) =>
      serving(async (two) => {
        fs.writeFileSync(two.path("large.bin"), OTHER);
        const localPort = await freePort();
        const from = (port: number) =>
          Transport.to({ host: "127.0.0.1", port, localAddress: "127.0.0.1", localPort });
        const first = await from(one.port);
        const second = await from(two.port);
        // A server has accepted once it has answered.
        for (const wire of [first, second]) {
          wire.send(request("/small.txt", { fields: "Connection: keep-alive\r\n" }));
          await until(() => Buffer.concat(wire.chunks).includes(SMALL), "the small file");
          wire.chunks.length = 0;
        }
        const open = sockets();
        first.send(request("/large.bin", { fields: "Connection: close\r\n" }));
        assertSame((await first.all())[1], LARGE, "the first server's");
        assertEquals([one.ways, two.ways], [[native(SEVERAL)], []]);
        first.close();
        await until(() => sockets() === open - 2, "the first connection to be closed");
        second.send(request("/large.bin", { fields: "Connection: keep-alive\r\n" }));
        assertSame((await second.all())[1], OTHER, "the second server's");
        assertEquals(two.ways, [SENDFILE]);
        second.close();
      })
    ),
  DENO,
);

test(
  "two transfers at once to one address and port, from two servers, do not mix",
  () =>
    serving((one) =>
      serving(async (two) => {
        fs.writeFileSync(two.path("huge.bin"), Buffer.concat(Array(8).fill(OTHER)));
        const localPort = await freePort();
        const from = (port: number) =>
          Transport.to({ host: "127.0.0.1", port, localAddress: "127.0.0.1", localPort });
        const first = await from(one.port);
        first.send(request("/huge.bin"));
        await until(() => first.length > 0 || undefined, "the first bytes");
        first.socket.pause();
        const second = await from(two.port);
        second.send(request("/huge.bin", { fields: "Connection: close\r\n" }));
        assertSame((await second.all())[1], fs.readFileSync(two.path("huge.bin")), "the second server's");
        first.socket.resume();
        assertSame((await first.all())[1], HUGE, "the first server's");
        assertEquals([one.ways, two.ways], [[SENDFILE], [native(SEVERAL)]]);
        first.close();
        second.close();
      })
    ),
  DENO,
);

/** A port that nobody has, at this moment. */
async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

for (
  const [hostname, from] of [["::", "127.0.0.1"], ["::", "::1"], ["::1", "::1"], ["0.0.0.0", "127.0.0.1"]]
) {
  test(`a server on ${hostname} finds the connection from ${from}`, () =>
    serving(async (place) => {
      const wire = await Transport.to({ host: from, port: place.port });
      wire.send(request("/large.bin"));
      assertSame((await wire.all())[1], LARGE, "the file");
      wire.close();
      assertMoved(place, LARGE.length);
    }, { listen: { hostname } }), { ...DENO, skip: hasIPv6() ? undefined : "no IPv6" });
}

function hasIPv6(): boolean {
  return fs.existsSync("/proc/net/if_inet6") && fs.readFileSync("/proc/net/if_inet6", "utf8") !== "";
}

test("many clients at once get each its own file", () =>
  serving(async (place) => {
    const wanted = Array.from({ length: 40 }, (_, i) => i * 1000);
    await Promise.all(wanted.map(async (from) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin", { fields: `Range: bytes=${from}-\r\n` }));
      assertSame((await client.reply()).body, LARGE.subarray(from), `from ${from} on`);
      client.close();
    }));
    assertEquals(place.ways.length, wanted.length);
    assert(place.ways.some(({ via }) => via === "sendfile"), "none went by sendfile");
    // On a machine that is busy with all of them a head may take its time.
    for (const way of place.ways) if (way.via === "native") assertEquals(way, native(LATE));
  }), DENO);

// Several requests on one connection

test(
  "requests pipelined after a large file are not answered, and do not cut the file off",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin"), request("/small.txt"), request("/large.bin"));
      const { headers, body } = await client.reply();
      assertEquals(headers.connection, "close");
      assertSame(body, LARGE, "the file");
      assertEquals((await client.rest()).length, 0);
      client.close();
      assertMoved(place, LARGE.length);
    }),
  DENO,
);

for (const fields of ["", "Connection: keep-alive\r\n"]) {
  const said = fields ? "with the field Connection" : "without the field Connection";
  test(`a large file behind pipelined small ones is whole, ${said}`, () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      const small = request("/small.txt", { fields });
      client.send(small, small, small, request("/large.bin", { fields }), small);
      for (let i = 0; i < 3; i++) assertSame((await client.reply()).body, SMALL, "a small file");
      const { headers, body } = await client.reply();
      assertSame(body, LARGE, "the large file");
      if (headers.connection !== "close") assertSame((await client.reply()).body, SMALL, "the last");
      else assertEquals((await client.rest()).length, 0);
      client.close();
      assertEquals(place.ways.length, 1);
    }), DENO);
}

test(
  "a large file behind a response that its client has not got yet is the server's",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.socket.pause(); // what it does not read, its system does not acknowledge: not a whole 1 MiB
      client.send(request("/first"), request("/large.bin", { fields: "Connection: keep-alive\r\n" }));
      await until(() => place.ways.length > 0, "the second response");
      assertEquals(place.ways, [native(UNDER_WAY)]);
      client.socket.resume();
      assertSame((await client.reply()).body, MIDDLES, "the first");
      assertSame((await client.reply()).body, LARGE, "the large file");
      client.close();
    }, {
      handler: ({ root }) => (request) =>
        request.url.endsWith("/first")
          ? new Response(MIDDLES)
          : serveDir(request, { fsRoot: root, quiet: true }),
    }),
  DENO,
);

test(
  "a descriptor that leads to another connection by the time it is duplicated sends nothing there",
  () =>
    serving(async (place) => {
      const stranger = await Client.to(place.port);
      stranger.send(request("/small.txt"));
      assertSame((await stranger.reply()).body, SMALL, "the small file");
      const libc = faulty({});
      const theirs = findPeer(libc, libc.parseEndpoint("127.0.0.1", stranger.socket.localPort!)!, Infinity);
      assert(typeof theirs === "number");
      // As where the server closes the connection, and accepts another under its number, just before.
      const dup = libc.dup.bind(libc);
      libc.dup = () => dup(theirs);
      const client = await Client.to(place.port);
      try {
        replaceLibc(libc);
        client.send(request("/large.bin"));
        assertSame((await client.reply()).body, LARGE, "the file");
        assertEquals(place.ways, [native("the server has closed the connection")]);
        stranger.send(request("/small.txt"));
        assertSame((await stranger.reply()).body, SMALL, "the small file again");
      } finally {
        replaceLibc(undefined);
        client.close();
        stranger.close();
      }
    }),
  DENO,
);

test(
  "large files between pipelined middle ones are whole as far as they come",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      const names = ["middle.bin", "large.bin", "middle.bin", "large.bin"];
      client.send(...names.map((name) => request(`/${name}`)));
      for (const name of names) {
        const { headers, body } = await client.reply();
        assertSame(body, fs.readFileSync(place.path(name)), name);
        if (headers.connection === "close") break;
      }
      client.socket.end();
      assertEquals((await client.rest()).length, 0);
      client.close();
    }),
  DENO,
);

test(
  "nothing is lost of a file that is queued whole while its client reads nothing",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.socket.pause();
      client.send(request("/large.bin"), request("/small.txt").repeat(20_000));
      await until(() => place.moved() > LARGE.length - FIRST - 1, "all to be handed to the system");
      await new Promise((resolve) => setTimeout(resolve, 200)); // a server that closes now resets the connection
      client.socket.resume();
      assertSame((await client.reply()).body, LARGE, "the file");
      client.close();
      assertEquals(place.ways, [SENDFILE]);
    }),
  DENO,
);

test(
  "how many bytes the server sends before the file goes past it is drawn by lot",
  () =>
    serving(async (place) => {
      const given = new Set<number>();
      let before = 0;
      for (let i = 0; i < 8; i++) {
        assertSame((await only(place.port, request("/large.bin"))).body, LARGE, "the file");
        const moved = place.moved();
        given.add(LARGE.length - (moved - before));
        before = moved;
      }
      assert(given.size > 1, `always ${[...given]}`);
      assertEquals(place.ways, Array(8).fill(SENDFILE));
    }),
  DENO,
);

test(
  "pipelined requests that are many and unread do not cut the end of a file off for a slow reader",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/huge.bin"));
      await client.begun();
      const { waits } = sendfileStats();
      client.send(request("/small.txt").repeat(20_000));
      await until(() => sendfileStats().waits > waits, "the transfer to wait for its reader");
      client.socket.resume();
      assertSame((await client.reply()).body, HUGE, "the file");
      assertEquals((await client.rest()).length, 0);
      client.close();
      assertMoved(place, HUGE.length);
    }),
  DENO,
);

for (const version of ["1.1", "1.0"]) {
  test(
    `an HTTP/${version} request that asks for the connection's end is answered by sendfile`,
    () =>
      serving(async (place) => {
        const text = request("/large.bin", { version, fields: "Connection: close\r\n" });
        assertSame((await only(place.port, text)).body, LARGE, "the file");
        assertMoved(place, LARGE.length);
      }),
    DENO,
  );
}

test(
  "an HTTP/1.0 request without the field Connection is answered by sendfile",
  () =>
    serving(async (place) => {
      const { headers, body } = await only(place.port, request("/large.bin", { version: "1.0" }));
      assertEquals(headers.connection, "close");
      assertSame(body, LARGE, "the file");
      assertMoved(place, LARGE.length);
    }),
  DENO,
);

test(
  "an HTTP/1.0 request that asks to keep the connection is the server's, whose head says so",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin", { version: "1.0", fields: "Connection: keep-alive\r\n" }));
      assertSame((await client.reply()).body, LARGE, "the file");
      client.close();
      assertEquals(place.ways, [native(OTHER_HEAD)]);
    }),
  DENO,
);

test("a second request without the field Connection is the server's", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/small.txt"));
    assertSame((await client.reply()).body, SMALL, "the small file");
    for (let i = 0; i < 2; i++) {
      client.send(request("/large.bin"));
      const { headers, body } = await client.reply();
      assertEquals(headers.connection, undefined);
      assertSame(body, LARGE, "the large file");
    }
    client.send(request("/large.bin", { fields: "Connection: keep-alive\r\n" }));
    assertSame((await client.reply()).body, LARGE, "the large file once more");
    client.close();
    assertEquals(place.ways, Array(3).fill(native(NOT_FIRST)));
    assertEquals(place.moved(), 0);
  }), DENO);

test("a second request with the field Connection goes by sendfile", () =>
  serving(async (place) => {
    const fields = "Connection: keep-alive\r\n";
    const client = await Client.to(place.port);
    client.send(request("/small.txt", { fields }));
    assertSame((await client.reply()).body, SMALL, "the small file");
    client.send(request("/middle.bin", { fields }));
    assertSame((await client.reply()).body, MIDDLE, "the middle file");
    // What it has acknowledged is known to the server's system by then, or the file is the server's.
    client.send(request("/large.bin", { fields }));
    const { body } = await client.reply();
    assertSame(body, LARGE, "the large file");
    const [, way] = place.ways;
    if (way.via !== "native") assertEquals((await client.rest()).length, 0);
    else assertEquals(way, native("an earlier response is still under way"));
    client.close();
    assertEquals(place.ways.length, 2);
  }), DENO);

test("a request whose own body is not read is answered with the whole file", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/huge.bin", { fields: "Content-Length: 1000000\r\n" }));
    await client.begun();
    client.send("x".repeat(900_000));
    client.socket.resume();
    assertSame((await client.reply()).body, HUGE, "the file");
    client.close();
    assertEquals(place.ways.length, 1);
  }), DENO);

test("a request that waits to be told to continue is answered with the file", () =>
  serving(async (place) => {
    const wire = await Transport.to({ port: place.port, host: "127.0.0.1" });
    wire.send(request("/large.bin", { fields: "Content-Length: 4\r\nExpect: 100-continue\r\n" }));
    const CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";
    const final = () => {
      const whole = Buffer.concat(wire.chunks);
      return whole.subarray(whole.toString("latin1").startsWith(CONTINUE) ? CONTINUE.length : 0);
    };
    const bodyOf = (reply: Buffer) => reply.subarray(reply.indexOf("\r\n\r\n") + 4);
    await until(() => wire.length > LARGE.length && bodyOf(final()).length >= LARGE.length, "the file");
    assert(final().toString("latin1").startsWith("HTTP/1.1 200 OK\r\n"));
    assertSame(bodyOf(final()), LARGE, "the file");
    wire.close();
    assertEquals(place.ways.length, 1);
  }), DENO);

// HTTP/2

function h2Get(session: http2.ClientHttp2Session, path: string, fields = {}): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path, ...fields });
    const chunks: Buffer[] = [];
    stream.on("data", (chunk) => chunks.push(Buffer.from(chunk)));
    stream.on("end", () => resolve(Buffer.concat(chunks)));
    stream.on("error", reject);
    stream.end();
  });
}

test("HTTP/2 without TLS is the server's, and files are whole", () =>
  serving(async (place) => {
    const session = http2.connect(`http://127.0.0.1:${place.port}`);
    try {
      assertSame(await h2Get(session, "/large.bin"), LARGE, "the first");
      assertSame(await h2Get(session, "/large.bin", { host: "other" }), LARGE, "beside a field Host");
      assertSame(await h2Get(session, "/small.txt"), SMALL, "a small one");
    } finally {
      session.destroy();
    }
    assertEquals(place.ways, Array(2).fill(native(NOT_FIRST)));
    assertEquals(place.moved(), 0);
  }), DENO);

test(
  "thirty files at once on one HTTP/2 connection are the server's, and whole",
  () =>
    serving(async (place) => {
      const session = http2.connect(`http://127.0.0.1:${place.port}`);
      try {
        const bodies = await Promise.all(Array.from({ length: 30 }, () => h2Get(session, "/large.bin")));
        for (const body of bodies) assertSame(body, LARGE, "a file");
      } finally {
        session.destroy();
      }
      assertEquals(place.ways, Array(30).fill(native(NOT_FIRST)));
      assertEquals(place.moved(), 0);
    }),
  DENO,
);

test(
  "nothing but frames comes on an HTTP/2 connection, whatever fields its requests have",
  () =>
    serving(async (place) => {
      const names = ["connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"];
      for (const first of [true, false]) {
        for (const name of names) {
          const client = await Http2.to(place.port);
          let stream = 1;
          if (!first) {
            client.get(stream, "/small.txt");
            assertSame(await client.body(stream), SMALL, "the small file");
            stream += 2;
          }
          client.get(stream, "/large.bin", [[name, name === "transfer-encoding" ? "chunked" : "keep-alive"]]);
          await client.until((frame) => frame.type === RST_STREAM || frame.type === GOAWAY);
          const given = client.frames.filter(({ type, stream: of }) => type === DATA_FRAME && of === stream);
          assertEquals(given, []);
          const lost = client.frames.some(({ type }) => type === GOAWAY);
          if (!lost) {
            client.get(stream + 2, "/large.bin");
            assertSame(await client.body(stream + 2), LARGE, "the large file");
            await client.settled();
          }
          client.close();
        }
      }
      assert(place.ways.every(({ via, reason }) => via === "native" && reason === NOT_FIRST));
      assertEquals(place.moved(), 0);
    }),
  DENO,
);

test(
  "an HTTP/2 connection that begins with a forbidden field and a large file carries nothing but frames",
  () =>
    serving(async (place) => {
      const client = await Http2.to(place.port);
      client.get(1, "/large.bin", [["connection", "keep-alive"]]);
      client.get(3, "/large.bin", [["te", "trailers"]]);
      client.get(5, "/large.bin", [["te", "gzip"]]);
      assertSame(await client.body(3), LARGE, "the large file");
      await client.settled();
      client.close();
      assertEquals(place.moved(), 0);
    }),
  DENO,
);

// Clients that are slow, half closed or gone

/** A client that has asked for the huge file and does not read: the transfer waits. */
async function waitingClient({ port }: Place): Promise<Client> {
  const { waits } = sendfileStats();
  const client = await Client.to(port);
  client.send(request("/huge.bin"));
  await client.begun();
  await until(() => sendfileStats().waits > waits, "the transfer to wait for its reader");
  return client;
}

test("a client that reads late gets all by sendfile", () =>
  serving(async (place) => {
    const client = await waitingClient(place);
    assertEquals((await only(place.port, request("/large.bin"))).status, 200); // others are served meanwhile
    client.socket.resume();
    assertSame((await client.reply()).body, HUGE, "the file");
    assertEquals((await client.rest()).length, 0);
    client.close();
    assertEquals(place.ways, [SENDFILE, SENDFILE]);
    await until(() => place.completed.length === 2, "the requests to be over");
    assertEquals(place.completed, ["done", "done"]);
  }), DENO);

/** What comes of a request that ends the client's own direction. */
async function halfClosed(port: number, text: string): Promise<[head: string, body: Buffer]> {
  using client = new SlowClient(port, false);
  client.send(text);
  client.finish(); // no runtime in between: both have arrived before the server looks
  const whole = await client.all();
  const end = whole.includes("\r\n\r\n") ? whole.indexOf("\r\n\r\n") + 4 : 0;
  return [whole.subarray(0, end).toString("latin1"), whole.subarray(end)];
}

const DOWNLOADS = 8;

for (const fields of ["", "Connection: close\r\n", "Accept-Encoding: gzip\r\n"]) {
  test(
    `a client that ends its own direction with the request gets all by sendfile (${fields.trim()})`,
    () =>
      serving(async (place) => {
        for (let i = 0; i < DOWNLOADS; i++) {
          const [head, body] = await halfClosed(place.port, request("/large.bin", { fields }));
          assert(/^connection: close, x+\r$/m.test(head), head);
          assertSame(body, LARGE, `download ${i}`);
        }
        assertEquals(place.ways, Array(DOWNLOADS).fill(SENDFILE));
        assertEquals(place.moved(), DOWNLOADS * LARGE.length);
      }),
    DENO,
  );
}

test(
  "a client that ends its own direction with the request gets all parts by sendfile",
  () =>
    serving(async (place) => {
      const fields = `Range: bytes=1-${MIB}, ${MIB + 7}-${3 * MIB}\r\n`;
      const [head, body] = await halfClosed(place.port, request("/large.bin", { fields }));
      const type = /^content-type: (.*)\r$/m.exec(head)![1];
      const parts = parseMultipart(type, body);
      assertSame(parts[0].body, LARGE.subarray(1, MIB + 1), "the first part");
      assertSame(parts[1].body, LARGE.subarray(MIB + 7), "the second part");
      assertEquals(place.ways.map(({ via }) => via), ["sendfile"]);
    }),
  DENO,
);

test(
  "a client that has half-closed its direction gets no file behind another response",
  () =>
    withFiles(async (root) => {
      const before = sendfileStats().sendfile.bytes;
      const handler = withSendfile<Deno.ServeHandlerInfo>((request) =>
        serveFile(request, join(root, "large.bin"))
      );
      const ending = new AbortController();
      const server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", signal: ending.signal, onListen() {} },
        async (request, info) => {
          void (await handler(request, info)).body!.cancel();
          return new Response("some text");
        },
      );
      const [head, body] = await halfClosed(server.addr.port, request("/"));
      assertStringIncludes(head, "content-length: 9");
      assertEquals(String(body), "some text");
      assertEquals(sendfileStats().sendfile.bytes, before);
      ending.abort();
      await server.finished;
    }),
  DENO,
);

test("Deno.serve gives a client up that has ended its own direction while a handler waits", async () => {
  const waited = (request: Request, path: string) =>
    new Promise((resolve) => setTimeout(resolve, 20)).then(() => serveFile(request, path));
  await serving(async (place) => {
    assertEquals(await halfClosed(place.port, request("/large.bin")), ["", Buffer.alloc(0)]);
    assertEquals(place.moved(), 0);
  }, { handler: (place) => (request) => waited(request, place.path("large.bin")) });
  // So it does without withSendfile, which could not help: nothing is known of a request before it is answered.
  const ending = new AbortController();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", signal: ending.signal, onListen() {} },
    async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return new Response("some text");
    },
  );
  assertEquals((await halfClosed(server.addr.port, request("/")))[1].length, 0);
  ending.abort();
  await server.finished;
}, DENO);

test(
  "a client that ends its own direction in the middle gets all by sendfile",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/huge.bin"));
      await client.begun();
      await until(() => place.ways.length > 0, "the transfer");
      client.finish();
      await until(() => place.completed.length > 0, "the server to give it up");
      client.socket.resume();
      assertSame((await client.reply()).body, HUGE, "the file");
      assertEquals((await client.rest()).length, 0);
      client.close();
      assertMoved(place, HUGE.length);
    }),
  DENO,
);

for (const how of ["destroy", "resetAndDestroy"] as const) {
  test(`a client that leaves in the middle leaves nothing open (${how})`, () =>
    serving(async (place) => {
      for (let i = 0; i < 5; i++) {
        const client = await Client.to(place.port);
        client.send(request("/huge.bin"));
        await client.begun();
        await until(() => place.ways.length > i, "the transfer");
        client.socket[how]();
        await until(() => openBelow(place.root).length === 0, "the file to be closed");
      }
      await until(() => place.completed.length === 5, "the requests to be over");
      assertSame((await only(place.port, request("/large.bin"))).body, LARGE, "the next");
    }), DENO);
}

test(
  "a client that ends its own direction and leaves later leaves nothing open",
  () =>
    serving(async (place) => {
      const open = sockets();
      for (const name of ["huge.bin", "large.bin"]) {
        const before = place.moved();
        const { waits } = sendfileStats();
        const client = await Client.to(place.port);
        client.send(request(`/${name}`));
        await client.begun();
        const whole = name === "large.bin" && LARGE.length - FIRST;
        await until(
          () => whole ? place.moved() >= before + whole : sendfileStats().waits > waits,
          "the transfer to wait, or to have given all to the system",
        );
        client.finish();
        await until(() => place.completed.length > 0, "the server to give it up");
        client.socket.resetAndDestroy();
        await until(() => openBelow(place.root).length === 0, "the file to be closed");
        await until(() => sockets() <= open, `the duplicate to be closed after ${name}`);
        place.completed.length = 0;
      }
      assertEquals(place.ways, [SENDFILE, SENDFILE]);
    }),
  DENO,
);

test("a client that leaves before it is answered leaves nothing open", () => {
  const asked = Promise.withResolvers<void>();
  return serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/large.bin"));
    await asked.promise;
    client.socket.resetAndDestroy();
    await until(() => place.completed.length > 0, "the request to be over");
    await until(() => openBelow(place.root).length === 0, "the file to be closed");
    assertEquals(place.moved(), 0);
  }, {
    handler: (place) => async (request) => {
      asked.resolve();
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      return await serveFile(request, place.path("large.bin"));
    },
  });
}, DENO);

test("a server that shuts down lets the transfer come to its end", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/huge.bin"));
    await client.begun();
    await until(() => place.ways.length > 0, "the transfer");
    let over = false;
    place.shut = true;
    const shutdown = place.server.shutdown().then(() => over = true);
    client.socket.resume();
    assertSame((await client.reply()).body, HUGE, "the file");
    assertEquals((await client.rest()).length, 0);
    await until(() => over, "the shutdown");
    await shutdown;
    client.close();
    assertMoved(place, HUGE.length);
    assertEquals(place.completed, ["done"]);
  }), DENO);

test(
  "a server that is aborted ends the transfer, and the client sees that it is short",
  () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/huge.bin"));
      await client.begun();
      await until(() => place.ways.length > 0, "the transfer");
      place.abort.abort();
      await place.server.finished;
      await until(() => openBelow(place.root).length === 0, "the file to be closed");
      client.socket.resume();
      const whole = await client.rest();
      const body = whole.subarray(whole.indexOf("\r\n\r\n") + 4);
      assert(body.length < HUGE.length, "all came");
      assertSame(body, HUGE.subarray(0, body.length), "what came");
      client.close();
      assertEquals(place.ways, [SENDFILE]);
      await until(() => place.completed.length === 1, "the request to be over");
    }),
  DENO,
);

// What handlers and middleware make of it

test(
  "a compressed body is never taken for the file, whatever random length its beginning has",
  () =>
    serving(async (place) => {
      const { getRandomValues } = crypto;
      let random = 0;
      crypto.getRandomValues = <T extends ArrayBufferView | null>(into: T) => {
        if (!(into instanceof Uint16Array)) return getRandomValues.call(crypto, into as T & Uint8Array) as T;
        into.fill(random);
        return into;
      };
      try {
        for (const coding of ["gzip", "br"]) {
          const ask = async (value: number) => {
            random = value;
            const response = await fetch(`http://127.0.0.1:${place.port}/text.txt`, {
              headers: { "Accept-Encoding": coding, "Connection": "keep-alive" },
            });
            const what = `${coding}, ${value}`;
            const body = await response.arrayBuffer().catch((error) => new TextEncoder().encode(`${error}`));
            assertSame(Buffer.from(body as ArrayBuffer), TEXT, what);
            return place.ways.at(-1)?.reason;
          };
          // Few bytes of the file are less than what compresses them adds, many are more. In between it comes out even.
          let [few, many] = [0, FIRST];
          while (many - few > 1) {
            const middle = (few + many) >> 1;
            if (await ask(middle) === OTHER_HEAD) few = middle;
            else many = middle;
          }
          for (let value = few - 4; value < few + 6; value++) await ask(value);
        }
        assertEquals(place.moved(), 0);
      } finally {
        crypto.getRandomValues = getRandomValues;
      }
    }, { listen: { automaticCompression: true } }),
  DENO,
);

for (const [coding, decompress] of [["gzip", gunzipSync], ["br", brotliDecompressSync]] as const) {
  test(`bodies that the server compresses are left to it (${coding})`, () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/text.txt", { fields: `Accept-Encoding: ${coding}\r\n` }));
      const { headers, body } = await client.reply();
      assertEquals(headers["content-encoding"], coding);
      assertSame(decompress(body), TEXT, "the text");
      client.close();
      assertEquals(place.ways.map(({ via }) => via), ["native"]);
      assertEquals(place.moved(), 0);
    }, { listen: { automaticCompression: true } }), DENO);
}

test(
  "a compressing server sends bodies that it does not compress by sendfile",
  () =>
    serving(async (place) => {
      const fields = "Accept-Encoding: gzip\r\n";
      assertSame((await only(place.port, request("/large.bin", { fields }))).body, LARGE, "the file");
      assertSame((await only(place.port, request("/text.txt"))).body, TEXT, "the text");
      assertEquals(place.ways, [SENDFILE, SENDFILE]);
    }, { listen: { automaticCompression: true } }),
  DENO,
);

const TLS = {
  cert: fs.readFileSync(join(import.meta.dirname!, "../../tls/cert.pem"), "utf8"),
  key: fs.readFileSync(join(import.meta.dirname!, "../../tls/key.pem"), "utf8"),
};

for (const target of ["/large.bin", "http://test/large.bin"]) {
  for (const fields of ["", "Connection: keep-alive\r\n"]) {
    test(`TLS is the server's (${target}${fields && `, ${fields.trim()}`})`, () =>
      serving(async (place) => {
        const socket = tls.connect({ host: "127.0.0.1", port: place.port, rejectUnauthorized: false });
        await new Promise<void>((resolve, reject) =>
          socket.once("secureConnect", resolve).once("error", reject)
        );
        const wire = new Transport(socket);
        wire.send(request(target, { fields }));
        const bodyOf = (whole: Buffer) => whole.subarray(whole.indexOf("\r\n\r\n") + 4);
        await until(
          () =>
            wire.ended ||
            (wire.length > LARGE.length && bodyOf(Buffer.concat(wire.chunks)).length >= LARGE.length),
          "the file",
        );
        assertSame(bodyOf(Buffer.concat(wire.chunks)), LARGE, "the file");
        wire.close();
        assertEquals(place.ways.map(({ via }) => via), ["native"]);
        if (target.startsWith("/")) assertEquals(place.ways, [native("TLS")]);
        assertEquals(place.moved(), 0);
      }, { listen: TLS }), DENO);
  }
}

test("a unix socket is the server's", () =>
  serving(async (place) => {
    const wire = await Transport.to({ path: place.path("socket") });
    wire.send(request("/large.bin", { fields: "Connection: close\r\n" }));
    assertSame((await wire.all())[1], LARGE, "the file");
    wire.close();
    assertEquals(place.ways, [native("not a TCP connection")]);
  }, {
    unix: true,
    handler: (place) => (request) => serveFile(request, place.path("large.bin")),
  }), DENO);

test("serveDir serves on a unix socket", () =>
  serving(async (place) => {
    const wire = await Transport.to({ path: place.path("socket") });
    wire.send(request("/large.bin", { fields: "Connection: close\r\n" }));
    assertSame((await wire.all())[1], LARGE, "the file");
    wire.close();
  }, { unix: true }), DENO);

test("a plain Request without a server gets the response as it is", () =>
  withFiles(async (root) => {
    const ways: BodyWay[] = [];
    const handle = withSendfile((request: Request) => serveFile(request, join(root, "large.bin")), {
      onBody: (way) => ways.push(way),
    }) as (request: Request) => Promise<Response>;
    const response = await handle(new Request("http://localhost/"));
    assertEquals(response.headers.get("connection"), null);
    assertSame(Buffer.from(await response.arrayBuffer()), LARGE, "the file");
    const nobody = isBun
      ? "the handler was not given Bun's server"
      : "the handler was not given the connection's address";
    assertEquals(ways, [native(nobody)]);
  }));

test("an information of any other shape is no connection", () =>
  withFiles(async (root) => {
    const ways: BodyWay[] = [];
    // deno-lint-ignore no-explicit-any -- what other servers may hand in
    const handle = withSendfile<any>((request) => serveFile(request, join(root, "large.bin")), {
      onBody: (way) => ways.push(way),
    });
    const remote = (remoteAddr: unknown) => ({ remoteAddr });
    const all = [
      undefined,
      null,
      {},
      remote(undefined),
      remote({ transport: "udp", hostname: "127.0.0.1", port: 1 }),
      remote({ transport: "tcp", hostname: "localhost", port: 1 }),
      remote({ transport: "tcp", hostname: "127.0.0.1", port: 1 }),
    ];
    for (const info of all) {
      const response = await handle(new Request("http://localhost/"), info);
      assertSame(Buffer.from(await response.arrayBuffer()), LARGE, "the file");
    }
    assertEquals(ways.map(({ via }) => via), all.map(() => "native"));
  }), DENO);

test("a Response that a handler has had for long is the server's", () => {
  const ready: Response[] = [];
  return serving(async (place) => {
    ready.push(await serveFile(new Request("http://localhost/"), place.path("large.bin")));
    const client = await Client.to(place.port);
    client.send(request("/"));
    assertSame((await client.reply()).body, LARGE, "the file");
    client.close();
    assertEquals(place.ways, []);
  }, { handler: () => () => ready.shift()! });
}, DENO);

test("errors of a handler are left to the server", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    for (const path of ["/thrown", "/rejected"]) {
      client.send(request(path));
      const { status, body } = await client.reply();
      assertEquals([status, String(body)], [500, "failed"]);
    }
    client.close();
    assertEquals(place.errors.splice(0).map((error) => (error as Error).message), ["thrown", "rejected"]);
    assertEquals(place.ways, []);
  }, {
    handler: () => ({ url }) => {
      if (url.endsWith("/thrown")) throw new Error("thrown");
      return Promise.reject(new Error("rejected"));
    },
  }), DENO);

/** A middleware, and what becomes of a large file behind it. */
interface Middleware {
  readonly name: string;
  change(response: Response): Response | Promise<Response>;
  /** Whether onBody is told, and what; none where it is not a file any more. */
  readonly ways: readonly BodyWay[];
  /** In lower case; what the head has to have. */
  readonly head?: readonly string[];
  readonly status?: number;
  readonly body?: Buffer;
}

function add(...fields: [string, string][]): (response: Response) => Response {
  return (response) => {
    for (const [name, value] of fields) response.headers.append(name, value);
    return response;
  };
}

const MIDDLEWARE: readonly Middleware[] = [
  {
    name: "adds fields",
    change: add(["X-Added", "yes"], ["Server", "mine"], ["Vary", "a"], ["Vary", "b"]),
    ways: [SENDFILE],
    head: ["x-added: yes", "server: mine", "vary: a, b"],
  },
  {
    name: "makes another Response of the same body",
    change: ({ body, status, headers }) =>
      new Response(body, { status, headers: [...headers, ["x-added", "yes"]] }),
    ways: [SENDFILE],
    head: ["x-added: yes"],
  },
  {
    name: "sets two cookies",
    change: add(["Set-Cookie", "a=1; Path=/"], ["Set-Cookie", "b=2"]),
    ways: [SENDFILE],
    head: ["set-cookie: a=1; path=/", "set-cookie: b=2"],
  },
  {
    name: "adds a value beyond ASCII",
    change: add(["X-Name", "Zo\xeb \xff\x80"]),
    ways: [SENDFILE],
    head: ["x-name: zo\xeb \xff\x80"],
  },
  { name: "adds an empty value", change: add(["X-None", ""]), ways: [SENDFILE], head: ["x-none: "] },
  {
    name: "sets the date itself",
    change: add(["Date", "Sun, 06 Nov 1994 08:49:37 GMT"]),
    ways: [SENDFILE],
    head: ["date: sun, 06 nov 1994 08:49:37 gmt"],
  },
  {
    name: "sets a date of another length",
    change: add(["Date", "today"]),
    ways: [SENDFILE],
    head: ["date: today"],
  },
  { name: "asks for keep-alive", change: add(["Connection", "keep-alive"]), ways: [SENDFILE] },
  {
    name: "adds many fields",
    change: add(...Array.from({ length: 60 }, (_, i): [string, string] => [`X-${i}`, "y".repeat(100)])),
    ways: [SENDFILE],
    head: ["x-59: yyyy"],
  },
  {
    name: "deletes the length",
    change(response) {
      response.headers.delete("content-length");
      return response;
    },
    ways: [native(NOT_THE_FILES)],
  },
  {
    name: "lies about the length",
    change(response) {
      response.headers.set("content-length", `${LARGE.length}.0`);
      response.headers.delete("content-length");
      return response;
    },
    ways: [native(NOT_THE_FILES)],
  },
  {
    name: "sets a Transfer-Encoding",
    change: add(["Transfer-Encoding", "chunked"]),
    ways: [native("the response has a Transfer-Encoding")],
  },
  {
    name: "sets another status",
    change: ({ body, headers }) => new Response(body, { status: 404, headers }),
    ways: [native(NOT_THE_FILES)],
    status: 404,
  },
  {
    name: "sets another status that has a file",
    change: ({ body, headers }) => new Response(body, { status: 206, headers }),
    ways: [SENDFILE],
    status: 206,
  },
  {
    name: "deletes Accept-Ranges",
    change(response) {
      response.headers.delete("accept-ranges");
      return response;
    },
    ways: [],
  },
  {
    name: "lets the body pass through a transform",
    change: ({ body, status, headers }) =>
      new Response(body!.pipeThrough(new TransformStream()), { status, headers }),
    ways: [],
  },
  {
    name: "puts another body in its place",
    change: async (response) => {
      const { status, headers } = response;
      await response.body!.cancel();
      return new Response(OTHER, { status, headers });
    },
    ways: [],
    body: OTHER,
  },
  {
    name: "clones the response and gives the clone",
    change(response) {
      const clone = response.clone();
      response.body!.cancel();
      return clone;
    },
    ways: [],
  },
  {
    name: "clones the response and gives the response",
    change(response) {
      response.clone().body!.cancel();
      return response;
    },
    ways: [],
  },
  {
    name: "reads the body and gives what it read",
    change: async (response) => new Response(await response.arrayBuffer(), response),
    ways: [],
  },
];

for (const { name, change, ways, head = [], status = 200, body = LARGE } of MIDDLEWARE) {
  const how = ways.length > 0 && ways[0].via === "sendfile" ? "goes by sendfile" : "is the server's";
  test(`a file behind middleware that ${name} ${how}`, () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/"));
      const reply = await client.reply();
      const sent = ways[0]?.via === "sendfile";
      assertEquals([reply.status, reply.headers.connection], [status, sent ? "close" : undefined]);
      if (sent) assertEquals((await client.rest()).length, 0);
      client.close();
      const text = reply.head.toLowerCase();
      for (const line of head) assertStringIncludes(text, `\r\n${line}`);
      assertSame(reply.body, body, "the body");
      assertEquals(place.ways, ways as BodyWay[]);
      assertEquals(place.moved() > 0, sent);
    }, {
      handler: (place) => async (request) => await change(await serveFile(request, place.path("large.bin"))),
    }), DENO);
}

test("a HEAD that is answered with the response of a GET gets only the head", () =>
  serving(async (place) => {
    const { status, headers } = await only(
      place.port,
      request("/", { method: "HEAD", fields: "Connection: close\r\n" }),
      true,
    );
    assertEquals([status, headers["content-length"]], [200, `${LARGE.length}`]);
    await until(() => place.completed.length > 0, "the request to be over");
    await until(() => openBelow(place.root).length === 0, "the file to be closed");
    assertEquals(place.moved(), 0);
  }, {
    handler: (place) => () => serveFile(new Request("http://localhost/"), place.path("large.bin")),
  }), DENO);

// Files that change

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
    client.socket.resume();
    assertSame((await client.reply()).body, HUGE, "the file");
    assertEquals((await client.rest()).length, 0);
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

// Options

test("invalid options are refused at once", () => {
  const handler = () => new Response();
  // deno-lint-ignore no-explicit-any -- what JavaScript may hand in
  const wrap = withSendfile as any;
  for (const wrong of [undefined, null, {}, "handler"]) assertThrows(() => wrap(wrong), TypeError);
  for (const threshold of ["1", null, {}, 1n]) assertThrows(() => wrap(handler, { threshold }), TypeError);
  for (const threshold of [-1, NaN, -Infinity]) assertThrows(() => wrap(handler, { threshold }), RangeError);
  for (const threshold of [0, 0.5, Infinity, undefined]) {
    assertEquals(typeof wrap(handler, { threshold }), "function");
  }
});

test("an onBody that is not a function is refused at once", () => {
  // deno-lint-ignore no-explicit-any -- what JavaScript may hand in
  const wrap = withSendfile as any;
  for (const onBody of ["x", 1, {}]) assertThrows(() => wrap(() => new Response(), { onBody }), TypeError);
});

test("an infinite threshold leaves all to the server", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    client.send(request("/large.bin"));
    assertSame((await client.reply()).body, LARGE, "the file");
    client.close();
    assertEquals(place.ways, [native(BELOW)]);
  }, { threshold: Infinity }), DENO);

for (const path of ["/middle.bin", "/large.bin"]) {
  test(`an onBody that throws corrupts nothing (${path})`, () =>
    serving(async (place) => {
      const wire = await Transport.to({ port: place.port, host: "127.0.0.1" });
      wire.send(request(path, { fields: "Connection: close\r\n" }));
      const [head, body] = await wire.all();
      const content = fs.readFileSync(place.path(path.slice(1)));
      if (head.startsWith("HTTP/1.1 200")) {
        assertStringIncludes(head.toLowerCase(), `\r\ncontent-length: ${content.length}\r\n`);
        assert(body.length < content.length, "all came");
        assertSame(body, content.subarray(0, body.length), "what came");
      } else assertEquals(String(body), "failed");
      wire.close();
      await until(() => place.errors.length > 0, "the server to be told");
    }, {
      errors: /^Error: not today$/,
      onBody() {
        throw new Error("not today");
      },
    }), DENO);
}

// In a process of its own

/** A server in a child process, which prints its address and each way. */
class Child {
  readonly child: ChildProcess;
  output = "";
  ended = false;

  constructor([command, ...args]: string[], env: Record<string, string> = {}) {
    this.child = spawn(command, args, {
      cwd: tmpdir(), // here Deno would find tasks
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (chunk) => this.output += chunk);
    }
    this.child.once("close", () => this.ended = true);
  }

  async port(): Promise<number> {
    const found = await until(
      () => /127\.0\.0\.1:(\d+)/.exec(this.output) ?? (this.ended && "ended"),
      `the port: ${this.output}`,
    );
    assert(found !== "ended", this.output);
    return Number(found[1]);
  }

  /** What was printed of the ways, once it is so many. */
  ways(count: number): Promise<BodyWay[]> {
    const lines = () =>
      this.output.split(/\r?\n/).flatMap((line) =>
        /^(?:\[serve-worker-\d+ *\] )?(\{.*\})$/.exec(line)?.[1] ?? []
      );
    return until(
      () => lines().length >= count && lines().map((line) => JSON.parse(line)),
      `${count} ways: ${this.output}`,
    );
  }

  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await until(() => this.ended, "the child to end");
  }
}

/** Writes the server into a folder of its own, so that neither tasks nor links of this package are in its way. */
function script(root: string, start: string): string {
  const url = (path: string) => new URL(path, import.meta.url).href;
  const imports = { "@std/path": url("../../std/path/mod.ts"), "mime-types": "npm:mime-types@^3.0.2" };
  const config = { imports, nodeModulesDir: "none", lock: false };
  fs.mkdirSync(join(root, ".server"));
  fs.writeFileSync(join(root, ".server/deno.json"), JSON.stringify(config));
  const path = join(root, ".server/server.ts");
  fs.writeFileSync(
    path,
    `import { serveDir, withSendfile } from ${JSON.stringify(url("../../../http/mod.ts"))};
    const handler = withSendfile((request) => {
      if (request.url.endsWith("/exit")) Deno.exit();
      return serveDir(request, { fsRoot: ${JSON.stringify(root)}, quiet: true });
    }, { onBody: (way) => console.log(JSON.stringify(way)) });
    ${start}`,
  );
  return path;
}

const LISTEN = `Deno.serve({ hostname: "127.0.0.1", port: 0 }, handler);`;

/** A command of Deno's on a script. */
function deno(subcommand: "run" | "serve", flags: string[], path: string): string[] {
  return [
    "env",
    process.execPath,
    subcommand,
    "--no-check",
    "--config",
    join(path, "../deno.json"),
    ...flags,
    path,
  ];
}

/** Starts a server of a folder with files, in a child, and stops it. */
async function inChild(
  body: (port: number, child: Child) => Promise<void>,
  command: (root: string) => string[],
  env: Record<string, string> = {},
): Promise<void> {
  await withFiles(async (root) => {
    const child = new Child(command(root), env);
    try {
      await body(await child.port(), child);
    } finally {
      await child.stop();
    }
  });
}

/** One large file from a child; which way it went. */
async function wayOf(port: number, child: Child): Promise<BodyWay> {
  const client = await Client.to(port);
  client.send(request("/large.bin"));
  assertSame((await client.reply()).body, LARGE, "the file");
  client.close();
  const ways = await child.ways(1);
  assertEquals(ways.length, 1);
  return ways[0];
}

const LESS = ["--allow-net", "--allow-read"];

for (const permissions of [LESS, [...LESS, "--deny-ffi"]]) {
  const said = permissions.includes("--deny-ffi") ? "with --deny-ffi" : "without --allow-ffi";
  test(`${said} the server sends the file, and the reason is told`, () =>
    inChild(async (port, child) => {
      const { via, reason } = await wayOf(port, child);
      assertEquals(via, "native");
      assertStringIncludes(reason!, "--allow-ffi");
    }, (root) => deno("run", ["--no-prompt", ...permissions], script(root, LISTEN))), DENO);
}

test("without --allow-ffi, at a terminal, nothing is asked", () =>
  inChild(async (port, child) => {
    assertEquals((await wayOf(port, child)).via, "native");
    const client = await Client.to(port);
    client.send(request("/exit"));
    await client.rest();
    client.close();
    await until(() => child.ended, "the child to end");
    assert(!child.output.includes("requests"), child.output);
  }, (root) => ["script", "-qec", deno("run", LESS, script(root, LISTEN)).join(" "), "/dev/null"]), {
  ...DENO,
  skip: missing("script"),
});

test(
  "with no more permission than for the net, files and FFI it goes by sendfile",
  () =>
    inChild(async (port, child) => {
      assertEquals(await wayOf(port, child), SENDFILE);
    }, (root) => deno("run", ["--no-prompt", ...LESS, "--allow-ffi"], script(root, LISTEN))),
  DENO,
);

test("ZEROCOPY_SENDFILE=0 leaves all to the server", () =>
  inChild(
    async (port, child) => {
      const { via, reason } = await wayOf(port, child);
      assertEquals(via, "native");
      assertStringIncludes(reason!, "ZEROCOPY_SENDFILE=0");
    },
    (root) => deno("run", ["-A"], script(root, LISTEN)),
    { ZEROCOPY_SENDFILE: "0" },
  ), DENO);

for (const flags of [[], ["--parallel"]]) {
  test(
    `deno serve ${flags}${flags.length > 0 ? " " : ""}sends files of its default export by sendfile`,
    () =>
      inChild(async (port, child) => {
        assertEquals(await wayOf(port, child), SENDFILE);
        for (let i = 0; i < 10; i++) {
          assertSame((await only(port, request("/large.bin"))).body, LARGE, "another");
        }
        assertEquals(await child.ways(11), Array(11).fill(SENDFILE));
      }, (root) => {
        const path = script(root, "export default { fetch: handler };");
        return deno("serve", ["-A", ...flags, "--host", "127.0.0.1", "--port", "0"], path);
      }),
    DENO,
  );
}

test(
  "strace: everything except the beginning is sent by sendfile(2) and never read",
  () =>
    withFiles(async (root) => {
      const trace = join(root, "trace");
      const calls = "trace=sendfile,openat,close,read,pread64,readv,preadv,preadv2,mmap";
      const strace = ["strace", "-D", "-f", "-s", "0", "-e", calls, "-o", trace];
      const child = new Child([...strace, ...deno("run", ["-A"], script(root, LISTEN))]);
      try {
        assertEquals(await wayOf(await child.port(), child), SENDFILE);
      } finally {
        await child.stop();
      }
      // The tracer, which is nobody's child, writes on for a moment.
      const text = await until(() => {
        const text = fs.readFileSync(trace, "utf8");
        const main = /^\d+/.exec(text)?.[0]; // the others are its threads
        return new RegExp(`^${main} +\\+\\+\\+ (killed|exited)`, "m").test(text) && text;
      }, "the end of the trace");
      const lines = joined(text);
      const files = new Set<string>();
      const sent: { out: string; from: number; count: number }[] = [];
      let read = 0;
      for (const line of lines) {
        const result = Number(/ = (-?\d+)/.exec(line)?.[1]);
        const [, name, fd] = /^\d+ +(\w+)\((\d*)/.exec(line) ?? [];
        if (name === "openat" && line.includes(join(root, "large.bin"))) files.add(String(result));
        else if (name === "close") files.delete(fd);
        // One byte tells whether a page is in memory.
        else if (line.includes("RWF_NOWAIT")) assert(result <= 1, line);
        else if (/^p?read/.test(name) && files.has(fd)) read += result;
        const call = /sendfile\((\d+), (\d+), \[(\d+)\]/.exec(line) ??
          /sendfile\((\d+), (\d+), \[(\d+) => \d+\]/.exec(line);
        if (call && result > 0) {
          assert(files.has(call[2]), line);
          sent.push({ out: call[1], from: Number(call[3]), count: result });
        }
        assert(name !== "mmap" || !new RegExp(`, (${[...files].join("|") || "none"}), 0`).test(line), line);
      }
      const first = sent[0].from;
      assert(first >= 1 && first <= FIRST, `${first} bytes by the server`);
      assertEquals(read, first);
      assertEquals(new Set(sent.map(({ out }) => out)).size, 1);
      let at = first;
      for (const { from, count } of sent) {
        assertEquals(from, at);
        at += count;
      }
      assertEquals(at, LARGE.length);
    }),
  { ...DENO, skip: missing("strace") },
);

/**
 * The lines of a trace, those that were interrupted by another thread's in one piece, where they ended. A `close()`
 * stands where it began: before it has ended, another thread may have got the number from `open()`.
 */
function joined(text: string): string[] {
  const open = new Map<string, string>();
  return text.split("\n").flatMap((line) => {
    const [, thread, call] = /^(\d+) +(\w+)?/.exec(line) ?? [];
    if (line.endsWith("<unfinished ...>")) {
      const begun = line.slice(0, -"<unfinished ...>".length);
      if (call === "close") return [begun];
      open.set(thread, begun);
      return [];
    }
    const resumed = /<\.\.\. (\w+) resumed>(.*)$/.exec(line);
    if (resumed?.[1] === "close") return [];
    return [resumed ? (open.get(thread) ?? "") + resumed[2] : line];
  });
}

// Hono

function hono(set: (app: Hono, place: Place) => void): Setup {
  return {
    handler(place) {
      const app = new Hono();
      set(app, place);
      app.get("/*", (c) => serveDir(c.req.raw, { fsRoot: place.root, quiet: true }));
      return (request, info) => app.fetch(request, info);
    },
  };
}

test("Hono: middleware that adds fields leaves a file to sendfile", () =>
  serving(
    async (place) => {
      const { headers, body } = await only(place.port, request("/large.bin"));
      assertEquals([headers["x-frame-options"], headers["x-own"]], ["SAMEORIGIN", "yes"]);
      assertSame(body, LARGE, "the file");
      assertMoved(place, LARGE.length);
    },
    hono((app) => {
      app.use(secureHeaders());
      app.use(async (c, next) => {
        await next();
        c.header("X-Own", "yes");
      });
    }),
  ), DENO);

test("Hono: a HEAD gets a head, and the connection is kept", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    for (let i = 0; i < 2; i++) {
      client.send(request("/large.bin", { method: "HEAD" }));
      const { headers } = await client.reply({ bodiless: true });
      assertEquals([headers.connection, headers["content-length"]], [undefined, `${LARGE.length}`]);
    }
    client.close();
    assertEquals(place.ways, []);
  }, hono(() => {})), DENO);

test(
  "Hono: a compressing middleware's bytes are sent, and other files go by sendfile",
  () =>
    serving(async (place) => {
      const fields = "Accept-Encoding: gzip\r\n";
      const client = await Client.to(place.port);
      client.send(request("/text.txt", { fields }));
      const { headers, body } = await client.reply();
      assertEquals(headers["content-encoding"], "gzip");
      assertSame(gunzipSync(body), TEXT, "the text");
      client.close();
      assertEquals(place.ways, []);
      assertSame((await only(place.port, request("/large.bin", { fields }))).body, LARGE, "the file");
      assertMoved(place, LARGE.length);
    }, hono((app) => app.use(compress()))),
  DENO,
);

test("Hono: another body in the place of a file's is sent", () =>
  serving(
    async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/large.bin"));
      assertSame((await client.reply()).body, OTHER, "the other");
      client.close();
      assertEquals(place.ways, []);
    },
    hono((app) =>
      app.use(async (c, next) => {
        await next();
        const { body, status, headers } = c.res;
        await body!.cancel();
        c.res = new Response(OTHER, { status, headers });
      })
    ),
  ), DENO);
