/** FileServer.stop() finishes what is under way; close() ends everything at once. */
import { assert, assertEquals } from "@std/assert";
import { openBelow } from "../support/data.ts";
import { assertSame, Client, request } from "../support/http_client.ts";
import { until } from "../support/site.ts";
import { ending, largeContent, serving, SMUGGLED, sockets, soon, turn } from "./serving.ts";

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
  // Only the clients' own sockets are left.
  await until(() => sockets() < before + clients.length, "the sockets to be closed");
});
