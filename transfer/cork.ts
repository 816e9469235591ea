import type { Libc } from "../ffi/libc.ts";

/**
 * For how much of a transfer the socket is corked, so that only full segments are sent. Without a cork, under
 * TCP_NODELAY, each acknowledgement that arrives during the call pushes out an incomplete segment.
 */
export type Corked = "never" | "first step" | "throughout";

/** File size in bytes from which a cork pays. Below, its two system calls cost as much as it saves (measured). */
const LARGE = 256 * 1024;

/**
 * File size in bytes from which a cork throughout the transfer pays: 100 MiB gain a quarter by it, 4 MiB lose a tenth
 * (measured).
 */
const VERY_LARGE = 16 * 1024 * 1024;

/**
 * The cork that pays on a connection for `bytes` bytes. Loopback, one core, static server, GB/s without a cork,
 * with one for the first step, with one throughout (measured): cubic 11.6, 11.1, 13.8 at 100 MiB, 10.7, 12.9, 11.7 at
 * 4 MiB; BBR 9.4, 7.0, 3.1 and 7.2, 2.6, 2.6. BBR estimates the bandwidth from what is sent, and a cork holds that
 * back.
 */
export function corkFor(libc: Libc, fd: number, bytes: number): Corked {
  if (bytes < LARGE) return "never";
  switch (libc.congestionControl(fd)) {
    case "bbr":
      return "never";
    case "cubic":
    case "reno":
      return bytes >= VERY_LARGE ? "throughout" : "first step";
    default:
      return "first step";
  }
}
