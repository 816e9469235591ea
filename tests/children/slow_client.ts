/** A TCP client on a descriptor that no runtime reads from: it takes just what it is told to take. */
import { assert } from "@std/assert";
import { Buffer } from "node:buffer";
import { bunLoader } from "../../ffi/bun.ts";
import { denoLoader } from "../../ffi/deno.ts";
import { isBun } from "../support/harness.ts";
import { until } from "../support/site.ts";

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const IPPROTO_TCP = 6;
const TCP_MAXSEG = 2;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;

/** Bytes of its receive buffer, and of a segment: over loopback's of 64 KiB a window this small opens by timers only. */
const BUFFER = 8192;
const SEGMENT = 1460;

const loaded = (isBun ? bunLoader : denoLoader).load(["libc.so.6"], {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "u32"], returns: "i32" },
  connect: { args: ["i32", "buffer", "u32"], returns: "i32" },
  send: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  recv: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  shutdown: { args: ["i32", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
}, {});

function call(name: string, ...args: unknown[]): number {
  if (typeof loaded === "string") throw new Error(loaded);
  return loaded.call[name](...args);
}

const wide = (n: number) => typeof loaded === "string" ? n : loaded.wide(n);

export class SlowClient {
  readonly #fd: number;
  readonly #chunks: Buffer[] = [];
  readonly #into = new Uint8Array(256 * 1024);
  /** The server has ended the connection, or reset it. */
  ended = false;
  length = 0;

  /** `small`: with a receive buffer of a few kilobytes. */
  constructor(port: number, small = true) {
    const fd = this.#fd = call("socket", AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0, "no socket");
    const set = (level: number, option: number, value: number) => {
      assert(call("setsockopt", fd, level, option, new Int32Array([value]), 4) === 0, `no option ${option}`);
    };
    if (small) set(SOL_SOCKET, SO_RCVBUF, BUFFER);
    set(IPPROTO_TCP, TCP_MAXSEG, SEGMENT);
    // struct sockaddr_in. The kernel accepts for the server: this does not wait for it.
    const address = new Uint8Array([AF_INET, 0, port >> 8, port, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert(call("connect", fd, address, 16) === 0, "not connected");
  }

  send(text: string): void {
    const bytes = Buffer.from(text, "latin1");
    assert(call("send", this.#fd, bytes, wide(bytes.length), MSG_NOSIGNAL) === bytes.length, "not sent");
  }

  /** Ends its own direction. */
  finish(): void {
    call("shutdown", this.#fd, SHUT_WR);
  }

  /** Takes at most so many bytes of what has come, and gives how many. */
  take(most: number): number {
    const bytes = call("recv", this.#fd, this.#into, wide(Math.min(most, this.#into.length)), MSG_DONTWAIT);
    if (bytes > 0) this.#chunks.push(Buffer.from(this.#into.slice(0, bytes)));
    else if (bytes === 0) this.ended = true;
    this.length += Math.max(0, bytes);
    return bytes;
  }

  /** Takes `bytes` bytes a second for so many milliseconds. */
  async steadily(bytes: number, ms: number): Promise<void> {
    const began = performance.now();
    const from = this.length;
    for (let now = 0; now < ms && !this.ended; now = performance.now() - began) {
      const due = Math.floor(bytes * now / 1000) - (this.length - from);
      if (due > 0) this.take(due);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** All that comes until there are `length` bytes, or the connection has ended. */
  async all(length = Infinity): Promise<Buffer> {
    await until(() => {
      while (this.length < length && this.take(length - this.length) > 0);
      return this.ended || this.length >= length;
    }, "the rest of the response");
    return Buffer.concat(this.#chunks);
  }

  [Symbol.dispose](): void {
    call("close", this.#fd);
  }
}
