import { SendfileError } from "../errors.ts";
import type { Library, Symbols } from "./library.ts";
import type { Selector } from "./selector.ts";
import type { FileStat, System, TcpState } from "./system.ts";

const SHUT_WR = 1;
const F_GETFL = 3;
const O_ACCMODE = 3;
const O_WRONLY = 1;
const POLLIN = 1;
const POLLOUT = 4;
const POLLNVAL = 32;

/** Descriptors checked in one call of poll. */
const POLLED = 1024;

const AF_INET = 2;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SOCK_STREAM = 1;

/** The same C declaration on every system. */
export const commonSymbols: Symbols = {
  /** void *memcpy(void *dest, const void *src, size_t n) */
  memcpy: { args: ["buffer", "pointer", "usize"], returns: "pointer" },
  /** ssize_t read(int fd, void *buf, size_t count) */
  read: { args: ["i32", "buffer", "usize"], returns: "i32" },
  /** ssize_t pread(int fd, void *buf, size_t count, off_t offset) */
  pread: { args: ["i32", "buffer", "usize", "i64"], returns: "i32" },
  /** ssize_t recv(int sockfd, void *buf, size_t len, int flags) */
  recv: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  /** ssize_t write(int fd, const void *buf, size_t count) */
  write: { args: ["i32", "buffer", "usize"], returns: "i32" },
  /** ssize_t send(int sockfd, const void *buf, size_t len, int flags) */
  send: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  /** int close(int fd) */
  close: { args: ["i32"], returns: "i32" },
  /** int getdtablesize(void) */
  getdtablesize: { args: [], returns: "i32" },
  /** int shutdown(int sockfd, int how) */
  shutdown: { args: ["i32", "i32"], returns: "i32" },
  /** int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen) */
  getsockname: { args: ["i32", "buffer", "buffer"], returns: "i32" },
  /** int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen) */
  getpeername: { args: ["i32", "buffer", "buffer"], returns: "i32" },
  /** int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen) */
  getsockopt: { args: ["i32", "i32", "i32", "buffer", "buffer"], returns: "i32" },
  /** int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen) */
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "u32"], returns: "i32" },
  /** int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen) */
  connect: { args: ["i32", "buffer", "u32"], returns: "i32" },
  /** int poll(struct pollfd *fds, nfds_t nfds, int timeout) */
  poll: { args: ["buffer", "usize", "i32"], returns: "i32" },
  /** int inet_pton(int af, const char *src, void *dst) */
  inet_pton: { args: ["i32", "buffer", "buffer"], returns: "i32" },
};

/** Calls that a runtime makes in another thread. */
export const commonBlocking: Symbols = {
  preadAway: { name: "pread", ...commonSymbols.pread },
};

const text = new TextEncoder();

/** Bytes of the longest path on Linux, with its NUL. */
const PATH_MAX = 4096;

/** Bytes of an {@link Endpoint}. */
const ENDPOINT = 18;

/**
 * An IP address as 16 bytes (IPv4 mapped into IPv6) and a port as 2, so that `127.0.0.1` and `::ffff:127.0.0.1`,
 * which runtimes report for the same socket, compare equal.
 */
export type Endpoint = Uint8Array;

/**
 * The C library for the rest of this package: descriptors, bytes and error names, but no errno numbers and no
 * structs. Calls in the path of every transfer return a negated errno instead of throwing.
 */
export class Libc {
  readonly library: Library;
  readonly system: System;
  readonly #errno: unknown;
  readonly #errnoOut = new Int32Array(1);
  readonly #errnoBytes = new Uint8Array(this.#errnoOut.buffer);
  readonly #four: number | bigint;
  readonly #sockaddr = new Uint8Array(128);
  readonly #endpoint = new Uint8Array(ENDPOINT);
  readonly #length = new Uint32Array(1);
  readonly #value = new Int32Array(1);
  readonly #linger = new Int32Array(2);
  readonly #path = new Uint8Array(PATH_MAX);
  /** The same buffer without its last byte, which is reserved for the NUL. */
  readonly #pathText = this.#path.subarray(0, PATH_MAX - 1);
  readonly #pollfd = new Int32Array(2);
  readonly #polled = new Int32Array(2 * POLLED);
  readonly #one: number | bigint;
  #tellsAbsent: boolean;
  readonly #stat: FileStat = {
    regular: false,
    directory: false,
    size: 0,
    dev: 0n,
    ino: 0n,
    seconds: 0,
    nanoseconds: 0,
    changed: 0,
  };
  readonly #tcp: TcpState = { halfClosed: false, closed: false, written: 0, acked: 0, received: 0 };

  constructor(library: Library, system: System) {
    this.library = library;
    this.system = system;
    this.#four = library.wide(4);
    this.#one = library.wide(1);
    this.#tellsAbsent = system.pageCache !== undefined;
    // errno has one address per thread, and an instance never leaves its thread.
    this.#errno = library.call.errno();
  }

  /** The negated errno of the call just made. Must be the very next call. */
  #failed(): number {
    // memcpy instead of a pointer view: Deno refuses the view when the permission is limited to a path.
    this.library.call.memcpy(this.#errnoBytes, this.#errno, this.#four);
    return -this.#errnoOut[0];
  }

  /** The system's name for a negated errno: "EAGAIN". */
  errorName(result: number): string {
    return this.system.errors[-result] ?? `E${-result}`;
  }

  /** The error for a negated errno. */
  error(result: number, syscall: string, sent = 0): SendfileError {
    const code = this.errorName(result);
    return new SendfileError(`${syscall}: ${code}`, { code, errno: -result, syscall, sent });
  }

  /** Returns the bytes sent; 0 at the end of the file; a negated errno if nothing was sent. `count` is at least 1. */
  sendfile(out: number, file: number, offset: number, count: number): number {
    const result = this.system.sendfile(this.library, out, file, offset, count);
    return result < 0 ? this.#failed() : result;
  }

  /** Bytes read at an absolute position, 0 at the end, or a negated errno. */
  pread(fd: number, into: Uint8Array, position: number): number {
    const { call, wide } = this.library;
    for (;;) {
      const result = call.pread(fd, into, wide(into.length), wide(position));
      if (result >= 0) return result;
      const failed = this.#failed();
      if (this.errorName(failed) !== "EINTR") return failed; // a signal; happens on NFS and FUSE
    }
  }

  /**
   * As `pread`, in a thread of the runtime; only if `library.callsAway`. The caller keeps `fd` open until the promise
   * settles.
   */
  async preadAway(fd: number, into: Uint8Array, position: number): Promise<number> {
    const { call, wide } = this.library;
    const result: number = await call.preadAway(fd, into, wide(into.length), wide(position));
    // errno belongs to the other thread, so we repeat the call here to learn the error.
    return result < 0 ? this.pread(fd, into, position) : result;
  }

  /** Bytes received on a socket, 0 at the end of the stream, or a negated errno. Never waits. */
  receive(fd: number, into: Uint8Array): number {
    const { call, wide } = this.library;
    const result = call.recv(fd, into, wide(into.length), this.system.sendFlags); // MSG_DONTWAIT is among them
    return result < 0 ? this.#failed() : result;
  }

  /**
   * Returns the bytes sent, or a negated errno. `more`: hold the bytes back until more follow, if the system can. Never
   * waits.
   */
  send(fd: number, bytes: Uint8Array, more: boolean): number {
    const { sendFlags, MSG_MORE } = this.system;
    const flags = more ? sendFlags | MSG_MORE : sendFlags;
    const result = this.library.call.send(fd, bytes, this.library.wide(bytes.length), flags);
    return result < 0 ? this.#failed() : result;
  }

  /** Whether `send` with `more` holds bytes back without a cork. */
  get hasMore(): boolean {
    return this.system.MSG_MORE !== 0;
  }

  /** Holds back the last partial segment, or releases it. Sockets other than TCP have no cork and need none. */
  cork(fd: number, on: boolean): void {
    const result = this.setOption(fd, IPPROTO_TCP, this.system.TCP_CORK, on ? 1 : 0);
    if (!on && result === 0) this.system.push?.(this.library, fd);
  }

  /** setsockopt with an int; 0 or a negated errno. */
  setOption(fd: number, level: number, option: number, value: number): number {
    this.#value[0] = value;
    const result = this.library.call.setsockopt(fd, level, option, this.#value, 4);
    return result < 0 ? this.#failed() : result;
  }

  /** The value of TCP_NODELAY; undefined if `fd` is not a TCP socket. */
  noDelay(fd: number): boolean | undefined {
    this.#length[0] = 4;
    const result = this.library.call.getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, this.#value, this.#length);
    return result < 0 ? undefined : this.#value[0] !== 0;
  }

  /** The name of a TCP connection's congestion control ("cubic", "bbr"); undefined if the system does not tell. */
  congestionControl(fd: number): string | undefined {
    return this.system.congestionControl?.(this.library, fd);
  }

  /** A duplicate of `fd` that a child process does not inherit, or a negated errno. The caller closes it. */
  dup(fd: number): number {
    const result = this.system.fcntl(this.library, fd, this.system.F_DUPFD_CLOEXEC, 0);
    return result < 0 ? this.#failed() : result;
  }

  /** Whether the system can tell, for some files at least, which parts are in memory. */
  get tellsCached(): boolean {
    return this.system.pageCache !== undefined;
  }

  /**
   * Whether a whole range of a file is in memory or being read, by any process; undefined if the system does not
   * tell. After a refusal we do not ask again: the kernel is too old, or does not tell this user.
   */
  isCached(fd: number, offset: number, count: number): boolean | undefined {
    if (!this.#tellsAbsent) return undefined;
    const absent = this.system.pageCache!.absent(this.library, fd, offset, count);
    if (absent >= 0) return absent === 0;
    this.#tellsAbsent = false;
    return undefined;
  }

  /**
   * Whether the byte at `offset` can be read without waiting for the disk. True also after the end of the file, or if
   * reading fails. Undefined if the file system does not tell.
   */
  canReadNow(fd: number, offset: number): boolean | undefined {
    const { pageCache } = this.system;
    const result = pageCache ? pageCache.readNow(this.library, fd, offset) : -1;
    if (result >= 0) return true;
    const code = pageCache && this.errorName(this.#failed());
    if (code === "EAGAIN" || code === "EINTR") return false;
    return code === "EIO" ? true : undefined;
  }

  /** Makes the system read a range of a file into memory, and does not wait for it. */
  readAhead(fd: number, offset: number, count: number): void {
    this.system.pageCache?.startReading(this.library, fd, offset, count);
  }

  close(fd: number): void {
    this.library.call.close(fd);
  }

  /**
   * Resets a TCP connection and discards what is still queued: on Linux at once, even if other descriptors are open;
   * on other systems when the last descriptor is closed.
   */
  reset(fd: number): void {
    // struct linger { int l_onoff; int l_linger; }
    this.#linger[0] = 1;
    const { SOL_SOCKET, SO_LINGER } = this.system;
    this.library.call.setsockopt(fd, SOL_SOCKET, SO_LINGER, this.#linger, 8);
    this.#sockaddr.fill(0); // AF_UNSPEC
    this.library.call.connect(fd, this.#sockaddr, 16);
  }

  /** Ends the sending direction: the peer sees the end of the stream. */
  shutdown(fd: number): void {
    this.library.call.shutdown(fd, SHUT_WR);
  }

  /** The fstat of `fd`, or a negated errno. The next call reuses the object. */
  stat(fd: number): FileStat | number {
    const result = this.system.stat(this.library, fd, this.#stat);
    return result < 0 ? this.#failed() : this.#stat;
  }

  /**
   * The stat of `path`, following symlinks; undefined if the call fails, or if the system has no such call here. The
   * next call reuses the object. Deno's permissions do not apply.
   */
  statPath(path: string): FileStat | undefined {
    const { read, written } = text.encodeInto(path, this.#pathText);
    if (read < path.length) return undefined;
    this.#path[written] = 0;
    const result = this.system.statPath?.(this.library, this.#path, this.#stat) ?? -1;
    return result < 0 ? undefined : this.#stat;
  }

  /** The real path of an open descriptor; undefined if the system does not tell. Not exact if the name is not UTF-8. */
  path(fd: number): string | undefined {
    return this.system.path?.(this.library, fd);
  }

  /** Whether `fd` is open and may be read from. */
  isReadable(fd: number): boolean {
    const flags = this.system.fcntl(this.library, fd, F_GETFL, 0);
    return flags >= 0 && (flags & O_ACCMODE) !== O_WRONLY;
  }

  isNonBlocking(fd: number): boolean {
    return (this.system.fcntl(this.library, fd, F_GETFL, 0) & this.system.O_NONBLOCK) !== 0;
  }

  /** Whether `fd` is a stream socket. Throws if it is not open. */
  isStreamSocket(fd: number): boolean {
    this.#length[0] = 4;
    const { SOL_SOCKET, SO_TYPE } = this.system;
    if (this.library.call.getsockopt(fd, SOL_SOCKET, SO_TYPE, this.#value, this.#length) === 0) {
      return this.#value[0] === SOCK_STREAM;
    }
    const error = this.lastError("getsockopt");
    if (error.code === "EBADF") throw error;
    return false;
  }

  /** The state of a TCP connection; undefined if the system does not tell. The next call reuses the object. */
  tcp(fd: number): Readonly<TcpState> | undefined {
    return this.system.tcp?.(this.library, fd, this.#tcp) ? this.#tcp : undefined;
  }

  /** A number that identifies this socket until the next boot; 0 if the system has none, or `fd` is not a socket. */
  cookie(fd: number): bigint {
    return this.system.cookie(this.library, fd);
  }

  /**
   * Reads the local or remote address of `fd` into `into`; false if it has no IP address, or not the port of `only`.
   */
  endpoint(fd: number, end: "local" | "remote", into: Endpoint, only?: Endpoint): boolean {
    const { call } = this.library;
    const sockaddr = this.#sockaddr;
    this.#length[0] = sockaddr.length;
    const get = end === "local" ? call.getsockname : call.getpeername;
    if (get(fd, sockaddr, this.#length) < 0) return false;
    // The port is at the same offset in each family, and is the most likely to differ.
    if (only && (sockaddr[3] !== only[17] || sockaddr[2] !== only[16])) return false;
    const family = this.system.family(sockaddr);
    if (family === AF_INET) mapIPv4(into, sockaddr, 4);
    else if (family === this.system.AF_INET6) into.set(sockaddr.subarray(8, 24));
    else return false;
    into[16] = sockaddr[2];
    into[17] = sockaddr[3];
    return true;
  }

  /** Whether the local or remote address of `fd` is `endpoint`. */
  hasEndpoint(fd: number, end: "local" | "remote", endpoint: Endpoint): boolean {
    const mine = this.#endpoint;
    return this.endpoint(fd, end, mine, endpoint) && mine.every((byte, i) => byte === endpoint[i]);
  }

  /** Parses an IP address as text and a port. */
  parseEndpoint(hostname: string, port: number): Endpoint | undefined {
    const endpoint = new Uint8Array(ENDPOINT);
    const colon = hostname.includes(":");
    const source = new TextEncoder().encode(hostname.replace(/%.*/, "") + "\0");
    const address = new Uint8Array(16);
    const family = colon ? this.system.AF_INET6 : AF_INET;
    if (this.library.call.inet_pton(family, source, address) !== 1) return undefined;
    if (colon) endpoint.set(address);
    else mapIPv4(endpoint, address, 0);
    endpoint[16] = port >> 8;
    endpoint[17] = port;
    return endpoint;
  }

  /** How many descriptors this process may have open (the soft RLIMIT_NOFILE); Infinity if there is no limit. */
  maxDescriptors(): number {
    const limit = this.library.call.getdtablesize();
    return limit > 0 ? limit : Infinity;
  }

  /** How many descriptors this process has open; undefined if the system does not count them. */
  countDescriptors(): number | undefined {
    return this.system.countDescriptors?.(this.library);
  }

  /** One above the highest descriptor that may be open in this process. */
  descriptorLimit(): number {
    return this.system.descriptorLimit(this.library);
  }

  /**
   * Blocks this thread until `fd` is writable or readable; false after `ms` milliseconds (-1: no limit; 0: only
   * checks).
   */
  block(fd: number, event: "readable" | "writable", ms: number): boolean {
    // struct pollfd { int fd; short events; short revents; }
    this.#pollfd[0] = fd;
    this.#pollfd[1] = event === "readable" ? POLLIN : POLLOUT;
    // An error such as EINTR counts as readiness: the caller then tries again and waits again.
    return this.library.call.poll(this.#pollfd, this.#one, ms) !== 0;
  }

  /**
   * Calls `each` with every open descriptor below `limit` until it returns false. poll(2) tells which are open:
   * checking each number on its own takes ten times as long if few are open.
   */
  eachOpen(limit: number, each: (fd: number) => boolean): void {
    for (let from = 0; from < limit; from += POLLED) {
      // In parts: poll refuses more than RLIMIT_NOFILE entries.
      const count = Math.min(POLLED, limit - from);
      for (let i = 0; i < count; i++) {
        this.#polled[2 * i] = from + i;
        this.#polled[2 * i + 1] = 0;
      }
      const known = this.library.call.poll(this.#polled, this.library.wide(count), 0) >= 0;
      for (let i = 0; i < count; i++) {
        if (known && (this.#polled[2 * i + 1] >> 16) & POLLNVAL) continue;
        if (!each(from + i)) return;
      }
    }
  }

  openSelector(): Selector {
    return this.system.openSelector(this.library, (result, syscall) => {
      if (result < 0) throw this.error(this.#failed(), syscall);
      return result;
    });
  }

  /** The error of a call that has just failed. */
  lastError(syscall: string): SendfileError {
    return this.error(this.#failed(), syscall);
  }
}

function mapIPv4(endpoint: Endpoint, source: Uint8Array, at: number): void {
  endpoint.fill(0, 0, 10);
  endpoint.fill(0xff, 10, 12);
  for (let i = 0; i < 4; i++) endpoint[12 + i] = source[at + i];
}
