import type { Library, Symbols } from "./library.ts";

/** What of a file Linux has in memory. Results below zero are C's: errno says why. */

const POSIX_FADV_WILLNEED = 3;
const RWF_NOWAIT = 8;

/** struct cachestat_range { __u64 off; __u64 len; } */
const range = new BigUint64Array(2);
/** struct cachestat { __u64 nr_cache; … } */
const cachestat = new BigUint64Array(5);
/** struct iovec { void *iov_base; size_t iov_len; }: one byte that nobody looks at. */
const iovec = new BigUint64Array(2);

let pageSize = 0;

export const pageCacheSymbols: Symbols = {
  /** long syscall(SYS_cachestat, unsigned int fd, struct cachestat_range *, struct cachestat *, unsigned int flags) */
  cachestat: { name: "syscall", args: ["usize", "i32", "buffer", "buffer", "u32"], returns: "i32" },
  /**
   * long syscall(SYS_preadv2, int fd, const struct iovec *iov, int iovcnt, unsigned long pos_l, unsigned long pos_h,
   * int flags): glibc has had `preadv2` since 2.26, musl since 1.2.5.
   */
  preadv2: {
    name: "syscall",
    args: ["usize", "i32", "buffer", "i32", "i64", "usize", "i32"],
    returns: "i32",
  },
  /** int posix_fadvise(int fd, off_t offset, off_t len, int advice) */
  posix_fadvise: { args: ["i32", "i64", "i64", "i32"], returns: "i32" },
  /** int getpagesize(void) */
  getpagesize: { args: [], returns: "i32" },
  /** void *malloc(size_t size): an address, which a buffer of JavaScript's does not tell */
  malloc: { args: ["usize"], returns: "usize" },
};

/** asm/unistd.h; new calls have one number on all machines. */
const SYS_cachestat = 451;

/**
 * Pages of a range that are neither in memory nor on their way there. Linux 6.5; to whoever may not write to the file
 * the kernel says EPERM since 6.14.
 */
export function absentPages({ call, wide }: Library, fd: number, offset: number, count: number): number {
  pageSize ||= call.getpagesize();
  range[0] = BigInt(offset);
  range[1] = BigInt(count);
  const result = call.cachestat(wide(SYS_cachestat), fd, range, cachestat, 0);
  if (result < 0) return result;
  const pages = Math.ceil((offset + count) / pageSize) - Math.floor(offset / pageSize);
  return Math.max(0, pages - Number(cachestat[0]));
}

/** Reads a byte where it is in memory: 1, or 0 where the file ends before it. Linux 4.14. */
export function readNow({ call, wide }: Library, number: number, fd: number, offset: number): number {
  if (iovec[0] === 0n) {
    iovec[0] = BigInt(call.malloc(wide(8)));
    iovec[1] = 1n;
  }
  return call.preadv2(wide(number), fd, iovec, 1, wide(offset), wide(0), RWF_NOWAIT);
}

/** Starts to read a range. What cannot be read is left to whoever really reads it. */
export function startReading({ call, wide }: Library, fd: number, offset: number, count: number): void {
  call.posix_fadvise(fd, wide(offset), wide(count), POSIX_FADV_WILLNEED);
}
