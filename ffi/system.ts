import type { Library, Symbols } from "./library.ts";
import type { Selector } from "./selector.ts";

/** Throws the system's error where a native call returned below zero; gives the result back otherwise. */
export type Check = (result: number, syscall: string) => number;

/**
 * What one operating system does in its own way: constants, struct layouts, and the few calls whose shape
 * differs. A new system is one more file with one of these.
 */
export interface System {
  readonly name: "linux" | "darwin" | "freebsd";
  /** Where its C library may be, best first. */
  readonly libraries: readonly string[];
  readonly symbols: Symbols;
  readonly blocking: Symbols;
  /** errno.h: every code the loop treats in its own way, and the likely rest. */
  readonly errors: Readonly<Record<number, string>>;
  readonly AF_INET6: number;
  /** Offset and width of `sa_family`: the BSDs put a length byte before it. */
  readonly family: (sockaddr: Uint8Array) => number;
  readonly O_NONBLOCK: number;
  readonly F_DUPFD_CLOEXEC: number;
  readonly SOL_SOCKET: number;
  readonly SO_TYPE: number;
  readonly SO_LINGER: number;
  /** `MSG_NOSIGNAL | MSG_DONTWAIT` where the system has them. */
  readonly sendFlags: number;
  /** `MSG_MORE`; 0 where there is none, and the cork serves. */
  readonly MSG_MORE: number;
  /** `TCP_CORK` or `TCP_NOPUSH`. */
  readonly TCP_CORK: number;
  /** Sends what the cork has held back, where taking it off does not. */
  push?(library: Library, fd: number): void;
  /** fcntl with one argument. It is variadic in C, which some ABIs pass in another place. */
  fcntl(library: Library, fd: number, command: number, argument: number): number;
  /** Reads `struct stat` of an open descriptor into `into`; below zero as C does. */
  stat(library: Library, fd: number, into: FileStat): number;
  /**
   * One sendfile call: bytes sent where that is above zero, also when the call ended with an error; 0 at the end
   * of the file; -1 with errno set otherwise.
   */
  sendfile(library: Library, out: number, file: number, offset: number, count: number): number;
  /** Present where the system tells what of a file is in memory. */
  readonly pageCache?: PageCache;
  /** The path that an open descriptor stands for, symlinks resolved; undefined where the system does not tell. */
  path?(library: Library, fd: number): string | undefined;
  /** Reads what a TCP connection has done into `into`; false where the system does not tell, or for another socket. */
  tcp?(library: Library, fd: number, into: TcpState): boolean;
  /** The name of a TCP connection's congestion control; undefined where the system does not tell. */
  congestionControl?(library: Library, fd: number): string | undefined;
  /** A number that no other socket of this boot has; 0 where the system has none. */
  cookie(library: Library, fd: number): bigint;
  /** Descriptors that this process has open; undefined where the system does not count them. */
  countDescriptors?(library: Library): number | undefined;
  /** One above the highest descriptor that may be open. */
  descriptorLimit(library: Library): number;
  openSelector(library: Library, check: Check): Selector;
}

/** What of a file is in memory, and the reading of what is not. Below zero as C does. */
export interface PageCache {
  /** Pages of a range that are neither in memory nor on their way there. */
  absent(library: Library, fd: number, offset: number, count: number): number;
  /** Reads a byte, which is thrown away, where that takes no wait for the disk; 0 at the end of the file. */
  readNow(library: Library, fd: number, offset: number): number;
  /** Starts to read a range, and does not wait for it. */
  startReading(library: Library, fd: number, offset: number, count: number): void;
}

/** The fields of `struct stat` in use. */
export interface FileStat {
  /** st_mode's type says regular file. */
  regular: boolean;
  directory: boolean;
  /** st_size in bytes. */
  size: number;
  /** Exact: a double is not, from 2^53 on. */
  dev: bigint;
  ino: bigint;
  /** st_mtim: the last modification, in seconds since 1970 and nanoseconds from there. */
  seconds: number;
  nanoseconds: number;
  /** st_ctim: the last change of anything about it, also of its name, in seconds since 1970. */
  changed: number;
}

/** What a TCP connection has done so far. */
export interface TcpState {
  /** The peer has ended its direction, and this side has not ended its own: CLOSE_WAIT. */
  halfClosed: boolean;
  /** It is over, for both sides. */
  closed: boolean;
  /** Bytes written to the socket, and of those the ones that the peer's system has acknowledged. */
  written: number;
  acked: number;
  /** Bytes that the peer has sent. */
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

/** Two 32-bit halves of an unsigned 64-bit integer; exact up to 2^53. */
export function uint64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
}
