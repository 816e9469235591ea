/** The command line: what is refused and how, the version, the help. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { resolve } from "@std/path";
import * as fs from "node:fs";
import * as net from "node:net";
import { test } from "../support/harness.ts";
import { assertRefused, CLI, Server } from "../support/site.ts";

const usage: [string, string[], number, RegExp][] = [
  ["an unknown flag", ["--nonsense"], 2, /^error: Unknown option '--nonsense' \(see --help\)\n$/],
  [
    "an invalid port",
    ["-p", "http"],
    2,
    /^error: --port must be a number from 0 to 65535, not "http"\n$/,
  ],
  ["a port out of range", ["-p", "65536"], 2, /^error: --port must be .*\n$/],
  ["a flag without its value", ["--port"], 2, /^error: .*--port.*\n$/],
  ["two directories", ["a", "b"], 2, /^error: one directory at most, not 2\n$/],
  ["a missing directory", ["/no/such/place"], 1, /^error: there is no directory \/no\/such\/place\n$/],
  ["a file as directory", [CLI], 1, /^error: .*cli\.ts is not a directory\n$/],
  ["a header that is none", ["-H", "nonsense", "."], 2, /^error: a header must be .*\n$/],
  ["a header that frames", ["-H", "Content-Length: 1", "."], 2, /^error: Content-Length is set by .*\n$/],
  ["an age that is none", ["--max-age", "1d"], 2, /^error: --max-age must be .*\n$/],
  ["a rate of nothing", ["--rate-limit", "0"], 2, /^error: --rate-limit must be .*\n$/],
  ["no workers", ["--workers", "0"], 2, /^error: --workers must be .*\n$/],
  ["a log that is none", ["--log", "xml"], 2, /^error: --log must be text, json or none, not "xml"\n$/],
  [
    "a host that is not here, for workers too",
    ["--host", "192.0.2.77", "-p", "0", "--workers", "2", "."],
    1,
    /^error: cannot listen on .*\n$/,
  ],
  ["a host that is not here", ["--host", "192.0.2.77", "-p", "0", "."], 1, /^error: cannot listen on .*\n$/],
];

for (const [what, args, code, message] of usage) {
  test(`serve refuses ${what}`, () => assertRefused(args, code, message));
}

test("serve refuses a port in use", async () => {
  const holder = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => holder.once("listening", resolve));
  const { port } = holder.address() as net.AddressInfo;
  const server = new Server({ args: ["-p", String(port), "--host", "127.0.0.1", import.meta.dirname!] });
  try {
    assertEquals(await server.exit(), 1);
    assertEquals(server.errors, `error: cannot listen on 127.0.0.1:${port}: the port is in use\n`);
  } finally {
    await server.stop();
    holder.close();
  }
});

test("serve prints its version, that of both manifests", async () => {
  const server = new Server({ args: ["-V"] });
  try {
    assertEquals(await server.exit(), 0);
    for (const name of ["deno.json", "package.json"]) {
      const manifest = JSON.parse(fs.readFileSync(resolve(CLI, "..", name), "utf8"));
      assertEquals(server.lines, [manifest.version]);
    }
  } finally {
    await server.stop();
  }
});

test("serve prints its help", async () => {
  const server = new Server({ args: ["--help"] });
  try {
    assertEquals(await server.exit(), 0);
    assertStringIncludes(server.lines.join("\n"), "--port");
  } finally {
    await server.stop();
  }
});
