/** What the static server says at its start and in its end, and `--open`. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { isBun, test } from "../support/harness.ts";
import { assertSame, Client, request } from "../support/http_client.ts";
import { MIB, Server, serving, until } from "../support/site.ts";

const LARGE = `/${20 * MIB}.bin`;

test("serve says its version, the runtime and what to press", () =>
  serving(async (server) => {
    const line = await server.line(/^sendfile /);
    const [, version] = /"version": "([^"]+)"/.exec(
      fs.readFileSync(new URL("../../deno.json", import.meta.url), "utf8"),
    )!;
    const runtime = isBun ? `Bun ${process.versions.bun}` : `Deno ${process.versions.deno}`;
    assertEquals(line, `sendfile ${version} on ${runtime}; press Ctrl-C to stop`);
  }));

for (const workers of ["1", "2"]) {
  test(`serve with --workers ${workers} says on Ctrl-C which responses it waits for`, () =>
    serving(async (server, site) => {
      const idle = await Client.to(server.port);
      idle.send(request("/1.bin"));
      await idle.reply();
      const busy = await Client.to(server.port);
      busy.send(request(`${LARGE}?%1b`));
      await busy.begun();
      process.kill(server.child.pid!, "SIGINT");
      await server.line(/^ {2}GET \/20971520\.bin\?%1b$/);
      assert(
        server.lines.includes(
          "Stopping: waits for one response, and ends at once on a second signal (Ctrl-C)",
        ),
        server.lines.join("\n"),
      );
      busy.socket.resume();
      assertSame((await busy.reply()).body, site.files.get(LARGE)!, "the body");
      assertEquals(await server.exit(), 0);
      idle.close();
    }, { args: ["--workers", workers] }));
}

test("serve says on Ctrl-C how many responses it waits for, and names five", () =>
  serving(async (server) => {
    const clients: Client[] = [];
    for (let i = 0; i < 7; i++) {
      const client = await Client.to(server.port);
      clients.push(client);
      client.send(request(`${LARGE}?${i}`));
      await client.begun();
    }
    process.kill(server.child.pid!, "SIGTERM");
    await server.line(/^ {2}and 2 more$/);
    assertEquals(server.lines.filter((line) => /^ {2}GET/.test(line)).length, 5);
    await server.line(/^Stopping: waits for 7 responses, /);
    process.kill(server.child.pid!, "SIGTERM");
    assertEquals(await server.exit(), 143);
    clients.forEach((client) => client.close());
  }));

test("serve ends without a word where it waits for nothing", () =>
  serving(async (server) => {
    const client = await Client.to(server.port);
    client.send(request("/1.bin"));
    await client.reply();
    process.kill(server.child.pid!, "SIGINT");
    assertEquals(await server.exit(), 0);
    assertEquals(server.lines.filter((line) => line.includes("Stopping")), []);
    client.close();
  }));

/** A directory with an `xdg-open` that writes what it is given to `opened`, if `works`. */
async function withOpener(
  works: boolean,
  body: (path: string, opened: string) => Promise<void>,
): Promise<void> {
  const directory = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "open-")));
  try {
    const opened = join(directory, "opened");
    if (works) {
      fs.writeFileSync(
        join(directory, "xdg-open"),
        `#!/bin/sh\necho "$@" >"${opened}.tmp"\nmv "${opened}.tmp" "${opened}"\n`,
      );
      fs.chmodSync(join(directory, "xdg-open"), 0o755);
    }
    await body(directory, opened);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

const notLinux = process.platform === "linux" ? undefined : "another command opens URLs";

test(
  "serve --open opens its address in a browser",
  () =>
    withOpener(true, (directory, opened) =>
      serving(async (server) => {
        await until(() => fs.existsSync(opened), "the browser");
        assertEquals(fs.readFileSync(opened, "utf8"), `http://127.0.0.1:${server.port}/\n`);
      }, { args: ["--open"], env: { PATH: `${directory}:${process.env.PATH}` } })),
  { skip: notLinux },
);

test(
  "serve --open goes on where there is no browser, and says so",
  () =>
    withOpener(false, (directory) =>
      serving(async (server) => {
        await until(() => server.errors.includes("\n"), "the reason");
        const client = await Client.to(server.port);
        client.send(request("/1.bin"));
        assertEquals((await client.reply()).status, 200);
        client.close();
      }, { args: ["--open"], env: { PATH: directory }, errors: /^cannot open a browser: .*\n$/ })),
  { skip: notLinux },
);

test("serve --open says which permission it needs, and asks nobody", async () => {
  const server = new Server({
    args: ["--open", "-p", "0", "--host", "127.0.0.1", import.meta.dirname!],
    permissions: ["--allow-net", "--allow-read"],
  });
  try {
    await until(() => server.errors.includes("\n"), "the reason");
    assertEquals(server.errors, "cannot open a browser: that needs --allow-run=xdg-open\n");
  } finally {
    await server.stop();
  }
}, { only: "deno", skip: notLinux });
