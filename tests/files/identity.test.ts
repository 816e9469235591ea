import { assertEquals, assertRejects } from "@std/assert";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import process from "node:process";
import { fromFileUrl, join } from "@std/path";
import { ConnectionClosedError, sendfile, SendfileNotAvailableError, sendfileSync } from "../../mod.ts";
import { assertBytes, bytes, folder, testFile } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { socketPair } from "../support/helpers.ts";

const MTU = "/sys/class/net/lo/mtu";
const noSysfs = fs.existsSync(MTU) ? undefined : "no sysfs";

/** What has arrived at a descriptor that the runtime knows nothing of. */
async function receive(fd: number, length: number): Promise<Uint8Array> {
  const { libc } = await import("../../ffi/load.ts");
  const c = libc();
  if (typeof c === "string") throw new Error(c);
  const into = new Uint8Array(length);
  const count = Number(c.library.call.read(fd, into, c.library.wide(length)));
  return into.subarray(0, Math.max(0, count));
}

for (const zeroCopy of [true, false]) {
  test(`a sysfs file, whose size says 4096, is sent to its real end [zeroCopy ${zeroCopy}]`, async () => {
    using pair = socketPair();
    const content = new Uint8Array(fs.readFileSync(MTU));
    assertEquals(await sendfile(pair.here, MTU, { zeroCopy, timeout: 5000 }), content.length);
    assertBytes(await receive(pair.there, 4096), content);
  }, { skip: noSysfs });

  for (const path of ["/proc/version", "/proc/self/status"]) {
    test(`${path}, whose size says 0, is sent to its real end [zeroCopy ${zeroCopy}]`, async () => {
      using pair = socketPair();
      const sent = await sendfile(pair.here, path, { zeroCopy, timeout: 5000 });
      const got = await receive(pair.there, 65536);
      assertEquals(got.length, sent);
      assertEquals(new TextDecoder().decode(got).slice(0, 5), path === "/proc/version" ? "Linux" : "Name:");
    }, { skip: fs.existsSync(path) ? undefined : "no procfs" });
  }
}

test("sendfileSync of a sysfs file comes to an end", () => {
  using pair = socketPair();
  assertEquals(sendfileSync(pair.here, MTU), fs.readFileSync(MTU).length);
}, { skip: noSysfs });

test("an empty file is not announced, but its header and trailer are sent", async () => {
  using pair = socketPair();
  using file = testFile(new Uint8Array(0));
  const header = bytes(10);
  const trailer = bytes(10, 2);
  let started = 0;
  assertEquals(await sendfile(pair.here, file.path, { header, trailer, onStart: () => started++ }), 0);
  assertEquals(started, 0);
  assertBytes(await receive(pair.there, 100), new Uint8Array([...header, ...trailer]));
});

test("a descriptor number that stands for a device now is refused again", async () => {
  using pair = socketPair();
  using file = testFile(bytes(100));
  const fd = fs.openSync(file.path, "r");
  assertEquals(await sendfile(pair.here, fd), 100);
  fs.closeSync(fd);
  const device = fs.openSync("/dev/zero", "r");
  try {
    assertEquals(device, fd); // the lowest free number
    await assertRejects(() => sendfile(pair.here, device, { count: 100 }), SendfileNotAvailableError);
  } finally {
    fs.closeSync(device);
  }
});

test("a transfer that begins in another's onStart waits for its end", async () => {
  using pair = socketPair();
  using first = testFile(bytes(1000, 3));
  using second = testFile(bytes(1000, 4));
  let inner: Promise<number> | undefined;
  const header = bytes(50, 5);
  const onStart = () => void (inner ??= sendfile(pair.here, second.path));
  await sendfile(pair.here, first.path, { header, onStart });
  assertEquals(await inner, 1000);
  const expected = new Uint8Array([...header, ...bytes(1000, 3), ...bytes(1000, 4)]);
  assertBytes(await receive(pair.there, 5000), expected);
});

test("a Deno.Conn that was closed never leads to the connection with its number and address", async () => {
  using file = testFile(bytes(100_000));
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  // The client's port, given again to its next connection.
  const connect = (localPort: number) =>
    new Promise<net.Socket>((resolve, reject) => {
      const socket = net.connect({ port, host: "127.0.0.1", localPort }, () => resolve(socket));
      socket.on("error", reject);
    });
  const one = await connect(0);
  const { localPort } = one;
  const closed = await listener.accept();
  assertEquals(await sendfile(closed, file.path, { count: 10 }), 10);
  closed.close();
  one.resetAndDestroy();
  await new Promise((resolve) => one.once("close", resolve));
  const two = await connect(localPort!);
  const open = await listener.accept();
  let got = 0;
  two.on("data", (chunk) => got += chunk.length);
  const error = await sendfile(closed, file.path).catch((error) => error);
  assertEquals(error instanceof ConnectionClosedError, true);
  assertEquals(await sendfile(open, file.path, { count: 7 }), 7);
  open.close();
  await new Promise((resolve) => two.once("close", resolve));
  assertEquals(got, 7);
}, { only: "deno" });

/** A mount whose inode numbers are above 2^53, made by root in a namespace of its own. */
const OVERLAY = `
mkdir -p lower up m && mount -t tmpfs tmpfs up && mkdir up/u up/w &&
head -c 5000 /dev/zero | tr '\\0' a > lower/a && head -c 5000 /dev/zero | tr '\\0' b > lower/b &&
mount -t overlay overlay -o lowerdir=lower,upperdir=up/u,workdir=up/w,xino=on m && exec "$@"`;

function overlay(): string | undefined {
  if (process.getuid?.() !== 0) return "not root";
  const dir = folder();
  const { status } = spawnSync("unshare", ["-m", "sh", "-c", OVERLAY, "sh", "true"], { cwd: dir });
  fs.rmSync(dir, { recursive: true });
  return status === 0 ? undefined : "no overlay mount with xino";
}

test("files whose inode numbers are equal as doubles are told apart", () => {
  const dir = folder();
  try {
    const script = fromFileUrl(new URL("../children/inodes.ts", import.meta.url));
    const args = isBun ? [script] : ["run", "-A", "--no-check", "--node-modules-dir=none", script];
    const command = ["-m", "sh", "-c", OVERLAY, "sh", process.execPath, ...args, join(dir, "m")];
    const { stdout, stderr } = spawnSync("unshare", command, { cwd: dir, encoding: "utf8" });
    assertEquals(stdout.trim(), "b".repeat(5000), stderr);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}, { skip: overlay() });
