/** Connection on a transport of the test's own: how its input may be split, and how long it waits for what. */
import { assert, assertEquals } from "@std/assert";
import type { ResponsePlan } from "../../http/file_response.ts";
import { Connection } from "../../server/connection.ts";
import { test } from "../support/harness.ts";
import { Client, request } from "../support/http_client.ts";
import { until } from "../support/site.ts";
import { alone, type FakeTransport, passSeconds } from "./fake_transport.ts";
import { answerLarge, headOf, listen, PIPELINE, Place, SMUGGLED, sockets, turn } from "./serving.ts";

/** Responses without the fields that differ from run to run. */
function withoutDates(output: string): string {
  return output.replace(/^Date: .*\r\n/gm, "").replace(/^(ETag|Last-Modified): .*\r\n/gm, "");
}

/** What the connection sends for requests that arrive in these pieces. */
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

/** That the connection closes after so many seconds, or three later at the most. */
async function assertWaits(transport: FakeTransport, connection: Connection, seconds: number): Promise<void> {
  await passSeconds(connection, seconds);
  assert(!transport.closed, `closed before ${seconds} seconds`);
  await passSeconds(connection, 3);
  assert(transport.closed, `not closed after ${seconds + 3} seconds`);
}

test("a connection waits 75 seconds for a request, anew behind each", () =>
  alone(async (transport, connection) => {
    for (let i = 1; i <= 3; i++) {
      await passSeconds(connection, 70);
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
    await passSeconds(connection, 1);
    for (let i = 0; i < 59; i++) {
      transport.push("X");
      await turn();
      await passSeconds(connection, 1);
      assert(!transport.closed, `closed after ${i} seconds`);
    }
    await passSeconds(connection, 3);
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
      await passSeconds(connection, 115);
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
    await passSeconds(connection, 1000);
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
    await passSeconds(connection, 1000);
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
    await passSeconds(connection, 2);
    assert(!transport.closed);
    transport.push(SMUGGLED);
    await turn();
    await passSeconds(connection, 2);
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
      await passSeconds(connection, 1); // each step that some bytes leave in between starts the wait anew
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
