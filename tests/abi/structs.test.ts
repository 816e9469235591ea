/** The other systems' structs and numbers: stat, socket addresses, flags, names of errors. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { networkInterfaces } from "node:os";
import { findConnection, findFile } from "../../ffi/find.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import type { FileStat } from "../../ffi/system.ts";
import type { SendfileError } from "../../mod.ts";
import { assertBytes, DATA, descriptors, folder, testFile } from "../support/data.ts";
import { datagramDescriptor } from "../support/helpers.ts";
import { EBADF, type Name, unavailable } from "./fake.ts";
import { abi, errorName, fill, GIB4, LITTLE, withFile, withSocket } from "./fixture.ts";

const ipv6 = Object.values(networkInterfaces()).flat().some((address) => address?.address === "::1");

/** This process's descriptors of unix sockets, by the kernel's own table of them. */
function unixSockets(): number[] {
  const lines = fs.readFileSync("/proc/self/net/unix", "utf8").split("\n").slice(1);
  const inodes = new Set(lines.map((line) => `socket:[${line.trim().split(/\s+/)[6]}]`));
  return descriptors().filter((entry) => inodes.has(entry.split(" ")[1])).map(parseFloat);
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

for (const name of ["darwin", "freebsd"] as const) structs(name);
