/** `--tls-cert` and `--tls-key`: the static server under the runtime's TLS. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { join, resolve } from "@std/path";
import * as fs from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import * as tls from "node:tls";
import { test } from "../support/harness.ts";
import { assertSame, request } from "../support/http_client.ts";
import { assertRefused, MIB, missing, Server, serving, until } from "../support/site.ts";

const CERT = resolve(import.meta.dirname!, "../tls/cert.pem");
const KEY = resolve(import.meta.dirname!, "../tls/key.pem");
const TLS = ["--tls-cert", CERT, "--tls-key", KEY];

/** All that the server sends on a TLS connection until it ends it. Rejects where the connection is reset. */
function receive(port: number, text: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      port,
      host: "127.0.0.1",
      servername: "localhost",
      ca: fs.readFileSync(CERT),
    });
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("error", reject);
    socket.once("end", () => resolve(Buffer.concat(chunks)));
    socket.once("secureConnect", () => socket.write(text, "latin1"));
  });
}

function bodyOf(reply: Buffer): Buffer {
  return reply.subarray(reply.indexOf("\r\n\r\n") + 4);
}

test("serve --tls-cert sends every file over TLS, by copying, and says so", () =>
  serving(async (server, site) => {
    assertEquals(server.lines[1], `https://127.0.0.1:${server.port}/`);
    assertEquals(server.lines[2], "zero-copy: off (TLS: this process encrypts what it sends)");
    for (const [target, content] of site.files) {
      const reply = await receive(server.port, request(target, { fields: "Connection: close\r\n" }));
      assertStringIncludes(reply.subarray(0, 20).toString(), "HTTP/1.1 200 OK\r\n");
      assertSame(bodyOf(reply), content, target);
    }
    await server.line(new RegExp(`GET /${20 * MIB}\\.bin 200 ${20 * MIB} copy \\(TLS\\)`));
  }, { args: TLS }));

test("serve --tls-cert keeps a connection for the next request", () =>
  serving(async ({ port }, site) => {
    const reply = await receive(
      port,
      request("/1.bin") + request(`/${MIB + 3}.bin`) +
        request("/4096.bin", { fields: "Connection: close\r\n" }),
    );
    const expected = ["/1.bin", `/${MIB + 3}.bin`, "/4096.bin"].map((name) => site.files.get(name)!);
    let at = 0;
    for (const content of expected) {
      at = reply.indexOf("\r\n\r\n", at) + 4;
      assertSame(reply.subarray(at, at + content.length), content, "a body");
      at += content.length;
    }
    assertEquals(at, reply.length);
  }, { args: TLS }));

test("serve --tls-cert ends a connection that does not speak TLS, and serves the next one", () =>
  serving(async ({ port }, site) => {
    const socket = net.connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("error", () => {});
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.write(request("/1.bin"));
    await closed;
    assert(!Buffer.concat(chunks).includes("HTTP/1.1"), "an answer in the clear");
    const reply = await receive(port, request("/4096.bin", { fields: "Connection: close\r\n" }));
    assertSame(bodyOf(reply), site.files.get("/4096.bin")!, "the next");
  }, { args: TLS }));

test("serve --tls-cert lets its workers serve TLS as well", () =>
  serving(async (server, site) => {
    for (let i = 0; i < 5; i++) {
      const reply = await receive(server.port, request("/4096.bin", { fields: "Connection: close\r\n" }));
      assertSame(bodyOf(reply), site.files.get("/4096.bin")!, "the body");
    }
  }, { args: [...TLS, "--workers", "2"] }));

test(
  "serve --tls-cert gives its workers the permission to read the certificate",
  () =>
    serving(async (server, site) => {
      const reply = await receive(server.port, request("/4096.bin", { fields: "Connection: close\r\n" }));
      assertSame(bodyOf(reply), site.files.get("/4096.bin")!, "the body");
    }, {
      args: [...TLS, "--workers", "2"],
      permissions: ["--no-prompt", "--allow-net", "--allow-read", "--allow-env", "--allow-run"],
    }),
  { only: "deno" },
);

const refused: [string, string[], number, RegExp][] = [
  [
    "a certificate without its key",
    ["--tls-cert", CERT],
    2,
    /^error: --tls-cert and --tls-key must be given together\n$/,
  ],
  [
    "a missing certificate",
    ["--tls-cert", "/none.pem", "--tls-key", KEY],
    1,
    /^error: cannot read the file of --tls-cert: .*\n$/,
  ],
  [
    "a key in place of a certificate",
    ["--tls-cert", KEY, "--tls-key", KEY],
    1,
    /^error: cannot listen on .*\n$/,
  ],
  [
    "a key that is not PEM",
    ["--tls-cert", CERT, "--tls-key", resolve(import.meta.dirname!, "../../LICENSE")],
    1,
    /^error: the file of --tls-key is not PEM: .*LICENSE\n$/,
  ],
];

for (const [what, args, code, message] of refused) {
  const all = [...args, "-p", "0", "--host", "127.0.0.1"];
  test(`serve refuses ${what}`, () => assertRefused(all, code, message));
}

test("serve refuses a key that is another certificate's", async () => {
  const directory = fs.mkdtempSync(join(tmpdir(), "key-"));
  const key = join(directory, "key.pem");
  const made = spawnSync("openssl", [
    "genpkey",
    "-algorithm",
    "EC",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-out",
    key,
  ]);
  assertEquals(made.status, 0);
  const server = new Server({ args: ["--tls-cert", CERT, "--tls-key", key, "-p", "0", directory] });
  try {
    await until(() => server.code !== undefined, "the exit");
    assertEquals(server.code, 1);
    assert(/^error: cannot listen on .*MISMATCH.*\n$/i.test(server.errors), server.errors);
  } finally {
    await server.stop();
    fs.rmSync(directory, { recursive: true });
  }
}, { skip: missing("openssl") });
