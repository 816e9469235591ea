/** Clients that leave, files that change while they are sent, and a process out of descriptors. */
import { assert, assertEquals } from "@std/assert";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { LARGE, MIB, noProc, type Server, serving, until } from "../support/site.ts";

test(
  "serve survives clients that leave in the middle, and keeps no descriptor",
  () =>
    serving(async (server, site) => {
      // The server opens some descriptors once and keeps them: these must be open before the count.
      for (let i = 0; i < 3; i++) await ask(server.port, LARGE);
      const before = await settled(server);
      const clients = await Promise.all(Array.from({ length: 20 }, () => Client.to(server.port)));
      await Promise.all(clients.map((client, i) => {
        // Every other client has pipelined more requests, which are never answered.
        client.send(request(LARGE).repeat(i % 2 === 0 ? 1 : 5));
        return client.begun();
      }));
      clients.forEach(({ socket }, i) => i % 3 === 0 ? socket.resetAndDestroy() : socket.destroy());
      await until(() => server.descriptors() <= before, `${before} descriptors, not ${server.descriptors()}`);
      assertSame((await ask(server.port, LARGE)).body, site.files.get(LARGE)!, "afterwards");
      await server.line(/ GET \/20971520.bin 200 \d+ sendfile \(the client left\)$/);
    }),
  { skip: noProc },
);

test(
  "serve takes connections again after a time with too many open files",
  () =>
    serving(async (server, site) => {
      const clients = await Promise.all(Array.from({ length: 80 }, () => Client.to(server.port)));
      await until(() => server.errors.includes("at the limit of descriptors"), "the limit");
      clients.forEach((client) => client.close());
      assertSame((await ask(server.port, "/1.bin")).body, site.files.get("/1.bin")!, "afterwards");
    }, {
      before: ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"],
      errors: /^at the limit of [^\n]*\n$/,
    }),
  { skip: noProc },
);

/** The count of descriptors, once no connection is left. */
function settled(server: Server): Promise<number> {
  const sockets = () => {
    const directory = `/proc/${server.child.pid}/net/tcp`;
    const port = server.port.toString(16).toUpperCase().padStart(4, "0");
    return fs.readFileSync(directory, "latin1").split("\n").filter((line) =>
      new RegExp(`^ *\\d+: \\w+:${port} \\w+:\\w+ 0[18]`).test(line)
    ).length;
  };
  return until(() => sockets() === 0 && server.descriptors(), "the connections to be closed");
}

test(
  "serve ends the connection if a file is truncated during the transfer",
  () =>
    serving(async (server, site) => {
      const client = await Client.to(server.port);
      client.send(request(LARGE), request("/1.bin"));
      await client.begun();
      fs.truncateSync(site.path(`${20 * MIB}.bin`), 0);
      client.socket.resume();
      const all = await client.rest();
      const body = all.subarray(all.indexOf("\r\n\r\n") + 4);
      assert(body.length < 20 * MIB);
      assertSame(body, site.files.get(LARGE)!.subarray(0, body.length), "what came");
      assertEquals((await ask(server.port, "/1.bin")).status, 200);
      await server.line(/ GET \/20971520.bin 200 \d+ sendfile \(the file became shorter\)$/);
    }),
);

test("serve sends no more than Content-Length if a file grows during the transfer", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    client.send(request(LARGE, { fields: "Connection: close\r\n" }));
    await client.begun();
    fs.appendFileSync(site.path(`${20 * MIB}.bin`), randomBytes(MIB));
    client.socket.resume();
    assertSame((await client.reply()).body, site.files.get(LARGE)!, "the body");
    assertEquals((await client.rest()).length, 0);
  }));
