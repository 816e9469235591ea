import type { Library, Symbols } from "./library.ts";
import type { Selector } from "./selector.ts";

/** Throws the system's error if a native call returned below zero; otherwise returns the result. */
export type Check = (result: number, syscall: string) => number;

/**
 * What is specific to one operating system: constants, struct layouts, and the few calls whose signature differs. To
 * add a system, add a file with one of these.
 */
export interface System {
  readonly name: "linux" | "darwin" | "freebsd";
  /** Where the C library may be, best first. */
  readonly libraries: readonly string[];
  readonly symbols: Symbols;
  readonly blocking: Symbols;
  /** errno.h: every code that the sendfile loop handles specially, and other likely ones. */
  readonly errors: Readonly<Record<number, string>>;
  readonly AF_INET6: number;
  /** Offset and width of `sa_family`: the BSDs put a length byte before it. */
  readonly family: (sockaddr: Uint8Array) => number;
  readonly O_NONBLOCK: number;
  readonly F_DUPFD_CLOEXEC: number;
  readonly SOL_SOCKET: number;
  readonly SO_TYPE: number;
  readonly SO_LINGER: number;
  /** `MSG_NOSIGNAL | MSG_DONTWAIT` if the system has them. */
  readonly sendFlags: number;
  /** `MSG_MORE`; 0 if there is none and the cork is used instead. */
  readonly MSG_MORE: number;
  /** `TCP_CORK` or `TCP_NOPUSH`. */
  readonly TCP_CORK: number;
  /** Sends the bytes that the cork has held back, on systems where uncorking does not send them. */
  push?(library: Library, fd: number): void;
  /** fcntl with one argument. It is variadic in C, and some ABIs pass variadic arguments differently. */
  fcntl(library: Library, fd: number, command: number, argument: number): number;
  /** Reads `struct stat` of an open descriptor into `into`; below zero as C does. */
  stat(library: Library, fd: number, into: FileStat): number;
  /** Reads `struct stat` of a path, following symlinks. `path` ends with a NUL. Present on Linux. */
  statPath?(library: Library, path: Uint8Array, into: FileStat): number;
  /**
   * One sendfile call. Returns the bytes sent if any were, even if the call ended with an error; 0 at the end of the
   * file; otherwise -1 with errno set.
   */
  sendfile(library: Library, out: number, file: number, offset: number, count: number): number;
  /** Present if the system reports which parts of a file are in memory. */
  readonly pageCache?: PageCache;
  /** The real path of an open descriptor; undefined if the system does not tell. */
  path?(library: Library, fd: number): string | undefined;
  /**
   * Reads the state of a TCP connection into `into`; false if the system does not tell, or for another kind of
   * socket.
   */
  tcp?(library: Library, fd: number, into: TcpState): boolean;
  /** The name of a TCP connection's congestion control; undefined if the system does not tell. */
  congestionControl?(library: Library, fd: number): string | undefined;
  /** A number that identifies the socket until the next boot; 0 if the system has none. */
  cookie(library: Library, fd: number): bigint;
  /** The number of descriptors that this process has open; undefined if the system does not count them. */
  countDescriptors?(library: Library): number | undefined;
  /** One above the highest descriptor that may be open. */
  descriptorLimit(library: Library): number;
  openSelector(library: Library, check: Check): Selector;
}

/** Calls about the page cache. Results below zero are as in C. */
export interface PageCache {
  /** The number of pages of a range that are neither in memory nor being read. */
  absent(library: Library, fd: number, offset: number, count: number): number;
  /** Reads a byte and discards it, if that needs no wait for the disk; 0 at the end of the file. */
  readNow(library: Library, fd: number, offset: number): number;
  /** Starts to read a range into memory, and does not wait for it. */
  startReading(library: Library, fd: number, offset: number, count: number): void;
}

/** The fields of `struct stat` that we use. */
export interface FileStat {
  /** st_mode's type says regular file. */
  regular: boolean;
  directory: boolean;
  /** st_size in bytes. */
  size: number;
  /** A bigint, because a double is not exact above 2^53. */
  dev: bigint;
  ino: bigint;
  /** st_mtim: the last modification, in seconds since 1970 and nanoseconds from there. */
  seconds: number;
  nanoseconds: number;
  /** st_ctim: the last change of anything about it, also of its name, in seconds since 1970. */
  changed: number;
}

/** The state of a TCP connection. */
export interface TcpState {
  /** The peer has half-closed, and this side has not: CLOSE_WAIT. */
  halfClosed: boolean;
  /** Both sides have closed. */
  closed: boolean;
  /** Bytes written to the socket, and bytes of those that the peer's system has acknowledged. */
  written: number;
  acked: number;
  /** Bytes received from the peer. */
  received: number;
}

/** Reads `st_mode`: `S_IFMT` and the types are the same on every system here. */
export function readMode(into: FileStat, mode: number): void {
  const type = mode & 0o170000;
  into.regular = type === 0o100000;
  into.directory = type === 0o040000;
}

/** Reads `struct timespec st_mtim` and `st_ctim`, which follows it: 64-bit on every system here. */
export function readTimes(into: FileStat, view: DataView, offset: number): void {
  into.seconds = int64(view, offset);
  into.nanoseconds = view.getUint32(offset + 8, true);
  into.changed = int64(view, offset + 16) + view.getUint32(offset + 24, true) / 1e9;
}

function int64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getInt32(offset + 4, true) * 0x1_0000_0000;
}

/** Reads an unsigned 64-bit integer from two 32-bit halves; exact up to 2^53. */
export function uint64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
}
