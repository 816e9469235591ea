/** A Deno.serve with withSendfile around its handler, in this process: what each body was, and which way it went. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import * as net from "node:net";
import type { Duplex } from "node:stream";
import { type BodyWay, serveDir, withSendfile } from "../../http/mod.ts";
import { sendfileStats } from "../../mod.ts";
import { bytes, descriptors, folder, openBelow } from "./data.ts";
import { assertSame, Client, type Reply, request } from "./http_client.ts";
import { MIB, until } from "./site.ts";
import { codeOf } from "../../reasons.ts";

export const DENO = { only: "deno" } as const;

/** The server sends at most so many bytes of a file whose rest goes past it. */
export const FIRST = 16 * 1024;

export const BELOW = "the body is below the threshold";
export const NOT_FIRST = "the connection was not seen from its first byte";
export const OTHER_HEAD = "the server wrote something other than the expected head";
export const LATE = "the server did not write the expected head in time";
export const SEVERAL = "several connections have this peer";
export const UNDER_WAY = "an earlier response is still under way";
export const NOT_WORTH = "the search through all open descriptors would cost more than this body saves";
export const NOT_THE_FILES = "the status or the length no longer match the file";
export const SENDFILE: BodyWay = { via: "sendfile" };
export const native = (reason: string): BodyWay => ({ via: "native", reason, code: codeOf(reason) });

export const SMALL = Buffer.from("some small text");
export const MIDDLE = Buffer.from(bytes(100_000, 2));
export const MIDDLES = Buffer.from(bytes(MIB, 4));
export const LARGE = Buffer.from(bytes(3 * MIB + 1));
export const OTHER = Buffer.from(bytes(LARGE.length, 3));
export const TEXT = Buffer.from("some text, again and again. ".repeat(100_000));
/** More than all buffers between two ends hold. */
export const HUGE = Buffer.concat(Array(8).fill(LARGE));
const FILES = {
  "small.txt": SMALL,
  "middle.bin": MIDDLE,
  "large.bin": LARGE,
  "text.txt": TEXT,
  "huge.bin": HUGE,
};

type Handler = (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response>;

/** A folder with files, and a server of them in this process. */
export interface Place {
  readonly root: string;
  readonly port: number;
  readonly server: Deno.HttpServer;
  readonly abort: AbortController;
  /** Set by who has shut the server down. */
  shut?: boolean;
  /** What onBody was told. */
  readonly ways: BodyWay[];
  /** What `completed` of each request came to. */
  readonly completed: string[];
  /** What the server's onError was told. */
  readonly errors: unknown[];
  path(name: string): string;
  /** Bytes that went by sendfile(2) since the start. */
  moved(): number;
}

export interface Setup {
  /** Without one, serveDir. */
  handler?: (place: Place) => Handler;
  threshold?: number;
  rateLimit?: number;
  listen?: Partial<Deno.ServeTcpOptions & Deno.TlsCertifiedKeyPem & { automaticCompression: boolean }>;
  /** A unix socket in its folder instead. */
  unix?: boolean;
  /** Which errors the server's onError may be told of: none, without it. */
  errors?: RegExp;
  onBody?: (way: BodyWay) => void;
}

/** All that any onBody was told. */
export const told: BodyWay[] = [];

export const sockets = () => descriptors().filter((text) => text.includes(" socket:")).length;

export async function withFiles(body: (root: string) => Promise<void>): Promise<void> {
  const root = fs.realpathSync(folder());
  try {
    for (const [name, content] of Object.entries(FILES)) fs.writeFileSync(join(root, name), content);
    await body(root);
    await until(() => openBelow(root).length === 0, `the files to be closed: ${openBelow(root)}`);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** Runs `body` with a server; afterwards neither file nor socket may be open that was not before. */
export function serving(body: (place: Place) => Promise<void>, setup: Setup = {}): Promise<void> {
  return withFiles(async (root) => {
    const open = sockets();
    const before = sendfileStats();
    const since = told.length;
    const abort = new AbortController();
    const place = {
      root,
      port: 0,
      abort,
      ways: [] as BodyWay[],
      completed: [] as string[],
      errors: [] as unknown[],
      path: (name: string) => join(root, name),
      moved: () => sendfileStats().sendfile.bytes - before.sendfile.bytes,
    } as { -readonly [K in keyof Place]: Place[K] };
    const handler = setup.handler?.(place) ??
      ((request) => serveDir(request, { fsRoot: root, quiet: true, rateLimit: setup.rateLimit }));
    const wrapped = withSendfile<Deno.ServeHandlerInfo>((request, info) => {
      info?.completed.then(() => place.completed.push("done"), () => place.completed.push("failed"));
      return handler(request, info);
    }, {
      threshold: setup.threshold,
      onBody(way) {
        place.ways.push({ ...way });
        told.push({ ...way });
        setup.onBody?.(way);
      },
    });
    const listen = setup.unix
      ? { path: join(root, "socket") }
      : { hostname: "127.0.0.1", port: 0, ...setup.listen };
    place.server = Deno.serve({
      ...listen as Deno.ServeTcpOptions,
      signal: abort.signal,
      onListen() {},
      onError(error) {
        place.errors.push(error);
        return new Response("failed", { status: 500 });
      },
    }, wrapped);
    place.port = (place.server.addr as Deno.NetAddr).port;
    try {
      await body(place);
      assertStats(told.slice(since), before);
      assertEquals(place.errors.filter((error) => !setup.errors?.test(String(error))), []);
    } finally {
      // To abort what was shut down is an error of Deno's.
      if (!place.shut) abort.abort();
      await place.server.finished;
    }
    await until(() => sockets() <= open, `the sockets to be closed: ${open} were open, ${sockets()} are`);
  });
}

/** The counters say what onBody was told. */
function assertStats(ways: BodyWay[], before: ReturnType<typeof sendfileStats>): void {
  const after = sendfileStats();
  const left = ways.filter(({ via }) => via === "native");
  assertEquals(after.native.transfers - before.native.transfers, left.length);
  for (const reason of new Set(left.map(({ reason }) => reason!))) {
    const told = left.filter((way) => way.reason === reason).length;
    assertEquals((after.reasons[reason] ?? 0) - (before.reasons[reason] ?? 0), told, reason);
  }
}

/** That a body of `length` bytes went by sendfile(2), all but its beginning. */
export function assertMoved(place: Place, length: number): void {
  assertEquals(place.ways, [SENDFILE]);
  const moved = place.moved();
  assert(moved < length && moved >= length - FIRST, `${moved} of ${length} bytes by sendfile`);
}

/** The one answer on a connection of its own, and that nothing follows it. */
export async function only(port: number, text: string, bodiless = false): Promise<Reply> {
  const client = await Client.to(port);
  try {
    client.send(text);
    const reply = await client.reply({ bodiless });
    assertEquals((await client.rest()).length, 0, "something follows the body");
    return reply;
  } finally {
    client.close();
  }
}

/** Any socket, and all that comes on it. */
export class Transport {
  readonly socket: Duplex;
  readonly chunks: Buffer[] = [];
  length = 0;
  ended = false;

  constructor(socket: Duplex) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.length += chunk.length;
    });
    for (const event of ["end", "close", "error"]) socket.on(event, () => this.ended = true);
  }

  static async to(options: net.NetConnectOpts): Promise<Transport> {
    const socket = net.connect(options);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return new Transport(socket);
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, "latin1"));
  }

  /** All until the end: the head, and what follows it. */
  async all(): Promise<[head: string, body: Buffer]> {
    await until(() => this.ended, "the end of the connection");
    const whole = Buffer.concat(this.chunks);
    const end = whole.indexOf("\r\n\r\n") + 4;
    assert(end > 3, `no head: ${whole}`);
    return [whole.subarray(0, end).toString("latin1"), whole.subarray(end)];
  }

  close(): void {
    this.socket.destroy();
  }
}

/** A client that has asked for the huge file and does not read: the transfer waits. */
export async function waitingClient({ port }: Place): Promise<Client> {
  const { waits } = sendfileStats();
  const client = await Client.to(port);
  client.send(request("/huge.bin"));
  await client.begun();
  await until(() => sendfileStats().waits > waits, "the transfer to wait for its reader");
  return client;
}

/** A client that has got the beginning of huge.bin, and reads no more for now. */
export async function beginHuge({ port }: Place): Promise<Client> {
  const client = await Client.to(port);
  client.send(request("/huge.bin"));
  await client.begun();
  return client;
}

/** Reads the response of {@link beginHuge} to the end of the connection: the file, and nothing behind it. */
export async function takeHuge(client: Client): Promise<void> {
  client.socket.resume();
  assertSame((await client.reply()).body, HUGE, "the file");
  assertEquals((await client.rest()).length, 0);
}
