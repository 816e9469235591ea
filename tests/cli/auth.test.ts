/** `--auth`: a name and a password for all that is served. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { Server, serving } from "../support/site.ts";

const AUTH = ["--auth", "jürgen:p:w ö"];

function basic(text: string): string {
  return `Authorization: Basic ${Buffer.from(text).toString("base64")}\r\n`;
}

const RIGHT = basic("jürgen:p:w ö");

const WRONG = [
  "",
  basic("jürgen:p:w o"),
  basic("jürgen:p:w ö "),
  basic("jürgen:p:w "),
  basic("jürgen:"),
  basic("Jürgen:p:w ö"),
  basic(":p:w ö"),
  basic(""),
  "Authorization: Basic\r\n",
  "Authorization: Basic ====\r\n",
  RIGHT.replace("Basic", "Bearer"),
  RIGHT.replace("Authorization", "Proxy-Authorization"),
  RIGHT + RIGHT,
];

test("serve --auth answers nothing without the right name and password", () =>
  serving(async ({ port }, site) => {
    for (const fields of WRONG) {
      for (const target of ["/1.bin", "/", "/missing", "/..%2f", "/dir/../1.bin"]) {
        const { status, headers, body } = await ask(port, target, { fields });
        assertEquals(status, 401, `${target} with ${fields}`);
        assertEquals(headers["www-authenticate"], 'Basic realm="files", charset="UTF-8"');
        assertEquals(String(body), "401 Unauthorized\n");
      }
    }
    for (const method of ["HEAD", "OPTIONS", "POST"]) {
      assertEquals((await ask(port, "/1.bin", { method })).status, 401, method);
    }
    for (const [target, content] of site.files) {
      const { status, body } = await ask(port, target, { fields: RIGHT });
      assertEquals(status, 200);
      assertSame(body, content, target);
    }
    assertEquals((await ask(port, "/1.bin", { fields: RIGHT.replace("Basic", "bAsIc ") })).status, 200);
    assertEquals((await ask(port, "/missing", { fields: RIGHT })).status, 404);
  }, { args: AUTH, prepare: (site) => site.add("404.html", "not for strangers") }));

test("serve --auth asks for each request of a connection", () =>
  serving(async ({ port }) => {
    const client = await Client.to(port);
    try {
      const statuses: number[] = [];
      client.send(
        request("/1.bin", { fields: RIGHT }),
        request("/1.bin"),
        request("/1.bin", { fields: RIGHT }),
      );
      for (let i = 0; i < 3; i++) statuses.push((await client.reply()).status);
      assertEquals(statuses, [200, 401, 200]);
    } finally {
      client.close();
    }
  }, { args: AUTH }));

test("serve --auth keeps what it sends out of shared caches", () =>
  serving(async ({ port }) => {
    const { headers } = await ask(port, "/1.bin", { fields: RIGHT });
    assertEquals(headers["cache-control"], "private, max-age=60");
    assertEquals((await ask(port, "/1.bin")).headers["cache-control"], undefined);
  }, { args: [...AUTH, "--max-age", "60"] }));

test("serve refuses --auth without a colon, and does not repeat it", async () => {
  const server = new Server({ args: ["--auth", "hunter2"] });
  try {
    assertEquals(await server.exit(), 2);
    assertEquals(server.errors, "error: --auth must be user:password\n");
  } finally {
    await server.stop();
  }
});

test("serve logs no password", () =>
  serving(async (server) => {
    await ask(server.port, "/1.bin", { fields: RIGHT });
    await server.line(/GET \/1\.bin 200/);
    assert(!server.lines.join("\n").includes("p:w"));
  }, { args: [...AUTH, "-v"] }));
