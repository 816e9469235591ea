import * as fs from "node:fs";
import { SendfileNotAvailableError, socketClosed } from "../errors.ts";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadedLibc } from "../ffi/load.ts";
import { FoundDescriptor } from "./found_descriptor.ts";
import { room } from "./wait_writable.ts";
import type { Descriptor, SocketAdapter } from "./adapter.ts";
import { codeOf } from "../reasons.ts";
import { isDeno } from "../runtime.ts";

/** A plain descriptor number. The caller owns the descriptor and keeps it open for the whole transfer. */
export class DescriptorSocket implements SocketAdapter {
  readonly #fd: number;
  /** The socket that the number referred to when it was first used. */
  #found: FoundDescriptor | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  open(libc: Libc): Descriptor {
    this.#found = this.#look(libc);
    return { fd: this.#fd, owned: false, alive: () => this.isOpen() };
  }

  #look(libc: Libc): FoundDescriptor {
    this.#check(libc);
    return new FoundDescriptor(libc, this.#fd, () => {
      this.#check(libc);
      return true;
    });
  }

  #check(libc: Libc): void {
    const fd = this.#fd;
    if (!libc.isStreamSocket(fd)) throw new TypeError(`descriptor ${fd} is not a stream socket`);
    if (!libc.isNonBlocking(fd)) {
      throw new TypeError(`descriptor ${fd} must be non-blocking: a blocking socket would block this thread`);
    }
  }

  isOpen(): boolean {
    const libc = loadedLibc();
    if (typeof libc === "string") return true;
    this.#found ??= this.#look(libc); // `open` was not called, so the number is checked here
    return this.#found.isSame(libc);
  }

  async write(bytes: Uint8Array, signal: AbortSignal): Promise<number> {
    for (;;) {
      // During the last wait the number may have been closed and reused.
      if (!this.isOpen()) throw socketClosed();
      const written = tryWrite(this.#fd, bytes);
      if (written !== undefined) return written;
      await room(this.#fd, signal);
    }
  }

  acknowledged(libc: Libc): number | undefined {
    return this.isOpen() ? libc.tcp(this.#fd)?.acked : undefined;
  }

  abandon(): void {
    const libc = loadedLibc();
    if (typeof libc !== "string") libc.shutdown(this.#fd);
  }
}

/** Returns the bytes written; undefined if the socket has no room. */
function tryWrite(fd: number, bytes: Uint8Array): number | undefined {
  const libc = loadedLibc();
  if (typeof libc === "string") {
    // Deno's node:fs writes only to descriptors that it opened itself: otherwise it fails with EBADF (measured).
    if (isDeno) {
      throw new SendfileNotAvailableError(
        `${libc}; without FFI, Deno cannot write to a descriptor number`,
        0,
        {
          code: codeOf(libc),
        },
      );
    }
    try {
      return fs.writeSync(fd, bytes);
    } catch (error) {
      if ((error as { code?: string }).code === "EAGAIN") return undefined;
      throw error;
    }
  }
  const written = libc.send(fd, bytes, false);
  if (written >= 0) return written;
  const code = libc.errorName(written);
  if (code === "EAGAIN" || code === "EINTR") return undefined;
  throw libc.error(written, "send");
}
