/** The access log: its lines, as JSON, more of it and none. */
import { assert, assertEquals } from "@std/assert";
import process from "node:process";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { LARGE, MIB, serving } from "../support/site.ts";

test("serve logs how each body was sent, and clients cannot inject log lines", () =>
  serving(async (server) => {
    await ask(server.port, `${LARGE}?q=1`);
    await ask(server.port, "/0.bin");
    await ask(server.port, "/1.bin", { method: "HEAD" });
    await ask(server.port, "/missing%0aGET%1b");
    await server.line(/ GET \/missing/);
    const logged = server.lines.filter((line) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 127\.0\.0\.1 /.test(line));
    assertEquals(logged.map((line) => line.split(" ").slice(2).join(" ")), [
      `GET ${LARGE}?q=1 200 ${20 * MIB} sendfile`,
      "GET /0.bin 200 0 -",
      "HEAD /1.bin 200 0 -",
      "GET /missing%0aGET%1b 404 14 -",
    ]);
  }));

test("serve logs JSON, with a client's text as data", () =>
  serving(async (server) => {
    const fields = 'Range: bytes=0-9\r\nUser-Agent: "x\\\r\n';
    await ask(server.port, "/4096.bin?a=%22b", { fields });
    const line = JSON.parse(await server.line(/^{/));
    const { time, ms, ...rest } = line;
    assert(Number.isFinite(Date.parse(time)) && ms > 0);
    assertEquals(rest, {
      client: "127.0.0.1",
      method: "GET",
      target: "/4096.bin?a=%22b",
      status: 206,
      bytes: 10,
      way: "sendfile",
      range: "bytes=0-9",
      agent: '"x\\',
    });
  }, { args: ["--log", "json"] }));

test("serve logs more with -v, and nothing with --log none", async () => {
  await serving(async (server) => {
    await ask(server.port, "/1.bin", { fields: "User-Agent: me too\r\n" });
    await server.line(/ 127\.0\.0\.1 GET \/1\.bin 200 1 sendfile \d+\.\dms - "me too"$/);
  }, { args: ["-v"] });
  await serving(async (server) => {
    await ask(server.port, "/1.bin");
    process.kill(server.child.pid!, "SIGTERM");
    assertEquals(await server.exit(), 0);
    assertEquals(server.lines.filter((line) => line.includes(" GET ")), []);
  }, { args: ["--log", "none"] });
});
