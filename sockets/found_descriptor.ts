import type { Libc } from "../ffi/libc.ts";

/**
 * A descriptor that was found to be a socket's, with the socket's cookie. The kernel gives each socket its own cookie:
 * if the cookie of the number changes, the descriptor was closed, and its number may belong to another socket. This
 * object owns no descriptor.
 */
export class FoundDescriptor {
  readonly fd: number;
  readonly #cookie: bigint;
  readonly #withoutCookie: () => boolean;

  /** `withoutCookie`: the result of {@link isSame} on a system without cookies. */
  constructor(libc: Libc, fd: number, withoutCookie: () => boolean = () => false) {
    this.fd = fd;
    this.#cookie = libc.cookie(fd);
    this.#withoutCookie = withoutCookie;
  }

  /** Whether the number still refers to the socket that was found. */
  isSame(libc: Libc): boolean {
    return this.#cookie === 0n ? this.#withoutCookie() : libc.cookie(this.fd) === this.#cookie;
  }
}
