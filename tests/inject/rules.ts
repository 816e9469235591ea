/** What goes wrong: one system call, one way, from one call on. */

/** As in inject.c. */
export const FUNCTIONS = [
  "sendfile",
  "send",
  "dup",
  "pread",
  "fstat",
  "epoll_ctl",
  "epoll_create1",
  "epoll_wait",
  "eventfd",
  "open",
  "accept4",
] as const;

export type FunctionName = typeof FUNCTIONS[number];

/** asm-generic/errno.h */
export const ERRNO = {
  EPERM: 1,
  EINTR: 4,
  EIO: 5,
  EAGAIN: 11,
  ENOMEM: 12,
  EINVAL: 22,
  EMFILE: 24,
  EPIPE: 32,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
} as const;

export type ErrorName = keyof typeof ERRNO;

export interface Rule {
  readonly call: FunctionName;
  /** Who calls: this package by FFI, or the runtime. */
  readonly caller: "ours" | "runtime";
  /** The first call it is about, from 1. */
  readonly from: number;
  /** How many calls in a row. */
  readonly times: number;
  /** What they fail with, or the most bytes that they move. */
  readonly fault: ErrorName | number;
  /** Whether the file is copied from the start. */
  readonly copy?: boolean;
  /**
   * What a transfer comes to: "ok", the code of its error, or either of them where it depends on the kind of socket.
   */
  readonly expect: readonly ("ok" | ErrorName)[];
}

const OFTEN = 50;

function each(
  call: FunctionName,
  froms: readonly number[],
  faults: readonly (ErrorName | number)[],
  expect?: readonly ("ok" | ErrorName)[],
  more: Partial<Rule> = {},
): Rule[] {
  return froms.flatMap((from) =>
    faults.map((fault): Rule => ({
      call,
      caller: "ours",
      from,
      times: typeof fault === "number" || fault === "EINTR" || fault === "EAGAIN" ? OFTEN : 1,
      fault,
      expect: expect ?? [typeof fault === "number" ? "ok" : fault],
      ...more,
    }))
  );
}

/** Bytes of the file: more than the small buffers of the tests' connections hold. */
export const SIZE = 600_001;

const OK = ["ok"] as const;
const COPY = { copy: true } as const;

/** Of one transfer of a file that does not fit into the socket's buffer, between a header and a trailer. */
export const RULES: readonly Rule[] = [
  ...each("sendfile", [1, 3], ["EINTR", "EAGAIN", "EINVAL", "EPERM", "EOPNOTSUPP"], OK),
  ...each("sendfile", [1, 3], [1]),
  ...each("sendfile", [1, 3], ["EIO", "ENOBUFS", "ENOMEM", "ECONNRESET", "EPIPE"]),
  ...each("send", [1, 2], ["EINTR", "EAGAIN"], OK),
  ...each("send", [1], [1]),
  ...each("send", [1, 2], ["ENOBUFS", "ENOMEM", "ECONNRESET", "EPIPE"]),
  // The socket needs none: without it the rest is copied.
  ...each("dup", [1, 2], ["EMFILE"], ["ok", "EMFILE"]),
  ...each("fstat", [1, 2], ["EIO", "ENOMEM"]),
  // Where nothing is left for a poller, it is tried again after some time.
  ...each("epoll_create1", [1], ["EMFILE", "ENOMEM"], OK),
  ...each("eventfd", [1], ["EMFILE", "ENOMEM"], OK),
  // arm: ADD, MOD, ADD, and once before them ADD for what wakes the wait.
  ...each("epoll_ctl", [1], ["ENOMEM"], OK),
  ...each("epoll_ctl", [2, 8], ["ENOMEM"], OK, { times: 3 }),
  ...each("epoll_ctl", [1], ["EPERM"]),
  ...each("epoll_ctl", [2, 8], ["EPERM"], undefined, { times: 3 }),
  ...each("epoll_wait", [1, 3], ["EINTR"], OK, { times: 1 }),
  ...each("pread", [1, 2], ["EINTR", 1], OK, COPY),
  ...each("pread", [1, 2], ["EIO", "ENOMEM"], undefined, COPY),
  // Last: that a kernel has no sendfile is remembered.
  ...each("sendfile", [3, 1], ["ENOSYS"], OK),
];

const RUNTIME = { caller: "runtime", copy: true } as const;

/** Of the static server's listener. EINTR no kernel says of one that does not block; Deno takes it for closed then. */
export const ACCEPT_RULES: readonly Rule[] = each(
  "accept4",
  [1],
  ["EMFILE", "ECONNABORTED", "ENOMEM"],
  OK,
  { caller: "runtime", times: 1 },
);

/**
 * What a runtime calls where a file is copied. Not each of them is met on each runtime. That a socket is full where it
 * is not no kernel says, and Deno would wait for ever.
 */
export const RUNTIME_RULES: readonly Rule[] = [
  ...each("send", [1, 3], ["ENOBUFS"], ["ok", "ENOBUFS"], RUNTIME),
  ...each("send", [1, 3], ["ECONNRESET", "EPIPE"], undefined, RUNTIME),
  ...each("pread", [1, 3], ["EINTR", 1], OK, { ...RUNTIME, times: 3 }),
  ...each("pread", [1, 3], ["EIO"], undefined, RUNTIME),
];

/** Of what a server opens: what FFI opens once for all, and the file. */
export const OPEN_RULES: readonly Rule[] = [
  ...each("open", [1], ["EMFILE", "ENOMEM"], OK),
  ...each("open", [1, 2], ["EMFILE", "EIO"], undefined, { caller: "runtime" }),
];

export function nameOf({ call, caller, from, times, fault, copy }: Rule): string {
  const what = typeof fault === "number" ? `at most ${fault} byte` : fault;
  return `${caller === "ours" ? "" : "the runtime's "}${call} ${from}${
    times > 1 ? `+${times - 1}` : ""
  }: ${what}${copy ? ", copied" : ""}`;
}
