/**
 * The Darwin and FreeBSD ABI files, against a C library that has those systems' call shapes, structs and numbers
 * and ends calls of sendfile as their kernels do (`abi/bsd.c`).
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "@std/path";
import { findConnection, findFile } from "../../ffi/find.ts";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { poller } from "../../ffi/poller.ts";
import type { FileStat } from "../../ffi/system.ts";
import {
  ConnectionClosedError,
  sendfile,
  SendfileError,
  type SendfileOptions,
  sendfileStats,
  sendfileSync,
} from "../../mod.ts";
import {
  ALL,
  type Call,
  EAGAIN,
  EBADF,
  EBUSY,
  EINTR,
  EIO,
  EPERM,
  type Fake,
  fake,
  type Name,
  unavailable,
  UNTOUCHED,
} from "../abi/fake.ts";
import { assertBytes, bytes, concat, DATA, descriptors, folder, testFile, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { datagramDescriptor, readInChild } from "../support/helpers.ts";
import { kinds, nodeAccepted } from "../support/pairs.ts";

/** Bytes that any socket's buffer takes at once. */
const LITTLE = bytes(10_007, 2);

const HEADER = bytes(311, 3);
const TRAILER = bytes(97, 4);

const GIB4 = 2 ** 32;

const ipv6 = Object.values(networkInterfaces()).flat().some((address) => address?.address === "::1");

/** A test of one system, which also fails where the library was given arguments that are never right. */
function abi(
  name: Name,
  title: string,
  body: (f: Fake) => void | Promise<void>,
  { skip = unavailable }: { skip?: string } = {},
): void {
  test(`${name}: ${title}`, async () => {
    const f = fake(name);
    f.reset();
    try {
      await body(f);
    } finally {
      replaceLibc(undefined);
    }
    assertEquals(f.complaints(), 0, "arguments that are never right; see standard error");
  }, { skip });
}

/** Each call starts where the bytes of the one before it ended: none is sent twice, none left out. */
function assertContiguous(calls: Call[], start = 0): void {
  let at = start;
  for (const { offset, moved } of calls) {
    assertEquals(offset, at, JSON.stringify(calls));
    at += moved;
  }
}

/** Sends `content` through `f` and compares what arrives with all of it. */
async function transfer(
  f: Fake,
  content: Uint8Array,
  { open = nodeAccepted, options = {} }: { open?: typeof nodeAccepted; options?: SendfileOptions } = {},
): Promise<Call[]> {
  using file = testFile(content);
  const pair = await open.open({ small: true });
  try {
    replaceLibc(f.libc);
    const received = pair.peer.all();
    const sent = await sendfile(pair.socket, file.file, { fallback: false, ...options });
    assertEquals(sent, content.length);
    pair.end();
    const { header = new Uint8Array(0), trailer = new Uint8Array(0) } = options;
    // The body of node:http's answer: its head came before the transfer.
    const all = await received;
    assertBytes(
      all.subarray(all.length - header.length - content.length - trailer.length),
      concat(header, content, trailer),
    );
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
  const calls = f.calls();
  assertContiguous(calls);
  return calls;
}

/** The two ends of a connection for calls of `Libc` itself. */
interface Ends {
  /** The end under test. */
  fd: number;
  /** The other end, which is read only by this. */
  peer: number;
  /** Reads `length` bytes at the other end. */
  read(length: number): Uint8Array;
  /** Ends the end under test, and reads all that is left at the other. */
  rest(): Uint8Array;
}

async function withSocket(
  f: Fake,
  body: (ends: Ends) => void | Promise<void>,
  { small = false }: { small?: boolean } = {},
): Promise<void> {
  // Smaller ones than 16 KiB meet loopback's 64 KiB segments.
  const [fd, peer] = f.pair(small ? 32768 : 0);
  const read = (length: number) => {
    const parts: Uint8Array[] = [];
    for (let left = length; left > 0;) {
      const part = new Uint8Array(Math.min(left, 65536));
      assert(
        f.libc.block(peer, "readable", 10_000),
        `nothing to read for 10 s, ${left} of ${length} bytes left`,
      );
      const bytes = f.libc.library.call.read(peer, part, f.libc.library.wide(part.length));
      assert(bytes >= 0, "read");
      if (bytes === 0) break;
      parts.push(part.subarray(0, bytes));
      left -= bytes;
    }
    return concat(...parts);
  };
  try {
    await body({
      fd,
      peer,
      read,
      rest() {
        f.libc.shutdown(fd);
        return read(Infinity);
      },
    });
  } finally {
    f.libc.close(fd);
    f.libc.close(peer);
  }
}

/** An open file, for calls of `Libc` itself. */
async function withFile(content: Uint8Array, body: (fd: number) => void | Promise<void>): Promise<void> {
  using file = testFile(content);
  const fd = fs.openSync(file.path, "r");
  try {
    await body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function errorName(f: Fake, result: number): string {
  assert(result < 0, `${result} is no error`);
  return f.libc.errorName(result);
}

/** Sends until the socket is full, and stays so while the peer does not read; returns how much that was. */
function fill(f: Fake, fd: number, content: Uint8Array): number {
  let sent = 0;
  do {
    const result = f.libc.send(fd, content.subarray(sent), false);
    if (result < 0) assertEquals(errorName(f, result), "EAGAIN");
    else sent += result;
    assert(sent < content.length, "the socket takes it all");
  } while (f.libc.block(fd, "writable", 50)); // what the peer's buffer takes makes room here
  return sent;
}

/** Resolves when this system's poller holds nothing any more, neither in the kernel nor in a descriptor. */
async function idle(f: Fake): Promise<void> {
  await until("no filter is left", () => f.knotes() === 0);
  await until("no kqueue is left", () => f.queues() === 0);
}

/** This process's descriptors of unix sockets, by the kernel's own table of them. */
function unixSockets(): number[] {
  const lines = fs.readFileSync("/proc/self/net/unix", "utf8").split("\n").slice(1);
  const inodes = new Set(lines.map((line) => `socket:[${line.trim().split(/\s+/)[6]}]`));
  return descriptors().filter((entry) => inodes.has(entry.split(" ")[1])).map(parseFloat);
}

function partialCounts(name: Name): void {
  abi(name, "sendfile gives the partial count that comes with EAGAIN", async (f) => {
    const content = DATA.subarray(0, 400_000);
    await withFile(content, (file) =>
      withSocket(f, async ({ fd, read, rest }) => {
        // The first call fills the socket, and the kernel says both: EAGAIN, and how much it took.
        const first = f.libc.sendfile(fd, file, 0, content.length);
        assert(first > 0 && first < content.length, `${first} bytes`);
        const received: Uint8Array[] = [];
        let at = first;
        let refused = 0;
        while (at < content.length) {
          const sent = f.libc.sendfile(fd, file, at, content.length - at);
          if (sent > 0) at += sent;
          else {
            assertEquals(errorName(f, sent), "EAGAIN");
            refused++;
            do received.push(read(10_000)); while (!f.libc.block(fd, "writable", 5));
            await poller(f.libc).wait(fd, "writable");
          }
        }
        assert(refused > 0);
        assertBytes(concat(...received, rest()), content);
        assertContiguous(f.calls());
      }, { small: true }));
  });

  for (const [code, errno] of [["EAGAIN", EAGAIN], ["EINTR", EINTR], ["EBUSY", EBUSY]] as const) {
    if (code === "EBUSY" && name === "darwin") continue; // FreeBSD's alone
    abi(
      name,
      `sendfile gives the partial count that comes with ${code}, and ${code} where there is none`,
      (f) =>
        withFile(LITTLE, (file) =>
          withSocket(f, ({ fd, rest }) => {
            f.script(1, errno, 5000);
            f.script(2, errno, 0);
            f.script(3, errno, 1);
            assertEquals(f.libc.sendfile(fd, file, 0, LITTLE.length), 5000);
            assertEquals(errorName(f, f.libc.sendfile(fd, file, 5000, LITTLE.length - 5000)), code);
            assertEquals(f.libc.sendfile(fd, file, 5000, LITTLE.length - 5000), 1);
            assertEquals(f.libc.sendfile(fd, file, 5001, LITTLE.length - 5001), LITTLE.length - 5001);
            assertBytes(rest(), LITTLE);
          })),
    );

    abi(name, `a transfer goes on behind the bytes that ${code} came with`, async (f) => {
      f.script(1, errno, 4097);
      f.script(2, errno, 0);
      f.script(3, errno, 0);
      f.script(4, errno, 1);
      f.script(5, errno, 3000);
      f.script(7, errno, 0);
      const calls = await transfer(f, DATA);
      assertEquals(calls.slice(0, 5).map((call) => call.moved), [4097, 0, 0, 1, 3000]);
    });
  }

  abi(name, `${title(name)}'s partial count with EAGAIN is not sent twice`, async (f) => {
    const before = sendfileStats();
    const calls = await transfer(f, DATA);
    const after = sendfileStats();
    assert(calls.some(({ moved, count }) => moved > 0 && moved < count), "no call was cut short");
    assertEquals(after.sendfile.bytes - before.sendfile.bytes, DATA.length);
    assertEquals(after.copy, before.copy);
    assert(after.waits > before.waits);
  });

  abi(name, "all of the count with EAGAIN is not sent twice", async (f) => {
    // xnu: the socket's buffer is full to the brim, which it sees before it sees that nothing is left to send.
    f.script(1, EAGAIN, ALL);
    assertEquals(await transfer(f, LITTLE), [{ offset: 0, count: LITTLE.length, moved: LITTLE.length }]);
  });

  abi(name, "all of the count with EINTR is not sent twice", async (f) => {
    f.script(1, EINTR, ALL);
    assertEquals(await transfer(f, LITTLE), [{ offset: 0, count: LITTLE.length, moved: LITTLE.length }]);
  });

  abi(name, "a call that never wrote the count has sent nothing", async (f) => {
    await withFile(LITTLE, (file) =>
      withSocket(f, ({ fd, rest }) => {
        f.script(1, EPERM, UNTOUCHED);
        f.script(2, EIO, UNTOUCHED);
        assertEquals(errorName(f, f.libc.sendfile(fd, file, 0, LITTLE.length)), "EPERM");
        assertEquals(errorName(f, f.libc.sendfile(fd, file, 0, LITTLE.length)), "EIO");
        assertBytes(rest(), new Uint8Array(0));
      }));
  });

  abi(name, "a transfer that is not permitted in the middle goes on by copy", async (f) => {
    f.script(1, EAGAIN, 5000);
    f.script(2, EPERM, UNTOUCHED);
    const before = sendfileStats();
    const calls = await transfer(f, DATA, { options: { fallback: true } });
    const after = sendfileStats();
    assertEquals(calls.length, 2);
    assertEquals(after.sendfile.bytes - before.sendfile.bytes, 5000);
    assertEquals(after.copy.bytes - before.copy.bytes, DATA.length - 5000);
  });

  abi(name, "a partial count that comes with EIO is in the error's sent", async (f) => {
    using file = testFile(LITTLE);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EIO, 5000);
      f.script(2, EIO, 0);
      const error = await assertRejects(() => sendfile(pair.socket, file.file), SendfileError);
      const { code, errno, syscall, sent } = error;
      assertEquals({ code, errno, syscall, sent }, {
        code: "EIO",
        errno: EIO,
        syscall: "sendfile",
        sent: 5000,
      });
      pair.end();
      assertBytes(await pair.peer.all(), LITTLE.subarray(0, 5000));
    } finally {
      pair.close();
    }
  });
}

function title(name: Name): string {
  return name === "darwin" ? "Darwin" : "FreeBSD";
}

function wholeTransfers(name: Name): void {
  for (const kind of kinds.filter((kind) => kind.native)) {
    abi(name, `a transfer over ${kind.name}`, async (f) => {
      f.script(1, EAGAIN, 1000);
      f.script(2, EINTR, 0);
      await transfer(f, DATA, { open: kind });
    });
  }

  abi(name, "sendfileSync waits by poll", async (f) => {
    using file = testFile(DATA);
    await using child = await readInChild();
    f.script(1, EAGAIN, 5000);
    f.script(2, EAGAIN, 0);
    f.script(3, EINTR, 1);
    replaceLibc(f.libc);
    assertEquals(sendfileSync(child.socket, file.path), DATA.length);
    replaceLibc(undefined);
    assertBytes(await child.received(), DATA);
    assertContiguous(f.calls());
  });

  abi(
    name,
    "the end of the file is no error",
    (f) =>
      withFile(LITTLE, (file) =>
        withSocket(f, ({ fd, rest }) => {
          const { length } = LITTLE;
          assertEquals(f.libc.sendfile(fd, file, length - 100, 1000), 100);
          assertEquals(f.libc.sendfile(fd, file, length, 1000), 0);
          assertEquals(f.libc.sendfile(fd, file, length + GIB4, 1000), 0);
          assertBytes(rest(), LITTLE.subarray(length - 100));
        })),
  );

  abi(name, "a file truncated on the way ends the transfer", async (f) => {
    using file = testFile(LITTLE);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EAGAIN, 1000);
      const sent = await sendfile(pair.socket, file.file, {
        count: LITTLE.length,
        fallback: false,
        onProgress: (sent) => sent === 1000 && fs.truncateSync(file.path, 1500),
      });
      assertEquals(sent, 1500);
      pair.end();
      assertBytes(await pair.peer.all(), LITTLE.subarray(0, 1500));
      assertEquals(f.calls().map((call) => call.moved), [1000, 500, 0]);
    } finally {
      pair.close();
    }
  });

  abi(name, "offsets above 4 GiB arrive whole", async (f) => {
    using file = testFile(new Uint8Array(0));
    const fd = fs.openSync(file.path, "r+");
    fs.writeSync(fd, LITTLE, 0, LITTLE.length, GIB4 + 77);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EAGAIN, 3000);
      const sent = await sendfile(pair.socket, file.file, { offset: GIB4 + 77, fallback: false });
      assertEquals(sent, LITTLE.length);
      pair.end();
      assertBytes(await pair.peer.all(), LITTLE);
      assertContiguous(f.calls(), GIB4 + 77);

      const into = new Uint8Array(100);
      assertEquals(f.libc.pread(fd, into, GIB4 + 78), 100);
      assertBytes(into, LITTLE.subarray(1, 101));
    } finally {
      pair.close();
      fs.closeSync(fd);
    }
  });

  abi(name, "TCP_NOPUSH is set before header, file and trailer, and cleared after them", async (f) => {
    const expected = name === "darwin" ? /^CS+F+S+US$/ : /^CS+F+S+U$/;
    await transfer(f, LITTLE, { options: { header: HEADER, trailer: TRAILER } });
    assert(expected.test(f.history()), f.history());
    f.reset();
    f.script(1, EAGAIN, 100);
    f.script(3, EINTR, 0);
    await transfer(f, DATA, { options: { header: HEADER, trailer: TRAILER } });
    assert(expected.test(f.history()), f.history());
  });

  abi(name, "a header alone is held back by TCP_NOPUSH too, and a file alone is not", async (f) => {
    await transfer(f, LITTLE, { options: { header: HEADER } });
    assert((name === "darwin" ? /^CS+F+US$/ : /^CS+F+U$/).test(f.history()), f.history());
    f.reset();
    await transfer(f, LITTLE);
    assert(/^F+$/.test(f.history()), f.history());
  });

  abi(name, "TCP_NOPUSH is cleared after an error", async (f) => {
    using file = testFile(LITTLE);
    const pair = await nodeAccepted.open();
    try {
      replaceLibc(f.libc);
      f.script(1, EIO, 0);
      await assertRejects(() => sendfile(pair.socket, file.file, { header: HEADER }), SendfileError, "EIO");
      assert((name === "darwin" ? /^CS+US$/ : /^CS+U$/).test(f.history()), f.history());
    } finally {
      pair.close();
    }
  });

  abi(name, "a peer that leaves ends a transfer that waits", async (f) => {
    using file = testFile(DATA);
    const pair = await nodeAccepted.open({ small: true });
    try {
      replaceLibc(f.libc);
      const sending = assertRejects(
        () => sendfile(pair.socket, file.file, { fallback: false }),
        ConnectionClosedError,
      );
      await until("the transfer waits", () => f.knotes() === 1);
      pair.peer.socket.destroy();
      await sending;
      assertEquals(f.knotes(), 0);
    } finally {
      pair.close();
    }
  });

  abi(name, "an abort ends a transfer that waits", async (f) => {
    using file = testFile(DATA);
    const pair = await nodeAccepted.open({ small: true });
    try {
      replaceLibc(f.libc);
      const controller = new AbortController();
      const sending = sendfile(pair.socket, file.file, { fallback: false, signal: controller.signal });
      const failed = assertRejects(() => sending, Error, "enough");
      await until("the transfer waits", () => f.knotes() === 1);
      controller.abort(new Error("enough"));
      await failed;
      assertEquals(f.knotes(), 0);
    } finally {
      pair.close();
    }
  });
}

function structs(name: Name): void {
  abi(name, "fstat's fields", async (f) => {
    using file = testFile(LITTLE);
    const size = 5 * GIB4 + 12_345;
    fs.truncateSync(file.path, size); // sparse
    const seconds = 1_111_111_111;
    fs.utimesSync(file.path, 1, seconds + 0.5);
    const fd = fs.openSync(file.path, "r");
    const dir = fs.openSync(join(file.path, ".."), "r");
    try {
      const { dev, ino, ctimeMs } = fs.fstatSync(fd);
      const rest = {
        dev: BigInt(dev),
        size,
        regular: true,
        directory: false,
        seconds,
        nanoseconds: 500_000_000,
      };
      const { changed, ...others } = f.libc.stat(fd) as FileStat;
      assertEquals(others, { ...rest, ino: BigInt(ino) });
      assertEquals(Math.floor(changed), Math.floor(ctimeMs / 1000)); // Deno tells no more of it
      f.inodeBase(3 * GIB4);
      assertEquals(f.libc.stat(fd), { ...rest, changed, ino: BigInt(ino + 3 * GIB4) });
      f.inodeBase(0);
      // Before 1970, which the runtimes' own utimes takes for now.
      assertEquals(spawnSync("touch", ["-d", "1969-12-31 23:59:58.5 UTC", file.path]).status, 0);
      const { seconds: early, nanoseconds } = f.libc.stat(fd) as FileStat;
      assertEquals([early, nanoseconds], [-2, 500_000_000]);

      const seen = f.libc.stat(dir);
      assert(typeof seen === "object" && !seen.regular && seen.directory);
      await withSocket(f, ({ fd }) => {
        const seen = f.libc.stat(fd);
        assert(typeof seen === "object" && !seen.regular);
      });
    } finally {
      fs.closeSync(fd);
      fs.closeSync(dir);
    }
    assertEquals(f.libc.stat(2 ** 31 - 1), -EBADF);
  });

  abi(name, "findFile takes a descriptor that can be read", (f) => {
    using file = testFile(LITTLE);
    const { dev, ino } = fs.statSync(file.path);
    const writer = fs.openSync(file.path, "a");
    const reader = fs.openSync(file.path, "r");
    try {
      assertEquals([f.libc.isReadable(writer), f.libc.isReadable(reader)], [false, true]);
      const found = findFile(f.libc, { dev: BigInt(dev), ino: BigInt(ino) })!;
      assert(found !== writer && f.libc.isReadable(found));
      const into = new Uint8Array(LITTLE.length);
      assertEquals(f.libc.pread(found, into, 0), LITTLE.length);
      assertBytes(into, LITTLE);
    } finally {
      fs.closeSync(writer);
      fs.closeSync(reader);
    }
  });

  const addresses = [["127.0.0.1", "127.0.0.1"], ["::1", "::1"], ["::", "127.0.0.1"]];
  for (const [listen, connect] of addresses) {
    const skip = unavailable ?? (listen.includes(":") && !ipv6 ? "no IPv6" : undefined);
    abi(name, `endpoints of a connection from ${connect} to ${listen}`, async (f) => {
      const server = net.createServer();
      const accepted = new Promise<net.Socket>((resolve) => server.once("connection", resolve));
      await new Promise<void>((resolve) => server.listen(0, listen, resolve));
      const client = net.connect((server.address() as net.AddressInfo).port, connect);
      const socket = await accepted;
      try {
        const { localAddress, localPort, remoteAddress, remotePort } = socket;
        const local = f.libc.parseEndpoint(localAddress!, localPort!)!;
        const remote = f.libc.parseEndpoint(remoteAddress!, remotePort!)!;
        const host = loadLibc();
        assert(typeof host !== "string", String(host));
        const fd = findConnection(host, { local, remote });
        assert(fd !== undefined);

        const [here, there] = [new Uint8Array(18), new Uint8Array(18)];
        assert(f.libc.endpoint(fd, "local", here) && f.libc.endpoint(fd, "remote", there));
        assertEquals([here, there], [local, remote]);
        assertEquals(here[16] * 256 + here[17], localPort);
        assertEquals(findConnection(f.libc, { local, remote }), fd);

        // Without a cookie nothing tells a duplicate from another socket.
        const dup = f.libc.dup(fd);
        assertEquals(findConnection(f.libc, { local, remote }), undefined);
        f.libc.close(dup);
      } finally {
        client.destroy();
        socket.destroy();
        server.close();
      }
    }, { skip });
  }

  abi(name, "what has no IP address has no endpoint", async (f) => {
    const dir = folder();
    const server = net.createServer();
    const accepted = new Promise<net.Socket>((resolve) => server.once("connection", resolve));
    await new Promise<void>((resolve) => server.listen(join(dir, "socket"), resolve));
    const client = net.connect(join(dir, "socket"));
    const socket = await accepted;
    const unix = unixSockets();
    const ip = unix.filter((fd) => f.libc.endpoint(fd, "local", new Uint8Array(18)));
    assert(unix.length >= 3, "the listener and both ends");
    assertEquals(ip, []);
    await withFile(LITTLE, (file) => assert(!f.libc.endpoint(file, "local", new Uint8Array(18))));
    client.destroy();
    socket.destroy();
    server.close();
    fs.rmSync(dir, { recursive: true, force: true });
  });

  abi(name, "text that is no address has no endpoint", (f) => {
    for (const text of ["", "localhost", "1.2.3", "1.2.3.256", "::g", "1.2.3.4:5"]) {
      assertEquals(f.libc.parseEndpoint(text, 80), undefined, text);
    }
    assertEquals(f.libc.parseEndpoint("fe80::1%eth0", 80), f.libc.parseEndpoint("fe80::1", 80));
  });

  abi(name, "a duplicate is closed on exec, and closes by itself", (f) =>
    withFile(LITTLE, (file) => {
      const dup = f.libc.dup(file);
      assert(dup >= 0 && dup !== file);
      const flags = /^flags:\s*(\d+)/m.exec(fs.readFileSync(`/proc/self/fdinfo/${dup}`, "utf8"))![1];
      assertEquals(parseInt(flags, 8) & 0o2000000, 0o2000000);
      f.libc.close(dup);
      assert(fs.fstatSync(file).isFile());
      assertEquals(errorName(f, f.libc.dup(2 ** 31 - 1)), "EBADF");
    }));

  abi(name, "the descriptor's flags and the socket's type", async (f) => {
    await withSocket(f, ({ fd }) => {
      assert(f.libc.isStreamSocket(fd) && f.libc.isNonBlocking(fd) && f.libc.isReadable(fd));
      assert(!f.libc.block(fd, "readable", 1));
      assert(f.libc.block(fd, "writable", 1));
    });
    await withFile(LITTLE, (file) => {
      assert(!f.libc.isStreamSocket(file) && !f.libc.isNonBlocking(file));
    });
    using udp = datagramDescriptor();
    assert(!f.libc.isStreamSocket(udp.fd) && f.libc.isNonBlocking(udp.fd));
    try {
      f.libc.isStreamSocket(2 ** 31 - 1);
      assert(false, "a descriptor that is not open is a stream socket");
    } catch (error) {
      assertEquals((error as SendfileError).code, "EBADF");
    }
  });

  abi(name, "names of what sendfile and send refuse", async (f) => {
    using udp = datagramDescriptor();
    await withFile(LITTLE, (file) =>
      withSocket(f, ({ fd, read, rest }) => {
        const { libc } = f;
        assertEquals(errorName(f, libc.sendfile(file, file, 0, 10)), "ENOTSOCK");
        assertEquals(errorName(f, libc.sendfile(udp.fd, file, 0, 10)), "EINVAL");
        assertEquals(errorName(f, libc.sendfile(fd, fd, 0, 10)), name === "darwin" ? "ENOTSUP" : "EINVAL");
        assertEquals(errorName(f, libc.sendfile(fd, 2 ** 31 - 1, 0, 10)), "EBADF");
        assertEquals(errorName(f, libc.send(file, LITTLE, false)), "ENOTSOCK");
        assertEquals(libc.send(fd, LITTLE, false), LITTLE.length);
        assertBytes(read(LITTLE.length), LITTLE);
        assertBytes(rest(), new Uint8Array(0));
        // Nobody is killed by SIGPIPE.
        assertEquals(errorName(f, libc.send(fd, LITTLE, false)), "EPIPE");
        assertEquals(errorName(f, libc.sendfile(fd, file, 0, 10)), "EPIPE");
      }));
  });

  abi(name, "send on a full socket is EAGAIN", (f) =>
    withSocket(f, ({ fd, rest }) => {
      const sent = fill(f, fd, DATA);
      assertBytes(rest(), DATA.subarray(0, sent));
    }, { small: true }));
}

function readiness(name: Name): void {
  abi(name, "kqueue tells writable and readable", (f) =>
    withSocket(f, async ({ fd, peer }) => {
      const p = poller(f.libc);
      let read = false;
      const readable = p.wait(fd, "readable").then(() => read = true);
      // Both filters of one descriptor, and the same one twice: one fires, the other stays.
      await Promise.all([p.wait(fd, "writable"), p.wait(fd, "writable")]);
      await p.wait(fd, "writable");
      // Armed again while its report was under way, a filter is there until it has fired once more, for nobody.
      await until("one filter is left", () => f.knotes() === 1);
      assertEquals([read, p.size], [false, 1]);
      f.libc.send(peer, LITTLE.subarray(0, 1), false);
      await readable;
    }));

  abi(name, "kqueue tells both directions at once", (f) =>
    withSocket(f, async ({ fd, peer }) => {
      const p = poller(f.libc);
      f.libc.send(peer, LITTLE.subarray(0, 1), false);
      assert(f.libc.block(fd, "readable", 10_000));
      await Promise.all([p.wait(fd, "readable"), p.wait(fd, "writable")]);
    }));

  abi(name, "kqueue tells the end of the stream as readable", (f) =>
    withSocket(f, async ({ fd, peer }) => {
      const readable = poller(f.libc).wait(fd, "readable");
      assertEquals(f.knotes(), 1);
      f.libc.shutdown(peer);
      await readable;
    }));

  abi(
    name,
    "kqueue tells a full socket as writable once it has been read from",
    (f) =>
      withSocket(f, async ({ fd, read, rest }) => {
        const sent = fill(f, fd, DATA);
        const controller = new AbortController();
        const aborted = assertRejects(
          () => poller(f.libc).wait(fd, "writable", controller.signal),
          Error,
          "over",
        );
        assertEquals(f.knotes(), 1);
        controller.abort(new Error("over"));
        await aborted;
        assertEquals(f.knotes(), 0);

        let written = false;
        const writable = poller(f.libc).wait(fd, "writable").then(() => written = true);
        // A round trip through the same kqueue: had it been writable, that would have been told before or with it.
        await withSocket(f, (other) => poller(f.libc).wait(other.fd, "writable"));
        assertEquals(written, false);
        const first = read(sent - 10_000);
        await writable;
        assertBytes(concat(first, rest()), DATA.subarray(0, sent));
      }, { small: true }),
  );

  abi(name, "kqueue tells many descriptors", async (f) => {
    const pairs = Array.from({ length: 100 }, () => f.pair());
    const p = poller(f.libc);
    let told = 0;
    const waits = pairs.map(([fd]) => p.wait(fd, "readable").then(() => told++));
    assertEquals([f.knotes(), p.size], [100, 100]);
    await until("all are in one kqueue", () => f.queues() === 1); // an earlier one may be about to close
    for (const [i, [, peer]] of pairs.entries()) {
      if (i % 2 === 0) f.libc.send(peer, LITTLE.subarray(0, 1), false);
    }
    await Promise.all(waits.filter((_, i) => i % 2 === 0));
    assertEquals([told, f.knotes(), p.size], [50, 50, 50]);
    for (const [i, [, peer]] of pairs.entries()) if (i % 2 === 1) f.libc.close(peer);
    await Promise.all(waits);
    for (const [i, [fd, peer]] of pairs.entries()) {
      f.libc.close(fd);
      if (i % 2 === 0) f.libc.close(peer);
    }
  });

  abi(
    name,
    "an aborted wait rejects with the reason and leaves the others",
    (f) =>
      withSocket(f, async ({ fd, peer }) => {
        const p = poller(f.libc);
        const controller = new AbortController();
        const readable = p.wait(fd, "readable");
        const aborted = assertRejects(() => p.wait(fd, "readable", controller.signal), Error, "no more");
        controller.abort(new Error("no more"));
        await aborted;
        await assertRejects(() => p.wait(fd, "readable", controller.signal), Error, "no more");
        assertEquals([f.knotes(), p.size], [1, 1]);
        f.libc.send(peer, LITTLE.subarray(0, 1), false);
        await readable;
      }),
  );

  abi(name, "the last abort wakes the waiter, which ends", (f) =>
    withSocket(f, async ({ fd }) => {
      await idle(f);
      const controller = new AbortController();
      const failed = assertRejects(
        () => poller(f.libc).wait(fd, "readable", controller.signal),
        Error,
        "over",
      );
      await until("a thread waits", () => f.inside() === 1);
      controller.abort(new Error("over"));
      await failed;
      assertEquals(f.knotes(), 0);
      await idle(f);
      assertEquals(f.inside(), 0);
    }));

  abi(
    name,
    "a number that is closed and handed out again is told for itself",
    (f) =>
      withSocket(f, (one) =>
        withSocket(f, async (other) => {
          const { libc } = f;
          const { fcntl, F_DUPFD_CLOEXEC } = libc.system;
          const number = 700; // so high that nobody else gets it
          const p = poller(libc);
          assertEquals(fcntl(libc.library, one.fd, F_DUPFD_CLOEXEC, number), number);
          const controller = new AbortController();
          const aborted = assertRejects(() => p.wait(number, "readable", controller.signal), Error, "closed");
          libc.send(one.peer, LITTLE.subarray(0, 1), false); // its report may be under way
          controller.abort(new Error("closed"));
          libc.close(number);
          assertEquals(fcntl(libc.library, other.fd, F_DUPFD_CLOEXEC, number), number);
          let read = false;
          const readable = p.wait(number, "readable").then(() => read = true);
          await aborted;
          await p.wait(number, "writable");
          assertEquals(read, false);
          libc.send(other.peer, LITTLE.subarray(0, 1), false);
          await readable;
          libc.close(number);
        })),
  );

  abi(name, "what is no descriptor cannot be waited for", async (f) => {
    const error = await assertRejects(() => poller(f.libc).wait(2 ** 31 - 1, "writable"), SendfileError);
    assertEquals(error.code, "EBADF");
    assertEquals([poller(f.libc).size, f.knotes()], [0, 0]);
  });

  abi(name, "no descriptor is left over", async (f) => {
    const rounds = () =>
      withSocket(f, async ({ fd }) => {
        const p = poller(f.libc);
        await p.wait(fd, "writable");
        const controller = new AbortController();
        const failed = assertRejects(() => p.wait(fd, "readable", controller.signal), Error, "over");
        await p.wait(fd, "writable");
        controller.abort(new Error("over"));
        await failed;
        await transfer(f, DATA, { options: { header: HEADER, trailer: TRAILER } });
        f.reset();
      });
    await rounds(); // the runtime's own that come with the first use of anything
    await idle(f);
    // What closes from here on does no harm: the runtime's connections to a registry, an earlier test's sockets.
    const before = new Set(descriptors());
    await rounds();
    await rounds();
    await idle(f);
    const left = () => descriptors().filter((entry) => !before.has(entry));
    await until("no descriptor is left", () => left().length === 0).catch((error) => {
      throw new Error(`${left()}`, { cause: error });
    });
  });
}

for (const name of ["darwin", "freebsd"] as const) {
  partialCounts(name);
  wholeTransfers(name);
  structs(name);
  readiness(name);
}
