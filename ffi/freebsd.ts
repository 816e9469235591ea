import { bsd, bsdErrors, bsdSymbols, SCAN_LIMIT } from "./bsd.ts";
import { openKqueue } from "./kqueue.ts";
import { readMode, readTimes, type System, uint64 } from "./system.ts";

const EVFILT_USER = -11;

/** struct stat since FreeBSD 12 (64-bit inodes). */
const stat = new DataView(new ArrayBuffer(224));
const statBytes = new Uint8Array(stat.buffer);

/** off_t *sbytes: the bytes sent. */
const sent = new DataView(new ArrayBuffer(8));
const sentBytes = new Uint8Array(sent.buffer);

/** FreeBSD 12 and newer. */
export function freebsd(): System {
  return {
    ...bsd,
    name: "freebsd",
    libraries: ["libc.so.7", "/lib/libc.so.7"],
    symbols: {
      ...bsdSymbols,
      /** int sendfile(int fd, int s, off_t offset, size_t nbytes, struct sf_hdtr *hdtr, off_t *sbytes, int flags) */
      sendfile: { args: ["i32", "i32", "i64", "usize", "pointer", "buffer", "i32"], returns: "i32" },
      /** int fstat(int fd, struct stat *sb) */
      fstat: { args: ["i32", "buffer"], returns: "i32" },
      /** int fcntl(int fd, int cmd, ...) */
      fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
    },
    errors: { ...bsdErrors, 45: "EOPNOTSUPP" },
    AF_INET6: 28,
    F_DUPFD_CLOEXEC: 17,
    sendFlags: 0x20000 | 0x80, // MSG_NOSIGNAL | MSG_DONTWAIT
    fcntl: ({ call }, fd, command, argument) => call.fcntl(fd, command, argument),
    stat({ call }, fd, into) {
      const result = call.fstat(fd, statBytes);
      if (result < 0) return result;
      into.dev = stat.getBigUint64(0, true);
      into.ino = stat.getBigUint64(8, true);
      readMode(into, stat.getUint16(24, true));
      readTimes(into, stat, 64);
      into.size = uint64(stat, 112);
      return result;
    },
    sendfile({ call, wide }, out, file, offset, count) {
      sent.setUint32(0, 0, true);
      sent.setUint32(4, 0, true);
      const result = call.sendfile(file, out, wide(offset), wide(count), null, sentBytes, 0);
      // *sbytes is set also after EAGAIN, EINTR and EBUSY: those bytes were sent.
      const bytes = uint64(sent, 0);
      return bytes > 0 || result === 0 ? bytes : -1;
    },
    descriptorLimit: ({ call }) => Math.min(call.getdtablesize(), SCAN_LIMIT),
    openSelector: (library, check) => openKqueue(library, 64, EVFILT_USER, check),
  };
}
