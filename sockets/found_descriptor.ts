import type { Libc } from "../ffi/libc.ts";

/**
 * A descriptor that was found to be a socket's, remembered with the socket's cookie. The kernel gives each socket a
 * cookie of its own: where the number has another by now, it was closed, and perhaps handed out again. Owns nothing.
 */
export class FoundDescriptor {
  readonly fd: number;
  readonly #cookie: bigint;
  readonly #withoutCookie: () => boolean;

  /** `withoutCookie`: what {@link isSame} says on a system that has no cookies. */
  constructor(libc: Libc, fd: number, withoutCookie: () => boolean = () => false) {
    this.fd = fd;
    this.#cookie = libc.cookie(fd);
    this.#withoutCookie = withoutCookie;
  }

  /** Whether the number still stands for the socket that was found. */
  isSame(libc: Libc): boolean {
    return this.#cookie === 0n ? this.#withoutCookie() : libc.cookie(this.fd) === this.#cookie;
  }
}
