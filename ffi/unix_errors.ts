/** errno.h, where all systems agree: the numbers that the first Unix gave. */
export const unixErrors = {
  1: "EPERM",
  4: "EINTR",
  5: "EIO",
  9: "EBADF",
  12: "ENOMEM",
  14: "EFAULT",
  16: "EBUSY",
  18: "EXDEV",
  22: "EINVAL",
  23: "ENFILE",
  24: "EMFILE",
  28: "ENOSPC",
  29: "ESPIPE",
  32: "EPIPE",
} as const;
