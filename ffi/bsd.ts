import { kqueueBlocking, kqueueSymbols } from "./kqueue.ts";
import type { Symbols } from "./library.ts";
import { unixErrors } from "./unix_errors.ts";

/** The fields of `System` that Darwin and FreeBSD share. */
export const bsd = {
  blocking: kqueueBlocking,
  family: (sockaddr: Uint8Array): number => sockaddr[1],
  O_NONBLOCK: 0x4,
  SOL_SOCKET: 0xffff,
  SO_TYPE: 0x1008,
  SO_LINGER: 0x80,
  MSG_MORE: 0,
  TCP_CORK: 4, // TCP_NOPUSH
  cookie: (): bigint => 0n,
} as const;

export const bsdSymbols: Symbols = {
  ...kqueueSymbols,
  errno: { name: "__error", args: [], returns: "pointer" },
};

/** errno.h, where the two agree. */
export const bsdErrors = {
  ...unixErrors,
  35: "EAGAIN",
  38: "ENOTSOCK",
  41: "EPROTOTYPE",
  42: "ENOPROTOOPT",
  51: "ENETUNREACH",
  53: "ECONNABORTED",
  54: "ECONNRESET",
  55: "ENOBUFS",
  57: "ENOTCONN",
  60: "ETIMEDOUT",
  65: "EHOSTUNREACH",
  78: "ENOSYS",
  84: "EOVERFLOW",
} as const;

/** The most descriptors that we scan: with the limit "unlimited" scanning all possible numbers would take too long. */
export const SCAN_LIMIT = 65536;
