import { bsd, bsdErrors, bsdSymbols, SCAN_LIMIT } from "./bsd.ts";
import { openKqueue } from "./kqueue.ts";
import { readMode, readTimes, type System, uint64 } from "./system.ts";

const EVFILT_USER = -10;
const MSG_DONTWAIT = 0x80;

/** struct stat with 64-bit inodes. */
const stat = new DataView(new ArrayBuffer(144));
const statBytes = new Uint8Array(stat.buffer);

/** off_t *len: in: bytes to send, out: bytes sent. */
const length = new DataView(new ArrayBuffer(8));
const lengthBytes = new Uint8Array(length.buffer);

const errnoOut = new Int32Array(1);
const errnoBytes = new Uint8Array(errnoOut.buffer);
const EINTR = 4;
const EAGAIN = 35;

/** macOS, x86-64 and arm64. */
export function darwin(arch: "x64" | "arm64"): System {
  return {
    ...bsd,
    name: "darwin",
    libraries: ["libSystem.dylib", "/usr/lib/libSystem.dylib", "/usr/lib/libSystem.B.dylib"],
    symbols: {
      ...bsdSymbols,
      /** int sendfile(int fd, int s, off_t offset, off_t *len, struct sf_hdtr *hdtr, int flags) */
      sendfile: { args: ["i32", "i32", "i64", "buffer", "pointer", "i32"], returns: "i32" },
      /** int fstat(int fd, struct stat *buf); the plain name has 32-bit inodes on x86-64 */
      fstat: { name: arch === "x64" ? "fstat$INODE64" : "fstat", args: ["i32", "buffer"], returns: "i32" },
      /**
       * int fcntl(int fd, int cmd, ...): arm64 passes variadic arguments on the stack, after the eight in registers,
       * x86-64 in the next register. We pass the argument in both places.
       */
      fcntl: {
        args: ["i32", "i32", "i64", "i64", "i64", "i64", "i64", "i64", "i64"],
        returns: "i32",
      },
    },
    errors: { ...bsdErrors, 45: "ENOTSUP", 102: "EOPNOTSUPP" },
    AF_INET6: 30,
    F_DUPFD_CLOEXEC: 67,
    sendFlags: MSG_DONTWAIT, // SIGPIPE is ignored by both runtimes
    // xnu only clears the flag: held bytes would go with the next send, with an ACK or after 5 s. A send of 0 bytes
    // pushes them out.
    push: ({ call, wide }, fd) => void call.send(fd, lengthBytes, wide(0), MSG_DONTWAIT),
    fcntl({ call, wide }, fd, command, argument) {
      const [value, none] = [wide(argument), wide(0)];
      return call.fcntl(fd, command, value, none, none, none, none, none, value);
    },
    stat({ call }, fd, into) {
      const result = call.fstat(fd, statBytes);
      if (result < 0) return result;
      into.dev = BigInt(stat.getUint32(0, true));
      readMode(into, stat.getUint16(4, true));
      readTimes(into, stat, 48);
      into.ino = stat.getBigUint64(8, true);
      into.size = uint64(stat, 96);
      return result;
    },
    sendfile({ call, wide }, out, file, offset, count) {
      length.setUint32(0, count, true);
      length.setUint32(4, 0, true);
      const result = call.sendfile(file, out, wide(offset), lengthBytes, null, 0);
      // *len has the bytes sent also after EAGAIN and EINTR: they were sent, even if the result is an error.
      const sent = uint64(length, 0);
      if (result === 0 || (sent > 0 && sent < count)) return sent;
      if (sent !== count) return -1;
      // Either the kernel never wrote *len, or everything was sent and filled the buffer exactly: then xnu returns
      // EAGAIN before it notices that nothing is left to send.
      call.memcpy(errnoBytes, call.errno(), wide(4));
      return errnoOut[0] === EAGAIN || errnoOut[0] === EINTR ? sent : -1;
    },
    descriptorLimit: ({ call }) => Math.min(call.getdtablesize(), SCAN_LIMIT),
    openSelector: (library, check) => openKqueue(library, 32, EVFILT_USER, check),
  };
}
