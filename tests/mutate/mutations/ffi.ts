import { type Mutation, selection } from "../mutation.ts";

const HANGUP = selection("poller.test.ts", "pipe's end learns");

const INHERITED = selection("transfer.test.ts", "closed in a child process");

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
  {
    name: "a duplicate is inherited by child processes",
    file: "ffi/linux.ts",
    search: "F_DUPFD_CLOEXEC: 1030,",
    replace: "F_DUPFD_CLOEXEC: 0,",
    why: "A child process would hold the connection open after this one has closed it.",
    tests: INHERITED,
  },
  {
    name: "epoll is inherited by child processes",
    file: "ffi/epoll.ts",
    search: "call.epoll_create1(EPOLL_CLOEXEC)",
    replace: "call.epoll_create1(0)",
    why: "Each child process would keep one more descriptor, and the sockets in it watched.",
    tests: INHERITED,
  },
  {
    name: "the waker is inherited by child processes",
    file: "ffi/epoll.ts",
    search: "const EFD_CLOEXEC_NONBLOCK = 0x80800;",
    replace: "const EFD_CLOEXEC_NONBLOCK = 0x800;",
    why: "Each child process would keep one more descriptor.",
    tests: INHERITED,
  },
  {
    name: "isReadable is always true",
    file: "ffi/libc.ts",
    search: "return flags >= 0 && (flags & O_ACCMODE) !== O_WRONLY;",
    replace: "return true;",
    why: "A Deno.FsFile would be sent from somebody's write-only descriptor of the same file, and fail.",
    tests: selection("files.test.ts", "write-only descriptor of the same"),
    only: { runtime: "deno", reason: "the search is for the descriptor of a Deno.FsFile" },
  },
];
