import { type Mutation, selection } from "../mutation.ts";

const HANGUP = selection("poller.test.ts", "pipe's end learns");

export const FFI: readonly Mutation[] = [
  {
    name: "errors and hang-ups wake nobody",
    file: "ffi/epoll.ts",
    search: "const failed = (events & (EPOLLERR | EPOLLHUP)) !== 0;",
    replace: "const failed = false;",
    why: "A transfer whose peer has reset would wait for ever where the kernel reports nothing else.",
    tests: HANGUP,
  },
  {
    name: "a hang-up wakes nobody",
    file: "ffi/epoll.ts",
    search: "(EPOLLERR | EPOLLHUP)",
    replace: "EPOLLERR",
    why: "readable() of a descriptor that was hung up on would wait for ever.",
    tests: HANGUP,
  },
  {
    name: "an error wakes nobody",
    file: "ffi/epoll.ts",
    search: "(EPOLLERR | EPOLLHUP)",
    replace: "EPOLLHUP",
    why: "writable() of a descriptor that nobody reads any more would wait for ever.",
    tests: HANGUP,
  },
];
