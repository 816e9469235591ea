/** An HTTP client on a raw socket: a client library would normalise paths, and hide framing and what comes too much. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as net from "node:net";

/** Milliseconds after which something that must come has not come. */
export const DEADLINE = 20_000;

export interface Reply {
  status: number;
  head: string;
  headers: Record<string, string>;
  body: Buffer;
}

/** One connection, with what came on it and was not looked at yet. */
export class Client {
  readonly socket: net.Socket;
  #chunks: Buffer[] = [];
  #ended = false;
  #wake = () => {};

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#wake();
    });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    socket.on("error", end);
    socket.on("close", end);
    socket.on("end", end);
  }

  static async to(port: number): Promise<Client> {
    const socket = net.connect(port, "127.0.0.1");
    const client = new Client(socket);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return client;
  }

  send(...requests: string[]): void {
    this.socket.write(requests.join(""), "latin1");
  }

  #joined(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #length(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  async #more(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error("no more bytes came")), DEADLINE);
    this.#wake = resolve;
    await promise.finally(() => clearTimeout(timer));
  }

  async #take(count: number): Promise<Buffer> {
    while (this.#length() < count) {
      if (this.#ended) throw new Error(`the connection ended ${count - this.#length()} bytes early`);
      await this.#more();
    }
    const all = this.#joined();
    this.#chunks = all.length > count ? [all.subarray(count)] : [];
    return all.subarray(0, count);
  }

  /** The next response; `bodiless`: to a HEAD request. */
  async reply({ bodiless = false } = {}): Promise<Reply> {
    let end: number;
    while ((end = this.#joined().indexOf("\r\n\r\n")) < 0) {
      if (this.#ended) throw new Error(`the connection ended in a head: ${this.#joined()}`);
      await this.#more();
    }
    const head = (await this.#take(end + 4)).toString("latin1");
    const [first, ...fields] = head.trimEnd().split("\r\n");
    const headers = Object.fromEntries(
      fields.map((field) => [field.split(":")[0].toLowerCase(), field.slice(field.indexOf(":") + 2)]),
    );
    const length = bodiless ? 0 : Number(headers["content-length"]);
    return { status: Number(first.split(" ")[1]), head, headers, body: await this.#take(length) };
  }

  /** Waits for the first bytes, and reads no more. */
  async begun(): Promise<void> {
    while (this.#length() === 0) {
      if (this.#ended) throw new Error("the connection ended");
      await this.#more();
    }
    this.socket.pause();
  }

  /** All until the other side ends the connection. */
  async rest(): Promise<Buffer> {
    while (!this.#ended) await this.#more();
    return this.#joined();
  }

  close(): void {
    this.socket.destroy();
  }
}

/** The text of a request. `fields`: whole lines. */
export function request(target: string, { method = "GET", version = "1.1", fields = "" } = {}): string {
  return `${method} ${target} HTTP/${version}\r\nHost: test\r\n${fields}\r\n`;
}

/** The whole of what a connection brings for one request. */
export async function ask(
  port: number,
  target: string,
  options: Parameters<typeof request>[1] = {},
): Promise<Reply> {
  const client = await Client.to(port);
  try {
    client.send(request(target, { ...options, fields: `Connection: close\r\n${options.fields ?? ""}` }));
    const reply = await client.reply({ bodiless: options.method === "HEAD" });
    assertEquals((await client.rest()).length, 0, `more came than the Content-Length of ${target}`);
    return reply;
  } finally {
    client.close();
  }
}

export function assertSame(actual: Buffer, expected: Buffer, what: string): void {
  assert(actual.equals(expected), `${what}: ${actual.length} bytes came, ${expected.length} are right`);
}
