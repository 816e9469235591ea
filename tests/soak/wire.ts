/** A client's connection, on a raw socket, that may be slow and may leave in the middle. */
import { Buffer } from "node:buffer";
import * as net from "node:net";
import { type Draw, turns } from "./lot.ts";

/** What a client does in the middle. */
export interface Habit {
  /** It leaves: after so many bytes, or so many turns after it has asked. */
  readonly leaves?: { readonly after?: number; readonly turns?: number; readonly how: "destroy" | "reset" };
  /** Takes its time: turns, or milliseconds. */
  readonly slow?: "turns" | "timer";
}

/** Milliseconds after which something that must come has not come. A machine may be busy with several soaks. */
const DEADLINE = 50_000;

/** How often a slow client stops to read, at most. */
const PAUSES = 10;

/** One connection, and what came on it. */
export class Wire {
  readonly socket: net.Socket;
  /** No more will come. */
  ended = false;
  /** It was this side that left. */
  left = false;
  /** It has sent what is no request. */
  babbled = false;
  /** Why it has ended, where that was an error. */
  error = "no error";
  total = 0;
  /** Bytes that came and were not taken. */
  waiting = 0;
  #chunks: Buffer[] = [];
  #wake = () => {};

  private constructor(socket: net.Socket, { leaves, slow }: Habit, draw: Draw) {
    this.socket = socket;
    let pauses = PAUSES;
    socket.on("data", (chunk: Buffer) => {
      if (this.ended) return;
      this.#chunks.push(chunk);
      this.waiting += chunk.length;
      this.total += chunk.length;
      if (leaves?.after !== undefined && this.total >= leaves.after) this.leave(leaves.how);
      else if (slow && pauses > 0 && draw(3) === 0) {
        pauses--;
        this.#pause(slow, draw(8) === 0 ? 50 : draw(20));
      }
      this.#wake();
    });
    const end = () => {
      this.ended = true;
      this.#wake();
    };
    socket.on("error", (error: Error & { syscall?: string }) => {
      this.error = `${error.message} (${error.syscall})`;
      end();
    });
    socket.on("end", end);
    socket.on("close", end);
  }

  /** `localPort`: where several connections may begin at one port. */
  static async to(port: number, habit: Habit, draw: Draw, localPort?: number): Promise<Wire> {
    const socket = net.connect({
      port,
      host: "127.0.0.1",
      localPort,
      localAddress: localPort === undefined ? undefined : "127.0.0.1",
      allowHalfOpen: true,
      noDelay: true,
    });
    const wire = new Wire(socket, habit, draw);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    if (habit.leaves?.after === 0) wire.leave(habit.leaves.how);
    return wire;
  }

  leave(how: "destroy" | "reset"): void {
    this.left = this.ended = true;
    if (how === "reset") this.socket.resetAndDestroy();
    else this.socket.destroy();
    this.#wake();
  }

  async #pause(slow: "turns" | "timer", count: number): Promise<void> {
    this.socket.pause();
    if (slow === "turns") await turns(count);
    else await new Promise((resolve) => setTimeout(resolve, count));
    this.socket.resume();
  }

  /** Writes `text` in the pieces that end at `cuts`, some with turns of the loop between. */
  async send(text: string, cuts: readonly number[], draw: Draw): Promise<void> {
    const all = Buffer.from(text, "latin1");
    let from = 0;
    for (const to of [...cuts, all.length]) {
      if (this.ended) return;
      this.socket.write(all.subarray(from, to));
      from = to;
      if (to < all.length) await turns(draw(4));
    }
  }

  async #more(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`no more came after ${this.total} bytes`)), DEADLINE);
    this.#wake = resolve;
    await promise.finally(() => clearTimeout(timer));
  }

  /** Some of what comes next, at most `most` bytes; none once the connection has ended. */
  async some(most: number): Promise<Buffer> {
    while (this.waiting === 0 && !this.ended) await this.#more();
    const [chunk] = this.#chunks;
    if (!chunk) return Buffer.alloc(0);
    if (chunk.length > most) this.#chunks[0] = chunk.subarray(most);
    else this.#chunks.shift();
    const taken = chunk.subarray(0, most);
    this.waiting -= taken.length;
    return taken;
  }

  /** The next bytes; fewer only where the connection has ended. */
  async take(count: number): Promise<Buffer> {
    while (this.waiting < count && !this.ended) await this.#more();
    const taken: Buffer[] = [];
    for (let left = Math.min(count, this.waiting); left > 0;) {
      const some = await this.some(left);
      taken.push(some);
      left -= some.length;
    }
    return Buffer.concat(taken);
  }

  /** The next bytes up to and with `mark`; without it only where the connection has ended. */
  async upTo(mark: string): Promise<Buffer> {
    for (;;) {
      const found = this.#chunks[0]?.indexOf(mark) ?? -1;
      if (found >= 0) return await this.some(found + mark.length);
      if (this.#chunks.length > 1) this.#chunks.splice(0, 2, Buffer.concat(this.#chunks.slice(0, 2)));
      else if (this.ended) return await this.some(Infinity);
      else await this.#more();
    }
  }
}
