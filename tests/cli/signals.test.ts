/** SIGINT and SIGTERM: what is in flight is finished, the second one ends all at once. */
import { assertEquals } from "@std/assert";
import process from "node:process";
import { test } from "../support/harness.ts";
import { assertSame, Client, request } from "../support/http_client.ts";
import { LARGE, refusesConnections, serving, until } from "../support/site.ts";

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  for (const workers of [1, 2]) {
    const who = workers === 1 ? "" : " with workers";
    test(`serve${who} finishes what is in flight on ${signal}, and takes nothing new`, () =>
      serving(async (server, site) => {
        const [busy, idle] = await Promise.all([Client.to(server.port), Client.to(server.port)]);
        idle.send(request("/1.bin"));
        await idle.reply();
        busy.send(request(LARGE));
        await busy.begun();
        process.kill(server.child.pid!, signal); // Deno tells no exit code after child.kill
        await until(async () => await refusesConnections(server.port), "the listener to close");
        busy.socket.resume();
        assertSame((await busy.reply()).body, site.files.get(LARGE)!, "the body");
        assertEquals(await server.exit(), 0);
        await Promise.all([busy.rest(), idle.rest()]);
      }, { args: ["--workers", `${workers}`] }));

    test(`serve${who} ends at once on the second ${signal}`, () =>
      serving(async (server) => {
        const client = await Client.to(server.port);
        client.send(request(LARGE));
        await client.begun();
        process.kill(server.child.pid!, signal);
        await until(async () => await refusesConnections(server.port), "the listener to close");
        process.kill(server.child.pid!, signal);
        assertEquals(await server.exit(), signal === "SIGINT" ? 130 : 143);
        client.close();
      }, { args: ["--workers", `${workers}`] }));
  }
}

test("serve answers a request that comes after the signal, and then ends the connection", () =>
  serving(async (server, site) => {
    const client = await Client.to(server.port);
    client.send(request(LARGE));
    await client.begun();
    process.kill(server.child.pid!, "SIGTERM");
    await until(async () => await refusesConnections(server.port), "the listener to close");
    client.send(request("/1.bin"));
    client.socket.resume();
    assertSame((await client.reply()).body, site.files.get(LARGE)!, "the body");
    const last = await client.reply();
    assertSame(last.body, site.files.get("/1.bin")!, "the last");
    assertEquals(last.headers.connection, "close");
    assertEquals((await client.rest()).length, 0);
    assertEquals(await server.exit(), 0);
  }));
