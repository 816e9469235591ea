import type { Library, Signature, Symbols } from "./library.ts";
import type { Selector, Visit } from "./selector.ts";

// sys/event.h; the same on Darwin and FreeBSD except EVFILT_USER and the size of struct kevent
const EVFILT_READ = -1;
const EVFILT_WRITE = -2;
const EV_ADD = 0x1;
const EV_DELETE = 0x2;
const EV_ONESHOT = 0x10;
const EV_CLEAR = 0x20;
const NOTE_TRIGGER = 0x01000000;
const EVENTS = 64;

const KEVENT: Signature = { args: ["i32", "buffer", "i32", "buffer", "i32", "pointer"], returns: "i32" };

export const kqueueSymbols: Symbols = {
  kqueue: { args: [], returns: "i32" },
  kevent: KEVENT,
};

export const kqueueBlocking: Symbols = { kevent_wait: { ...KEVENT, name: "kevent" } };

/**
 * kqueue(2), each filter armed for one report (EV_ONESHOT).
 *
 * `size`: struct kevent is 32 bytes on Darwin and 64 on FreeBSD (12 and newer), which appended `ext[4]`.
 */
export function openKqueue(
  { call }: Library,
  size: 32 | 64,
  EVFILT_USER: number,
  check: (result: number, syscall: string) => number,
): Selector {
  const change = new DataView(new ArrayBuffer(size));
  const changeBytes = new Uint8Array(change.buffer);
  const nothing = new Uint8Array(size);
  const queue = check(call.kqueue(), "kqueue");

  /** struct kevent { ident, filter, flags, fflags, data, udata, … } */
  function submit(ident: number, filter: number, flags: number, fflags: number, token: number): number {
    changeBytes.fill(0);
    change.setInt32(0, ident, true);
    change.setInt16(8, filter, true);
    change.setUint16(10, flags, true);
    change.setUint32(12, fflags, true);
    change.setUint32(24, token, true);
    return call.kevent(queue, changeBytes, 1, nothing, 0, null);
  }

  check(submit(0, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0), "kevent");

  return {
    arm(fd, token, read, write) {
      let result = 0;
      if (read) result = submit(fd, EVFILT_READ, EV_ADD | EV_ONESHOT, 0, token);
      if (write && result >= 0) result = submit(fd, EVFILT_WRITE, EV_ADD | EV_ONESHOT, 0, token);
      return result;
    },
    disarm(fd) {
      // One of the two filters usually does not exist (ENOENT), or has fired already.
      submit(fd, EVFILT_READ, EV_DELETE, 0, 0);
      submit(fd, EVFILT_WRITE, EV_DELETE, 0, 0);
    },
    wake() {
      submit(0, EVFILT_USER, 0, NOTE_TRIGGER, 0);
    },
    blocking: {
      symbol: "kevent_wait",
      signature: kqueueBlocking.kevent_wait,
      args: [queue, "events", 0, "events", EVENTS, null],
      bytes: size * EVENTS,
    },
    visit(result, bytes, each: Visit) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < result; i++) {
        const filter = view.getInt16(i * size + 8, true);
        if (filter === EVFILT_USER) continue;
        each(
          view.getInt32(i * size, true),
          view.getUint32(i * size + 24, true),
          filter === EVFILT_READ,
          filter === EVFILT_WRITE,
        );
      }
    },
    close: () => void call.close(queue),
  };
}
