/** Who stays where connections or descriptors run out. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as net from "node:net";
import { findConnection, parseConnection } from "../../ffi/find.ts";
import { libc } from "../../ffi/load.ts";
import { planDirectory } from "../../http/directory.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import type { ConnectionLimitOptions } from "../../server/connection_limits.ts";
import { FileServer } from "../../server/server.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { MIB, missing, noProc, type Server, serving, Site, until } from "../support/site.ts";

/** With a client's buffer of {@link RECEIVE} more than the sockets hold. */
const LARGE = "/large.bin";
const LARGE_SIZE = 16 * MIB;

/** asm-generic/socket.h */
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;

/** Bytes. Megabytes for each of dozens of clients are pruned by the kernel, and sent again up to 20 s later. */
const RECEIVE = 64 * 1024;

/** One line for the log. */
const AT_LIMIT = /^at the limit of [^\n]*: idle connections are closed; [^\n]*\n$/;

const noLibc = typeof libc() === "string" ? String(libc()) : undefined;

interface Limited {
  readonly port: number;
  readonly site: Site;
  readonly warnings: string[];
}

async function limited(
  options: ConnectionLimitOptions,
  body: (server: Limited) => Promise<void>,
): Promise<void> {
  const site = new Site();
  prepare(site);
  const resolved = resolveDirectoryOptions({});
  const warnings: string[] = [];
  const errors: unknown[] = [];
  const server = new FileServer({
    ...options,
    resolved,
    plan: (request) => planDirectory(request, resolved, site.root, parseTarget(request.target)),
    onError: (error) => errors.push(error),
    onWarning: (line) => warnings.push(line),
  });
  try {
    await body({ port: server.listen({ host: "127.0.0.1", port: 0, shared: false }), site, warnings });
    assertEquals(errors, []);
  } finally {
    server.close();
    fs.rmSync(site.base, { recursive: true });
  }
}

function prepare(site: Site): void {
  site.add(LARGE.slice(1), randomBytes(LARGE_SIZE));
}

/** A connection on which one request was answered. */
async function idle(port: number): Promise<Client> {
  const client = await Client.to(port);
  client.send(request("/1.bin"));
  assertEquals((await client.reply()).status, 200);
  return client;
}

/** A client with a small buffer. */
async function smallClient(port: number): Promise<Client> {
  const client = await Client.to(port);
  const c = libc();
  if (typeof c === "string") throw new Error(c);
  const { localAddress, localPort, remoteAddress, remotePort } = client.socket;
  const local = { hostname: localAddress!, port: localPort! };
  const connection = parseConnection(c, local, { hostname: remoteAddress!, port: remotePort! });
  c.setOption(findConnection(c, connection!)!, SOL_SOCKET, SO_RCVBUF, RECEIVE);
  return client;
}

/** A client that has got the first bytes of a large file, and takes no more. */
async function stalled(port: number): Promise<Client> {
  const client = await smallClient(port);
  client.send(request(LARGE));
  await client.begun();
  return client;
}

/** All of what `stalled` has asked for. */
async function assertWhole(client: Client, site: Site): Promise<void> {
  client.socket.resume();
  const { status, body } = await client.reply();
  assertEquals(status, 200);
  assertSame(body, site.files.get(LARGE)!, "the stalled download");
}

/** The first and the last of many: all of them would be half a gigabyte. */
async function assertSomeWhole(clients: Client[], site: Site): Promise<void> {
  const some = [...clients.slice(0, 3), ...clients.slice(-3)];
  await Promise.all(some.map((client) => assertWhole(client, site)));
}

function close(clients: Iterable<Client>): void {
  for (const client of clients) client.close();
}

test(
  "FileServer closes the connection that is idle for longest where maxConnections is reached",
  () =>
    limited({ maxConnections: 3 }, async ({ port, site, warnings }) => {
      const busy = await stalled(port);
      const first = await idle(port);
      const second = await idle(port);
      first.send(request("/1.bin")); // from here on the second has waited longer
      assertEquals((await first.reply()).status, 200);
      const third = await idle(port);
      assertEquals((await second.rest()).length, 0);
      first.send(request("/1.bin"));
      assertSame((await first.reply()).body, site.files.get("/1.bin")!, "the first one's");
      await assertWhole(busy, site);
      assertEquals(warnings.length, 1);
      assert(/^at the limit of 3 connections: /.test(warnings[0]), warnings[0]);
      close([busy, first, second, third]);
    }),
  { skip: noLibc },
);

test(
  "FileServer answers 503 where all of maxConnections are at work, and goes on when one is done",
  () =>
    limited({ maxConnections: 2 }, async ({ port, site, warnings }) => {
      const busy = [await stalled(port), await stalled(port)];
      for (let i = 0; i < 20; i++) {
        const { status, headers } = await ask(port, "/1.bin");
        assertEquals([status, headers.connection], [503, "close"]);
      }
      const waiting = await Client.to(port);
      await assertWhole(busy[0], site);
      waiting.send(request("/1.bin")); // the first one is idle by now and makes room
      assertSame((await waiting.reply()).body, site.files.get("/1.bin")!, "the one that waited");
      assertEquals((await busy[0].rest()).length, 0);
      await assertWhole(busy[1], site);
      assertEquals(warnings.length, 1);
      close([...busy, waiting]);
    }),
  { skip: noLibc },
);

test(
  "FileServer closes who connects above the limit and asks for nothing",
  () =>
    limited({ maxConnections: 1 }, async ({ port, site }) => {
      const busy = await stalled(port);
      const began = performance.now();
      const silent = await Promise.all(Array.from({ length: 20 }, () => Client.to(port)));
      await Promise.all(silent.map((client) => client.rest()));
      assert(performance.now() - began < 20_000);
      await assertWhole(busy, site);
      close([busy, ...silent]);
    }),
  { skip: noLibc },
);

test(
  "FileServer closes who has begun a request and sends no more of it, behind those that are idle",
  () =>
    limited({ maxConnections: 2 }, async ({ port, site }) => {
      const slow = await Client.to(port);
      slow.send("GET /1.bin HTTP/1.1\r\nHos");
      const waiting = await idle(port);
      const other = await idle(port);
      assertEquals((await waiting.rest()).length, 0);
      slow.send("t: test\r\n\r\n");
      assertSame((await slow.reply()).body, site.files.get("/1.bin")!, "the slow one's");
      other.send(request(LARGE));
      await other.begun();
      slow.send("GET /1.bin HTTP/1.1\r\nHos");
      await until(async () => (await ask(port, "/1.bin")).status === 200, "the slow one to be given up");
      assertEquals((await slow.rest()).length, 0);
      await assertWhole(other, site);
      close([slow, waiting, other]);
    }),
  { skip: noLibc },
);

/** A client of another address of this machine. */
function from(address: string, port: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: "127.0.0.1", localAddress: address });
    socket.once("connect", () => resolve(socket)).once("error", reject);
  });
}

function firstLine(socket: net.Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    socket.once("data", (bytes: Buffer) => resolve(bytes.toString("latin1").split("\r\n")[0]));
    socket.once("close", () => reject(new Error("closed")));
    socket.write(request("/1.bin"));
  });
}

test(
  "FileServer limits the connections of one address, and of no other",
  () =>
    limited({ maxConnectionsPerAddress: 2 }, async ({ port, site, warnings }) => {
      const busy = [await stalled(port), await stalled(port)];
      assertEquals((await ask(port, "/1.bin")).status, 503);
      const others = [await from("127.0.0.2", port), await from("127.0.0.2", port)];
      for (const other of others) assertEquals(await firstLine(other), "HTTP/1.1 200 OK");
      for (const client of busy) await assertWhole(client, site); // one after the other becomes idle
      const next = await idle(port);
      assertEquals((await busy[0].rest()).length, 0); // the first to have become idle
      assertEquals(await firstLine(others[0]), "HTTP/1.1 200 OK");
      assertEquals(warnings.map((line) => line.split(":")[0]), [
        "at the limit of 2 connections of 127.0.0.1",
      ]);
      for (const other of others) other.destroy();
      close([...busy, next]);
    }),
  { skip: noLibc },
);

test("FileServer takes no limit that is none", () => {
  const site = { resolved: resolveDirectoryOptions({}), plan: () => undefined as never, onError() {} };
  for (const value of [0, -1, 1.5, NaN, Infinity, 2 ** 53]) {
    for (const name of ["maxConnections", "maxConnectionsPerAddress"]) {
      assertThrows(() => new FileServer({ ...site, [name]: value }), RangeError, name);
    }
  }
});

/** A real limit of descriptors. */
const ULIMIT = 96;
const SMALL = {
  before: ["sh", "-c", `ulimit -n ${ULIMIT}; exec "$@"`, "sh"],
  errors: AT_LIMIT,
  prepare,
};

/** Milliseconds of CPU time that a process has taken. /proc counts hundredths of a second. */
function cpu({ child }: Server): number {
  const stat = fs.readFileSync(`/proc/${child.pid}/stat`, "latin1");
  const [user, system] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13);
  return (Number(user) + Number(system)) * 10;
}

/** Asserts that a process rests: Bun took 700 to 1000 ms of a second where accept failed with EMFILE. */
async function assertRests(server: Server): Promise<void> {
  const before = cpu(server);
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const share = (cpu(server) - before) / (performance.now() - began);
  assert(share < 0.3, `it took ${Math.round(share * 100)} % of a core`);
  assert(server.descriptors() <= ULIMIT);
}

test(
  "serve at the limit of descriptors closes idle connections first and completes what is under way",
  () =>
    serving(async (server, site) => {
      const { port } = server;
      const before = server.descriptors();
      const waiting = await Promise.all(Array.from({ length: 30 }, () => idle(port)));
      const busy: Client[] = [];
      for (let i = 0; i < 25; i++) busy.push(await stalled(port));
      // Idle ones have made room for the downloads, and now do for more of their kind.
      for (let i = 0; i < 100; i++) waiting.push(await Client.to(port));
      await assertRests(server);
      for (let i = 0; i < 20; i++) {
        assertSame((await ask(port, "/1.bin")).body, site.files.get("/1.bin")!, "the small file");
      }
      await assertSomeWhole(busy, site);
      close([...waiting, ...busy]);
      await until(() => server.descriptors() <= before + 6, "its descriptors to be as before"); // a poller's
    }, SMALL),
  { skip: noLibc ?? noProc ?? missing("sh") },
);

test(
  "serve at the limit of descriptors answers 503 where nothing is idle, and rests",
  () =>
    serving(async (server, site) => {
      const { port } = server;
      const busy: Client[] = [];
      const clients: Client[] = [];
      let refused = 0;
      while (refused < 20) {
        const client = await smallClient(port);
        clients.push(client);
        client.send(request(LARGE));
        await client.begun();
        const head = client.seen();
        if (head.startsWith("HTTP/1.1 200")) busy.push(client);
        else {
          assert(head.startsWith("HTTP/1.1 503"), head);
          refused++;
        }
      }
      assert(busy.length >= 25, `only ${busy.length} downloads at once`);
      for (let i = 0; i < 100; i++) clients.push(await Client.to(port)); // they ask for nothing
      await assertRests(server);
      assertEquals((await ask(port, "/1.bin")).status, 503);
      await assertSomeWhole(busy, site);
      assertSame((await ask(port, "/1.bin")).body, site.files.get("/1.bin")!, "afterwards");
      close(clients);
    }, SMALL),
  { skip: noLibc ?? noProc ?? missing("sh") },
);

test(
  "serve at the limit of descriptors goes on where the system does not count them, without FFI",
  () =>
    serving(async ({ port }, site) => {
      const waiting: Client[] = [];
      for (let i = 0; i < 120; i++) waiting.push(await Client.to(port));
      for (let i = 0; i < 10; i++) {
        assertSame((await ask(port, LARGE)).body, site.files.get(LARGE)!, "the large file");
      }
      close(waiting);
    }, {
      ...SMALL,
      before: ["env", "ZEROCOPY_SENDFILE=0", ...SMALL.before],
      // Deno does not tell its limit, so accept fails first; what Deno itself opens then may fail, too.
      errors: /^(a connection could not be accepted: EMFILE[^\n]*\n)?at the limit of [^\n]*\n/,
    }),
  { skip: noLibc ?? noProc ?? missing("sh") },
);

test("serve --max-connections", () =>
  serving(async (server, site) => {
    const busy = [await stalled(server.port), await stalled(server.port)];
    assertEquals((await ask(server.port, "/1.bin")).status, 503);
    await server.line(/ GET \/1.bin 503 24 - \(too many connections\)$/);
    await Promise.all(busy.map((client) => assertWhole(client, site)));
    assertEquals((await ask(server.port, "/1.bin")).status, 200);
    close(busy);
  }, { args: ["--max-connections", "2"], errors: AT_LIMIT, prepare }), { skip: noLibc });

test("serve --max-connections-per-address", () =>
  serving(async (server, site) => {
    const busy = [await stalled(server.port), await stalled(server.port)];
    assertEquals((await ask(server.port, "/1.bin")).status, 503);
    const other = await from("127.0.0.2", server.port);
    assertEquals(await firstLine(other), "HTTP/1.1 200 OK");
    await Promise.all(busy.map((client) => assertWhole(client, site)));
    other.destroy();
    close(busy);
  }, { args: ["--max-connections-per-address", "2"], errors: AT_LIMIT, prepare }), { skip: noLibc });
