import type { Library, Signature, Symbols } from "./library.ts";
import type { Selector, Visit } from "./selector.ts";

// sys/epoll.h, sys/eventfd.h
const EPOLL_CLOEXEC = 0x80000;
const EFD_CLOEXEC_NONBLOCK = 0x80800;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 0x1;
const EPOLLOUT = 0x4;
const EPOLLERR = 0x8;
const EPOLLHUP = 0x10;
const EPOLLRDHUP = 0x2000;
const EPOLLONESHOT = 0x40000000;
const EVENTS = 64;

/** The waker's number in the events, which no descriptor has. */
const WAKER = -1;

const EPOLL_WAIT: Signature = { args: ["i32", "buffer", "i32", "i32"], returns: "i32" };

export const epollSymbols: Symbols = {
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: { args: ["i32", "i32", "i32", "buffer"], returns: "i32" },
  eventfd: { args: ["u32", "i32"], returns: "i32" },
};

export const epollBlocking: Symbols = { epoll_wait: EPOLL_WAIT };

/**
 * epoll(7), each descriptor armed for one report (EPOLLONESHOT).
 *
 * `packed`: struct epoll_event is packed on x86-64 only: 12 bytes there, 16 with the data at 8 elsewhere.
 */
export function openEpoll(
  { call, wide }: Library,
  packed: boolean,
  check: (result: number, syscall: string) => number,
): Selector {
  const size = packed ? 12 : 16;
  const data = packed ? 4 : 8;
  const event = new DataView(new ArrayBuffer(size));
  const eventBytes = new Uint8Array(event.buffer);
  const epoll = check(call.epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  let waker = -1;
  try {
    waker = check(call.eventfd(0, EFD_CLOEXEC_NONBLOCK), "eventfd");
    check(control(EPOLL_CTL_ADD, waker, WAKER, 0, EPOLLIN), "epoll_ctl");
  } catch (error) {
    close();
    throw error;
  }

  function control(op: number, fd: number, dataFd: number, token: number, events: number): number {
    event.setUint32(0, events, true);
    event.setInt32(data, dataFd, true);
    event.setUint32(data + 4, token, true);
    return call.epoll_ctl(epoll, op, fd, eventBytes);
  }

  function close() {
    if (waker >= 0) call.close(waker);
    call.close(epoll);
  }

  return {
    arm(fd, token, read, write) {
      const events = EPOLLONESHOT | (read ? EPOLLIN | EPOLLRDHUP : 0) | (write ? EPOLLOUT : 0);
      // Only the kernel knows which descriptors are registered: if a descriptor was closed by others, epoll has dropped
      // it, or still has it if a duplicate is open. So we try ADD, then MOD; the last ADD is for its errno.
      if (control(EPOLL_CTL_ADD, fd, fd, token, events) === 0) return 0;
      if (control(EPOLL_CTL_MOD, fd, fd, token, events) === 0) return 0;
      return control(EPOLL_CTL_ADD, fd, fd, token, events);
    },
    disarm(fd) {
      control(EPOLL_CTL_DEL, fd, fd, 0, 0);
    },
    wake() {
      call.write(waker, new Uint8Array(new BigUint64Array([1n]).buffer), wide(8));
    },
    blocking: {
      symbol: "epoll_wait",
      signature: EPOLL_WAIT,
      args: [epoll, "events", EVENTS, -1],
      bytes: size * EVENTS,
    },
    visit(result, bytes, each: Visit) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < result; i++) {
        const fd = view.getInt32(i * size + data, true);
        if (fd === WAKER) {
          call.read(waker, new Uint8Array(8), wide(8));
          continue;
        }
        const events = view.getUint32(i * size, true);
        const failed = (events & (EPOLLERR | EPOLLHUP)) !== 0;
        each(
          fd,
          view.getUint32(i * size + data + 4, true),
          failed || (events & (EPOLLIN | EPOLLRDHUP)) !== 0,
          failed || (events & EPOLLOUT) !== 0,
        );
      }
    },
    close,
  };
}
