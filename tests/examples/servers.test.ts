/** The examples without a framework that serve a site or one file. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import * as net from "node:net";
import { whyNotSendfile } from "../../mod.ts";
import { bytes, folder } from "../support/data.ts";
import { withExample } from "../support/example.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";

const LARGE = Buffer.from(bytes(5 * 1024 * 1024 + 1));

/** A directory `site` with a file and a listed folder, beside a secret, for the time of `body`. */
async function withFiles(body: (site: string, file: string) => Promise<void>): Promise<void> {
  const root = folder();
  const site = join(root, "site");
  const file = join(site, "large.bin");
  try {
    fs.mkdirSync(join(site, "sub"), { recursive: true });
    fs.writeFileSync(join(root, "secret.txt"), "secret");
    fs.writeFileSync(file, LARGE);
    fs.writeFileSync(join(site, "sub/one & two.txt"), "some text");
    await body(site, file);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** What both sites have in common. */
async function assertSite(port: number): Promise<void> {
  const { status, headers, body } = await ask(port, "/large.bin");
  assertEquals([status, headers["cache-control"]], [200, "public, max-age=60"]);
  assertSame(body, LARGE, "the file");
  const part = await ask(port, "/large.bin", { fields: "Range: bytes=100-3000000\r\n" });
  assertEquals(part.status, 206);
  assertSame(part.body, LARGE.subarray(100, 3_000_001), "the range");
  assertEquals(
    (await ask(port, "/large.bin", { fields: `If-None-Match: ${headers.etag}\r\n` })).status,
    304,
  );
  assertStringIncludes(String((await ask(port, "/sub/")).body), "one &amp; two.txt");
  const outside = await ask(port, "/..%2fsecret.txt");
  assert(!String(outside.body).includes("secret"), "a file outside was sent");
}

test(
  "the serve_bun example serves a site",
  () =>
    withFiles((site) =>
      withExample(["serve_bun", site, "0"], async (example) => {
        const port = await example.port();
        await assertSite(port);
        assertEquals((await ask(port, "/missing")).status, 404);
        await example.printed(/(GET\] \/large\.bin 200)/);
      })
    ),
  { only: "bun" },
);

test(
  "the serve_deno example serves a site, precompressed files, and an application",
  () =>
    withFiles((site) =>
      withExample(["serve_deno", site, "0"], async (example) => {
        const port = await example.port();
        await assertSite(port);
        fs.writeFileSync(join(site, "sub/one & two.txt.gz"), "what is not looked into");
        const { headers, body } = await ask(port, "/sub/one%20&%20two.txt", {
          fields: "Accept-Encoding: gzip\r\n",
        });
        assertEquals([headers["content-encoding"], String(body)], ["gzip", "what is not looked into"]);
        assertEquals(String((await ask(port, "/missing")).body), "hello from the application");
        await example.printed(/(GET\] \/large\.bin 200)/);
      })
    ),
  { only: "deno" },
);

test("the node_http example sends a file with every response, and goes on behind clients that leave", () =>
  withFiles((_site, file) =>
    withExample(["node_http", file, "0"], async (example) => {
      const port = await example.port();
      const { status, headers, body } = await ask(port, "/");
      assertEquals([status, headers["content-type"]], [200, "application/octet-stream"]);
      assertSame(body, LARGE, "the file");
      await example.printed(/(5242881 bytes)/);
      const head = await ask(port, "/", { method: "HEAD" });
      assertEquals([head.status, head.headers["content-length"]], [200, `${LARGE.length}`]);

      const leaving = await Client.to(port);
      leaving.send(request("/"));
      await leaving.begun();
      leaving.close();

      const client = await Client.to(port);
      for (let i = 0; i < 3; i++) {
        client.send(request("/"));
        assertSame((await client.reply()).body, LARGE, "on a kept connection");
      }
      client.send(request("/"), request("/"));
      for (let i = 0; i < 2; i++) assertSame((await client.reply()).body, LARGE, "pipelined");
      client.close();

      fs.unlinkSync(file);
      assertEquals((await ask(port, "/")).status, 500);
      fs.writeFileSync(file, LARGE);
      assertSame((await ask(port, "/")).body, LARGE, "the new file");
    })
  ));

for (const [name, only] of [["tcp_deno", "deno"], ["tcp_bun", "bun"]] as const) {
  test(
    `the ${name} example sends a file to whoever connects`,
    () =>
      withFiles((_site, file) =>
        withExample([name, file, "0"], async (example) => {
          const port = await example.port();
          for (let i = 0; i < 3; i++) {
            const chunks: Buffer[] = [];
            for await (const chunk of net.connect(port, "127.0.0.1")) chunks.push(chunk);
            assertSame(Buffer.concat(chunks), LARGE, "the file");
          }
          if (!whyNotSendfile()) await example.printed(/^(sendfile)/m);
          await example.printed(/(5242881 bytes)/);
        })
      ),
    { only },
  );
}
