/** Clients that reset, and clients that read late: the server lets go of everything, and sends everything. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { openBelow } from "../support/data.ts";
import { assertSame, request } from "../support/http_client.ts";
import { until } from "../support/site.ts";
import { answerLarge, LARGE, largeContent, serving, sockets, soon } from "./serving.ts";

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
