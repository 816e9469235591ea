import type { Library, Symbols } from "./library.ts";

/** Linux calls about the page cache. Results below zero are as in C, with the error in errno. */

const POSIX_FADV_WILLNEED = 3;
const RWF_NOWAIT = 8;

/** struct cachestat_range { __u64 off; __u64 len; } */
const range = new BigUint64Array(2);
/** struct cachestat { __u64 nr_cache; … } */
const cachestat = new BigUint64Array(5);
/** struct iovec { void *iov_base; size_t iov_len; }: one byte, which is ignored. */
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
  /** void *malloc(size_t size): gives memory whose address is known, unlike that of a JavaScript buffer */
  malloc: { args: ["usize"], returns: "usize" },
};

/** asm/unistd.h; new calls have the same number on all architectures. */
const SYS_cachestat = 451;

/**
 * Counts the pages of a range that are neither in memory nor being read. Linux 6.5; since 6.14 the kernel returns
 * EPERM to a user that may not write to the file.
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

/** Reads a byte only if it is in memory: returns 1, or 0 if the file ends before it. Linux 4.14. */
export function readNow({ call, wide }: Library, number: number, fd: number, offset: number): number {
  if (iovec[0] === 0n) {
    iovec[0] = BigInt(call.malloc(wide(8)));
    iovec[1] = 1n;
  }
  return call.preadv2(wide(number), fd, iovec, 1, wide(offset), wide(0), RWF_NOWAIT);
}

/** Starts to read a range into memory. Ignores errors: the actual read reports them. */
export function startReading({ call, wide }: Library, fd: number, offset: number, count: number): void {
  call.posix_fadvise(fd, wide(offset), wide(count), POSIX_FADV_WILLNEED);
}
