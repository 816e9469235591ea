import { epollBlocking, epollSymbols, openEpoll } from "./epoll.ts";
import { absentPages, pageCacheSymbols, readNow, startReading } from "./page_cache.ts";
import type { Library } from "./library.ts";
import { type FileStat, readMode, readTimes, type System, uint64 } from "./system.ts";
import { unixErrors } from "./unix_errors.ts";

const text = new TextEncoder();
const utf8 = new TextDecoder();

/** off_t, in and out. Written as two halves, because a BigInt for each call would create garbage. */
const offsetInOut = new Uint32Array(2);

/** struct stat: st_mode is at different offsets on the two architectures. */
const stat = new DataView(new ArrayBuffer(144));
const statBytes = new Uint8Array(stat.buffer);

/** fcntl.h: relative paths start at the working directory. */
const AT_FDCWD = -100;

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const TCP_CLOSE = 7;
const TCP_CLOSE_WAIT = 8;
/** linux/tcp.h: struct tcp_info up to tcpi_bytes_retrans, which Linux 4.19 added. */
const tcpInfo = new DataView(new ArrayBuffer(216));
const tcpInfoBytes = new Uint8Array(tcpInfo.buffer);

const TCP_CONGESTION = 13;
/** TCP_CA_NAME_MAX */
const congestionName = new Uint8Array(16);

const SO_COOKIE = 57;
const cookieOut = new BigUint64Array(1);
const lengthOut = new Uint32Array(1);

const LINKS = text.encode("/proc/self/fd\0");
const PATH_MAX = 4096;
const pathBytes = new Uint8Array(PATH_MAX);

const STATUS = text.encode("/proc/self/status\0");
const statusBytes = new Uint8Array(1024);
const O_CLOEXEC = 0x80000;

/** Linux, x86-64 and arm64 (LP64, little endian). */
export function linux(arch: "x64" | "arm64"): System {
  // asm/unistd.h and asm/stat.h
  const SYS_fstat = arch === "x64" ? 5 : 80;
  const SYS_newfstatat = arch === "x64" ? 262 : 79;
  const SYS_preadv2 = arch === "x64" ? 327 : 286;
  let links = -1;
  // A directory that stays open: a readlink relative to it takes 2.3 µs, from / 3.8 µs.
  const openLinks = (call: Library["call"]): number => {
    if (links < 0) links = call.open(LINKS, O_CLOEXEC); // tried again if descriptors had run out before
    return links;
  };
  const modeAt = arch === "x64" ? 24 : 16;
  const readStat = (into: FileStat): void => {
    into.dev = stat.getBigUint64(0, true);
    into.ino = stat.getBigUint64(8, true);
    readMode(into, stat.getUint32(modeAt, true));
    readTimes(into, stat, 88);
    into.size = uint64(stat, 48);
  };
  const triplet = arch === "x64" ? "x86_64-linux-gnu" : "aarch64-linux-gnu";
  const musl = arch === "x64" ? "x86_64" : "aarch64";
  return {
    name: "linux",
    libraries: [
      "libc.so.6",
      `/usr/lib/${triplet}/libc.so.6`,
      `/lib/${triplet}/libc.so.6`,
      "/usr/lib64/libc.so.6",
      "/lib64/libc.so.6",
      "/usr/lib/libc.so.6",
      `/lib/ld-musl-${musl}.so.1`,
      `/lib/libc.musl-${musl}.so.1`,
    ],
    symbols: {
      ...epollSymbols,
      ...pageCacheSymbols,
      errno: { name: "__errno_location", args: [], returns: "pointer" },
      /**
       * ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count): a call sends < 2 GiB, so the result
       * fits in 32 bits
       */
      sendfile: { args: ["i32", "i32", "buffer", "usize"], returns: "i32" },
      /**
       * long syscall(SYS_fstat, int fd, struct stat *statbuf): glibc before 2.33 has no symbol `fstat`. statx(2) has
       * one layout for all architectures, but first looks up an empty path.
       */
      fstat: { name: "syscall", args: ["usize", "i32", "buffer"], returns: "i32" },
      /** long syscall(SYS_newfstatat, int dirfd, const char *pathname, struct stat *statbuf, int flags) */
      fstatat: { name: "syscall", args: ["usize", "i32", "buffer", "buffer", "i32"], returns: "i32" },
      /** int fcntl(int fd, int cmd, ... arg): on these two ABIs a variadic argument is passed like any other */
      fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
      /** ssize_t readlinkat(int dirfd, const char *pathname, char *buf, size_t bufsiz) */
      readlinkat: { args: ["i32", "buffer", "buffer", "usize"], returns: "i32" },
      /** int open(const char *pathname, int flags) */
      open: { args: ["buffer", "i32"], returns: "i32" },
    },
    blocking: epollBlocking,
    errors: {
      ...unixErrors,
      11: "EAGAIN",
      38: "ENOSYS",
      75: "EOVERFLOW",
      88: "ENOTSOCK",
      92: "ENOPROTOOPT",
      95: "EOPNOTSUPP",
      101: "ENETUNREACH",
      103: "ECONNABORTED",
      104: "ECONNRESET",
      105: "ENOBUFS",
      107: "ENOTCONN",
      110: "ETIMEDOUT",
      113: "EHOSTUNREACH",
    },
    AF_INET6: 10,
    family: (sockaddr) => sockaddr[0] | (sockaddr[1] << 8),
    O_NONBLOCK: 0x800,
    F_DUPFD_CLOEXEC: 1030,
    SOL_SOCKET: 1,
    SO_TYPE: 3,
    SO_LINGER: 13,
    sendFlags: 0x4000 | 0x40,
    MSG_MORE: 0x8000,
    TCP_CORK: 3,
    fcntl: ({ call }, fd, command, argument) => call.fcntl(fd, command, argument),
    stat({ call, wide }, fd, into) {
      const result = call.fstat(wide(SYS_fstat), fd, statBytes);
      if (result >= 0) readStat(into);
      return result;
    },
    statPath({ call, wide }, path, into) {
      const result = call.fstatat(wide(SYS_newfstatat), AT_FDCWD, path, statBytes, 0);
      if (result >= 0) readStat(into);
      return result;
    },
    pageCache: {
      absent: absentPages,
      readNow: (library, fd, offset) => readNow(library, SYS_preadv2, fd, offset),
      startReading,
    },
    path({ call, wide }, fd) {
      const length = call.readlinkat(openLinks(call), text.encode(`${fd}\0`), pathBytes, wide(PATH_MAX));
      return length < 0 || length === PATH_MAX ? undefined : utf8.decode(pathBytes.subarray(0, length));
    },
    sendfile({ call, wide }, out, file, offset, count) {
      offsetInOut[0] = offset;
      offsetInOut[1] = offset / 0x1_0000_0000;
      return call.sendfile(out, file, offsetInOut, wide(count));
    },
    tcp({ call }, fd, into) {
      lengthOut[0] = tcpInfoBytes.length;
      const result = call.getsockopt(fd, IPPROTO_TCP, TCP_INFO, tcpInfoBytes, lengthOut);
      if (result < 0 || lengthOut[0] < tcpInfoBytes.length) return false;
      const state = tcpInfo.getUint8(0);
      into.halfClosed = state === TCP_CLOSE_WAIT;
      into.closed = state === TCP_CLOSE;
      into.acked = uint64(tcpInfo, 120);
      into.received = uint64(tcpInfo, 128);
      // tcpi_bytes_sent - tcpi_bytes_retrans + tcpi_notsent_bytes: in one call, so that all three are from the same
      // moment
      into.written = uint64(tcpInfo, 200) - uint64(tcpInfo, 208) + tcpInfo.getUint32(144, true);
      return true;
    },
    congestionControl({ call }, fd) {
      lengthOut[0] = congestionName.length;
      if (call.getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestionName, lengthOut) !== 0) return undefined;
      return utf8.decode(congestionName.subarray(0, lengthOut[0])).replace(/\0[^]*/, "");
    },
    cookie({ call }, fd) {
      lengthOut[0] = 8;
      cookieOut[0] = 0n;
      return call.getsockopt(fd, 1, SO_COOKIE, cookieOut, lengthOut) === 0 ? cookieOut[0] : 0n;
    },
    countDescriptors({ call, wide }) {
      // st_size of /proc/self/fd: since Linux 6.2; 0 before.
      if (call.fstat(wide(SYS_fstat), openLinks(call), statBytes) < 0) return undefined;
      return uint64(stat, 48) || undefined;
    },
    descriptorLimit({ call, wide }) {
      // Opened by libc, because Deno allows reading /proc only with --allow-all. The path is fixed, so this bypasses
      // no check of a user's path.
      const fd = call.open(STATUS, O_CLOEXEC);
      if (fd < 0) return 1024;
      // The line is near the start of the file; the lines before it are short.
      const length = Number(call.read(fd, statusBytes, wide(statusBytes.length)));
      call.close(fd);
      const size = /^FDSize:\s*(\d+)/m.exec(utf8.decode(statusBytes.subarray(0, length)));
      return size ? Number(size[1]) : 1024;
    },
    openSelector: (library, check) => openEpoll(library, arch === "x64", check),
  };
}
