/** What the tests of FileServer share: a server of its own for each, its clients, and how a connection ends. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { setImmediate } from "node:timers";
import { planDirectory } from "../../http/directory.ts";
import type { ResponsePlan } from "../../http/file_response.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import type { Sent } from "../../http/send/socket.ts";
import type { Site } from "../../server/connection.ts";
import type { Head } from "../../server/request_head.ts";
import { FileServer } from "../../server/server.ts";
import type { Listen } from "../../server/transport.ts";
import { listenBun } from "../../server/transport_bun.ts";
import { listenDeno } from "../../server/transport_deno.ts";
import { bytes, descriptors, openBelow } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { Client, DEADLINE, request } from "../support/http_client.ts";
import { MIB, noProc, until } from "../support/site.ts";

/** Larger than the socket buffers between server and client. */
export const LARGE = 24 * MIB;
export const largeContent = Buffer.alloc(LARGE, bytes(1_000_003));

/** A request inside of a body, or behind a refused one: a server that answers it has taken data for a request. */
export const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

export const listen: Listen = isBun ? listenBun : listenDeno;

type RequestHead = Pick<Head, "method" | "target" | "field">;

/** A server of a directory of its own, and its clients. */
export class Place {
  readonly root = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "server-")));
  /** The requests that were answered, and how each response was sent. */
  readonly requests: RequestHead[] = [];
  readonly sent: Sent[] = [];
  readonly errors: unknown[] = [];
  readonly clients: Client[] = [];
  readonly server: FileServer;
  readonly site: Site;
  port = 0;

  constructor(plan?: (request: RequestHead) => ResponsePlan | Promise<ResponsePlan>) {
    this.add("a.txt", "this is a");
    this.add("b.txt", "this is b");
    const resolved = resolveDirectoryOptions({});
    const files = (request: RequestHead) =>
      planDirectory(request, resolved, this.root, parseTarget(request.target));
    this.site = {
      resolved,
      plan: (request) => {
        this.requests.push(request);
        return (plan ?? files)(request);
      },
      onSent: (_, sent) => this.sent.push(sent),
      onError: (error) => this.errors.push(error),
    };
    this.server = new FileServer(this.site);
  }

  add(name: string, content: string | Buffer): void {
    fs.writeFileSync(join(this.root, name), content);
  }

  async client(): Promise<Client> {
    const client = await Client.to(this.port);
    this.clients.push(client);
    return client;
  }

  targets(): string[] {
    return this.requests.map(({ target }) => target);
  }

  close(): void {
    this.clients.forEach((client) => client.close());
    try {
      this.server.close();
    } catch {
      // the test has closed it
    }
    fs.rmSync(this.root, { recursive: true });
  }
}

export interface ServingOptions {
  plan?: (request: RequestHead) => ResponsePlan | Promise<ResponsePlan>;
  /** What `onError` is told. */
  errors?: string[];
}

/** Registers a test with a server of its own. All files and sockets must be closed at its end. */
export function serving(
  name: string,
  body: (place: Place) => Promise<void>,
  { plan, errors = [] }: ServingOptions = {},
): void {
  test(`FileServer ${name}`, async () => {
    const place = new Place(plan);
    const before = sockets();
    try {
      place.port = place.server.listen({ host: "127.0.0.1", port: 0, shared: false });
      await body(place);
      assertEquals(place.errors.map((error) => (error as Error).message), errors);
      assert(!place.targets().includes("/smuggled"), "data was answered as a request");
      place.clients.forEach((client) => client.close());
      await until(() => openBelow(place.root).length === 0, "the files to be closed");
    } finally {
      place.close();
    }
    await until(() => sockets() <= before, "the sockets to be closed");
  });
}

/** Sockets that this process has open. */
export function sockets(): number {
  return noProc ? 0 : descriptors().filter((text) => text.includes("socket:")).length;
}

/** How the server ends the connection: "FIN", or the code of an error. Call it before that happens. */
export function ending({ socket }: Client): Promise<string> {
  return new Promise((resolve) => {
    socket.once("end", () => resolve("FIN"));
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code ?? "an error"));
  });
}

/** The result of `work`; fails after `limit` milliseconds. */
export async function soon<T>(work: Promise<T>, what: string, limit = DEADLINE): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), limit);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Writes all, and resolves once the last byte has left this process. */
export function written({ socket }: Client, content: string | Uint8Array): Promise<void> {
  const all = Buffer.isBuffer(content) ? content : Buffer.from(content as string, "latin1");
  return new Promise((resolve, reject) => socket.write(all, (error) => error ? reject(error) : resolve()));
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Sends a request that must be refused, and behind it one that must not be answered. */
export async function assertRefused(place: Place, text: string, status: number): Promise<void> {
  const client = await place.client();
  const end = ending(client);
  client.send(text, SMUGGLED);
  const reply = await client.reply();
  assertEquals(reply.status, status, JSON.stringify(text));
  assertEquals(reply.headers.connection, "close", JSON.stringify(text));
  assertEquals((await client.rest()).length, 0, `more came behind ${JSON.stringify(text)}`);
  assertEquals(await end, "FIN", JSON.stringify(text));
  client.close();
}

/** Sends a request that must be answered, and then another one on the same connection. */
export async function assertAnswered(
  place: Place,
  text: string,
  status: number,
  content?: string,
): Promise<void> {
  const client = await place.client();
  client.send(text, request("/b.txt"));
  const bodiless = text.startsWith("HEAD ");
  const reply = await client.reply({ bodiless });
  assertEquals(reply.status, status, JSON.stringify(text));
  assert(reply.head.startsWith("HTTP/1.1 "), reply.head);
  if (content !== undefined) assertEquals(String(reply.body), content, JSON.stringify(text));
  assertEquals(String((await client.reply()).body), "this is b", `behind ${JSON.stringify(text)}`);
  client.close();
}

export const PIPELINE = [
  "\r\n",
  request("/a.txt"),
  request("/b.txt", { method: "HEAD" }),
  request("/missing", { fields: "Content-Length: 7\r\n" }),
  "GET / H",
  request("/b.txt", { method: "POST", fields: "Content-Length: 0\r\nX: \xe4\r\n" }),
  request("/a.txt"),
].join("");

/** A request head of exactly `size` bytes. */
export function headOf(size: number): string {
  const head = request("/a.txt", { fields: "X: \r\n" });
  return request("/a.txt", { fields: `X: ${"x".repeat(size - head.length)}\r\n` });
}

/** A body from memory, larger than the socket buffers. */
export function answerLarge(): ResponsePlan {
  return { status: 200, headers: { "Content-Length": String(LARGE) }, body: new Uint8Array(LARGE).fill(7) };
}
