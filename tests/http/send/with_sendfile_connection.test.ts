/** withSendfile: which connection a body goes to, and on which it is left to the server. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import * as net from "node:net";
import * as tls from "node:tls";
import { findPeer } from "../../../ffi/find.ts";
import { replaceLibc } from "../../../ffi/load.ts";
import { type BodyWay, serveFile, withSendfile } from "../../../http/mod.ts";
import { faulty } from "../../support/faults.ts";
import { isBun, test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { until } from "../../support/site.ts";
import {
  assertMoved,
  DENO,
  HUGE,
  LARGE,
  LATE,
  native,
  OTHER,
  SENDFILE,
  serving,
  SEVERAL,
  SMALL,
  sockets,
  Transport,
  withFiles,
} from "../../support/with_sendfile.ts";

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
