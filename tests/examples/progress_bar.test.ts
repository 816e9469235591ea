/** The example with a progress bar: what the bar says while a client takes its time. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { bytes, folder } from "../support/data.ts";
import { withExample } from "../support/example.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { until } from "../support/site.ts";

/** More than the sockets between two processes hold. */
const CONTENT = Buffer.concat(Array(6).fill(bytes(5 * 1024 * 1024 + 1)));

test("the progress_bar example shows how far a download is, and ends once one is whole", async () => {
  const root = folder();
  const file = join(root, "some file.bin");
  fs.writeFileSync(file, CONTENT);
  try {
    await withExample(["progress_bar", file, "0"], async (example) => {
      assertEquals(await example.printed(/http:\/\/127\.0\.0\.1:\d+\/(\S+)\n/), "some%20file.bin");
      const port = await example.port();
      assertEquals((await ask(port, "/", { method: "HEAD" })).status, 405);

      const leaving = await Client.to(port);
      leaving.send(request("/"));
      await leaving.begun();
      const others = await ask(port, "/");
      assertEquals([others.status, String(others.body)], [503, "one download at a time\n"]);
      leaving.close();
      const end = Number(await example.printed(/broke off after (\d+) bytes/));
      assert(end > 0 && end < CONTENT.length, `${end} bytes`);

      const since = example.output.length;
      // Refused, until the example has closed the file of the one that left.
      const client = await until(async () => {
        const client = await Client.to(port);
        client.send(request("/some%20file.bin"));
        await client.begun();
        if (client.seen().startsWith("HTTP/1.1 200 ")) return client;
        client.close();
      }, "the end of the first download");
      // Between the frames of the bar, while the client does not read.
      const sent = Number(await example.printed(/ ([1-9]\d*) of 31457286 bytes/, since));
      assert(sent > 0 && sent < CONTENT.length, `${sent} bytes`);
      client.socket.resume();
      assertSame((await client.reply()).body, CONTENT, "the file");
      client.close();

      await example.printed(/(all 31457286 bytes) sent/);
      assertEquals(await example.exit(), 0);
    });
  } finally {
    fs.rmSync(root, { recursive: true });
  }
});

test("the progress_bar example sends an empty file, and answers 500 where there is none", async () => {
  const root = folder();
  const file = join(root, "empty");
  try {
    await withExample(["progress_bar", file, "0"], async (example) => {
      const port = await example.port();
      assertEquals((await ask(port, "/")).status, 500);
      fs.writeFileSync(file, "");
      const { status, body } = await ask(port, "/");
      assertEquals([status, body.length], [200, 0]);
      await example.printed(/(all 0 bytes) sent/);
      assertEquals(await example.exit(), 0);
    });
  } finally {
    fs.rmSync(root, { recursive: true });
  }
});
