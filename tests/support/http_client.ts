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
    const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const client = new Client(socket);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return client;
  }

  send(...requests: string[]): void {
    this.socket.write(requests.join(""), "latin1");
  }

  /** Says that nothing more will be sent; what is to come still comes. */
  finish(): void {
    this.socket.end();
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

  /** The next response; `bodiless`: to a HEAD request (204 and 304 have no body in any case). */
  async reply({ bodiless = false } = {}): Promise<Reply> {
    let end: number;
    while ((end = this.#joined().indexOf("\r\n\r\n")) < 0) {
      if (this.#ended) throw new Error(`the connection ended in a head: ${this.#joined()}`);
      await this.#more();
    }
    const head = (await this.#take(end + 4)).toString("latin1");
    const [first, ...fields] = head.trimEnd().split("\r\n");
    assert(/^HTTP\/1\.[01] \d{3}( |$)/.test(first), `no status line: ${first}`);
    const headers = Object.fromEntries(
      fields.map((field) => [field.split(":")[0].toLowerCase(), field.slice(field.indexOf(":") + 2)]),
    );
    const status = Number(first.split(" ")[1]);
    return {
      status,
      head,
      headers,
      body: await this.#body(head, headers, bodiless || [204, 304].includes(status)),
    };
  }

  async #body(head: string, headers: Record<string, string>, empty: boolean): Promise<Buffer> {
    if (empty) return Buffer.alloc(0);
    const { "content-length": length, "transfer-encoding": coding } = headers;
    if (coding === "chunked" && length === undefined) return Buffer.concat(await this.#chunked());
    assert(coding === undefined && /^\d+$/.test(length), `not framed by a length: ${head}`);
    return await this.#take(Number(length));
  }

  /** The chunks of a body, which must have neither extensions nor trailers. */
  async #chunked(): Promise<Buffer[]> {
    const chunks: Buffer[] = [];
    while (true) {
      let line = "";
      while (!line.endsWith("\r\n")) line += (await this.#take(1)).toString("latin1");
      assert(/^[0-9a-f]+\r\n$/i.test(line), `no size of a chunk: ${JSON.stringify(line)}`);
      const chunk = await this.#take(parseInt(line, 16));
      assertEquals((await this.#take(2)).toString("latin1"), "\r\n");
      if (chunk.length === 0) return chunks;
      chunks.push(chunk);
    }
  }

  /** Waits for the first bytes, and reads no more. */
  async begun(): Promise<void> {
    while (this.#length() === 0) {
      if (this.#ended) throw new Error("the connection ended");
      await this.#more();
    }
    this.socket.pause();
  }

  /** What has come and was not taken, as text. */
  seen(): string {
    return this.#joined().toString("latin1");
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

/** A range of bytes, both ends included. */
export type Span = readonly [first: number, last: number];

export interface Part {
  readonly span: Span;
  /** The size that its Content-Range gives. */
  readonly size: number;
  readonly type: string;
  readonly body: Buffer;
}

const CONTENT_RANGE = /^bytes (\d+)-(\d+)\/(\d+)$/;

export function parseContentRange(field = ""): { span: Span; size: number } {
  const match = CONTENT_RANGE.exec(field);
  if (!match) throw new Error(`not the Content-Range of a part: ${field}`);
  return { span: [Number(match[1]), Number(match[2])], size: Number(match[3]) };
}

/** The parts of a multipart/byteranges body (RFC 2046, 5.1), which must be nothing else but them. */
export function parseMultipart(type: string, body: Buffer): Part[] {
  const boundary = /^multipart\/byteranges; boundary="?([0-9A-Za-z'()+_,./:=?-]{1,70})"?$/.exec(type)?.[1];
  if (boundary === undefined) throw new Error(`not the type of parts: ${type}`);
  const parts: Part[] = [];
  let at = 0;
  const take = (text: string) => {
    const found = body.subarray(at, at + text.length).toString("latin1");
    if (found !== text) throw new Error(`${JSON.stringify(found)} at ${at}, not ${JSON.stringify(text)}`);
    at += text.length;
  };
  const starts = (text: string) => body.subarray(at, at + text.length).equals(Buffer.from(text));
  if (starts("\r\n")) take("\r\n"); // an empty preamble is allowed
  take(`--${boundary}`);
  while (!starts("--")) {
    take("\r\n");
    const end = body.indexOf("\r\n\r\n", at);
    if (end < 0) throw new Error("a part has no end of its head");
    const fields = body.subarray(at, end).toString("latin1").split("\r\n").map((line) => line.split(": "));
    at = end + 4;
    const names = fields.map(([name]) => name.toLowerCase()).sort();
    if (names.join() !== "content-range,content-type") throw new Error(`the head of a part has ${names}`);
    const values = Object.fromEntries(fields.map(([name, value]) => [name.toLowerCase(), value]));
    const { span, size } = parseContentRange(values["content-range"]);
    const length = span[1] - span[0] + 1;
    parts.push({ span, size, type: values["content-type"], body: body.subarray(at, at + length) });
    at += length;
    take(`\r\n--${boundary}`);
  }
  take("--");
  if (starts("\r\n")) take("\r\n");
  if (at !== body.length) throw new Error(`${body.length - at} bytes behind the last boundary`);
  return parts;
}
