/** A file that is cut while its bytes are on the way: the peer must not take what arrives for the file. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import * as net from "node:net";
import { join } from "@std/path";
import { serveFile, withSendfile } from "../../http/mod.ts";
import { sendfile, SendfileError, sendfileStats } from "../../mod.ts";
import { assertBytes, bytes, folder, testFile, until } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { ask, request } from "../support/http_client.ts";
import { KINDS, type Running, startDenoServe } from "../support/http_servers.ts";
import { kinds, raw } from "../support/pairs.ts";

const MIB = 1024 * 1024;

/** More than a socket takes at once: a transfer of it waits for its reader. */
const SIZE = 40 * MIB;

/** Bytes of the file that are left. */
const LEFT = 100;

/** How the connection ends for a client, and the bytes that it got. */
async function endOf(socket: net.Socket): Promise<{ how: string; received: number }> {
  let received = 0;
  socket.on("data", (chunk: Uint8Array) => received += chunk.length);
  const how = await new Promise<string>((resolve) => {
    socket.once("error", (error: Error & { code?: string }) => resolve(error.code ?? error.message));
    socket.once("end", () => resolve("the end"));
    socket.resume();
  });
  return { how, received };
}

// A unix socket knows no reset.
for (const kind of kinds.filter(({ name, native }) => native && !name.includes("unix"))) {
  test(`sendfile: ${kind.name}: a file truncated below what was sent is an error and resets the connection`, async () => {
    using file = testFile(bytes(SIZE));
    const pair = await kind.open();
    const { waits } = sendfileStats();
    const sending = sendfile(pair.socket, file.path);
    const rejected = assertRejects(() => sending, SendfileError);
    await until("the transfer waits", () => sendfileStats().waits > waits);
    fs.truncateSync(file.path, LEFT);
    const { how, received } = await endOf(pair.peer.socket);
    const { code, message, sent } = await rejected;
    assertEquals([code, message], ["ESTALE", "the file became shorter"]);
    assert(sent > LEFT && sent < SIZE, `${sent} bytes`);
    assertEquals(how, "ECONNRESET");
    assert(received < SIZE, `${received} bytes`);
    pair.close();
  });
}

test("sendfile: a file truncated above what was sent ends there", async () => {
  using file = testFile(bytes(SIZE));
  const pair = await raw.open();
  const { waits } = sendfileStats();
  const sending = sendfile(pair.socket, file.path);
  await until("the transfer waits", () => sendfileStats().waits > waits);
  fs.truncateSync(file.path, SIZE - 1);
  const received = pair.peer.all();
  assertEquals(await sending, SIZE - 1);
  pair.end();
  assertBytes(await received, bytes(SIZE).subarray(0, SIZE - 1));
  pair.close();
});

test("sendfile: a file that says 0 bytes may have more", async () => {
  const pair = await raw.open();
  const received = pair.peer.all();
  const path = "/proc/self/status";
  assert(await sendfile(pair.socket, path) > 100);
  pair.end();
  assert((await received).length > 100);
  pair.close();
}, { skip: fs.existsSync("/proc/self/status") ? undefined : "no /proc" });

function startWithSendfile(file: string): Promise<Running> {
  return Promise.resolve(startDenoServe(withSendfile((request) => serveFile(request, file))));
}

const SERVERS: [name: string, start: (file: string) => Promise<Running>][] = [
  // The runtimes' own servers read into memory of theirs, or do not look.
  ...KINDS.filter(({ name }) => name === "node:http" || name === "FileServer").map(
    ({ name, start }): [string, (file: string) => Promise<Running>] => [name, (file) => start({ file })],
  ),
  ...(!isBun ? [["withSendfile", startWithSendfile] as [string, (file: string) => Promise<Running>]] : []),
];

for (const [name, start] of SERVERS) {
  for (const fields of ["", "Connection: close\r\n"]) {
    test(`${name}: the client of a file that was cut sees a reset ${fields.trim()}`, async () => {
      const dir = folder();
      const path = join(dir, "file.bin");
      fs.writeFileSync(path, bytes(SIZE));
      const server = await start(path);
      try {
        const { waits } = sendfileStats();
        const socket = net.connect(server.port, "127.0.0.1");
        socket.write(request("/", { fields }));
        await until("the transfer waits", () => sendfileStats().waits > waits);
        fs.truncateSync(path, LEFT);
        const { how, received } = await endOf(socket);
        assertEquals(how, "ECONNRESET");
        assert(received < SIZE, `${received} bytes`);
        socket.destroy();
        const { body } = await ask(server.port, "/"); // others are served
        assertBytes(body, bytes(SIZE).subarray(0, LEFT));
        const others = server.errors.filter((error) => !/became shorter/.test(String(error)));
        assertEquals(others, []);
      } finally {
        await server.close();
        fs.rmSync(dir, { recursive: true });
      }
    });
  }
}

test(
  "withSendfile: truncating a file that is fully queued for the client resets the connection",
  async () => {
    const dir = folder();
    const path = join(dir, "file.bin");
    const size = 2 * MIB + 1;
    fs.writeFileSync(path, bytes(size));
    const server = await startWithSendfile(path);
    try {
      const before = sendfileStats();
      const socket = net.connect(server.port, "127.0.0.1");
      socket.write(request("/"));
      // All but what the server itself has sent.
      await until(
        "all is queued",
        () => sendfileStats().sendfile.bytes - before.sendfile.bytes >= size - 16384,
      );
      fs.truncateSync(path, LEFT);
      await until("the cut is seen", () => server.errors.length > 0);
      const { how, received } = await endOf(socket);
      assertEquals(how, "ECONNRESET");
      assert(received < size, `${received} bytes`);
      assertEquals(server.errors.map(String), ["TruncatedError: the file became shorter"]);
      socket.destroy();
    } finally {
      await server.close();
      fs.rmSync(dir, { recursive: true });
    }
  },
  { only: "deno" },
);
