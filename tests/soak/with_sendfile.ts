/**
 * Many connections at once to several servers with withSendfile, with everything drawn by lot: what arrives is what
 * was asked for, or where an end was made of it a prefix of that; nobody ever gets a byte of another's.
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { type BodyWay, serveFile, withSendfile } from "../../http/mod.ts";
import { canUseSendfile } from "../../mod.ts";
import { folder, openBelow, until } from "../support/data.ts";
import { ask, assertSame, type Span } from "../support/http_client.ts";
import { CHANGES, Changing, POOL, versionOf } from "./changing.ts";
import { type Draw, lot, turns } from "./lot.ts";
import { narrowDown } from "./narrow.ts";
import { Failure, openSockets, playSeeds, Tally } from "./scene.ts";
import { type Habit as Leaving, Wire } from "./wire.ts";

/**
 * Clients at once. With as many in the servers' process from the start only the largest bodies would ever be worth a
 * look at all its descriptors, as the system never forgets how many there were.
 */
const AT_ONCE = { here: 24, elsewhere: 200 };

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZES = [
  ...[1, 1000, 16 * KIB, 16 * KIB + 1, 40_000, 100_000, 200_003, 256 * KIB - 1, 256 * KIB, 300_007],
  ...[512 * KIB, 600_011, 800_011, MIB - 1, MIB, MIB + 1, 1_200_007, 1_400_017, 1_700_021],
  ...[2 * MIB - 1, 2 * MIB, 2_500_009, 3_000_017, 3_700_001, 4 * MIB, 4 * MIB + 1, 4_300_003, 4_500_007],
  ...[4_700_021, 5_000_011, 6_000_011, 8 * MIB],
];
/** From so many bytes on a body is worth any look at the descriptors that there are here. */
const LARGE = 4 * MIB;

interface File {
  readonly name: string;
  readonly content: Uint8Array;
}

/** No two have the same byte in the same place, but by chance. */
const FILES: readonly File[] = SIZES.map((size, i) => ({
  name: `${i}.bin`,
  content: POOL.subarray(i * 1_100_009, i * 1_100_009 + size),
}));
// Servers: /file/NAME, /text/LENGTH/PIECES, /way (what was told of a body). In the query: `id`, which comes back as X-Asked; `before` and `after`, the
// turns around the look at the file; `busy`, milliseconds for which nothing else runs then; `race`, when its name gets
// other bytes: 1, before; 2, after; more, so many turns later.

class Site {
  readonly root = fs.realpathSync(folder());
  readonly changing: Readonly<Record<string, Changing>>;

  constructor() {
    for (const { name, content } of FILES) fs.writeFileSync(join(this.root, name), content);
    this.changing = Object.fromEntries(
      Object.keys(CHANGES).map((name) => [name, new Changing(this.root, name)]),
    );
  }
}

/** What a client knows of a server. */
interface Place {
  readonly port: number;
  /** Infinity: it has no files. */
  readonly threshold: number | null;
}

interface Running extends Place {
  readonly errors: unknown[];
  /** What was told of each body, by the request's id. */
  readonly ways: Map<string, BodyWay[]>;
  close(): Promise<void>;
}

function idOf(url: string): string {
  return /[?&]id=([^&]+)/.exec(url)?.[1] ?? "";
}

function textOf(id: string, length: number): string {
  return `the text for ${id}; `.repeat(length / 18 + 1).slice(0, length);
}

/** Nothing else runs for so long, and garbage comes of it. */
function busy(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;) new Uint8Array(256 * KIB).fill(1);
}

function handlerOf({ root, changing }: Site, ways: Running["ways"]): (request: Request) => Promise<Response> {
  return async (request) => {
    const { pathname, searchParams: query } = new URL(request.url);
    const [, route, ...rest] = pathname.split("/");
    const id = query.get("id") ?? "";
    const headers = { "X-Asked": id };
    await turns(Number(query.get("before")));
    if (route === "way") return Response.json(ways.get(id) ?? []);
    if (route === "text") {
      const text = textOf(id, Number(rest[0]));
      const pieces = Number(rest[1]);
      if (pieces === 0) return new Response(text, { headers });
      const size = Math.ceil(text.length / pieces);
      let at = 0;
      const body = new ReadableStream({
        async pull(controller) {
          await turns(Number(query.get("after")));
          if (at < text.length) controller.enqueue(new TextEncoder().encode(text.slice(at, at += size)));
          else controller.close();
        },
      });
      return new Response(body, { headers: { ...headers, "Content-Length": String(text.length) } });
    }
    const file = changing[rest[0]];
    const race = Number(query.get("race"));
    if (race === 1) file.change();
    const response = await serveFile(request, join(root, rest[0]));
    response.headers.set("X-Asked", id);
    if (race === 2) file.change();
    else if (race > 2) turns(race).then(() => file.change());
    await turns(Number(query.get("after")));
    busy(Number(query.get("busy")));
    return response;
  };
}

interface Kind {
  /** Null: it is no server of files. */
  readonly threshold: number | null | undefined;
  /** Its connections have small buffers. */
  readonly narrow?: boolean;
}

const DEFAULT = 2 * MIB;
const KINDS: readonly Kind[] = [
  { threshold: undefined },
  { threshold: 3_000_000, narrow: true },
  { threshold: 0 },
  { threshold: null },
];

function serve(site: Site, { threshold, narrow }: Kind): Running {
  const errors: unknown[] = [];
  const ways = new Map<string, BodyWay[]>();
  const handler = handlerOf(site, ways);
  const onBody = (way: BodyWay, { url }: Request) => {
    const id = idOf(url);
    ways.set(id, [...ways.get(id) ?? [], way]);
  };
  const ending = new AbortController();
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    signal: ending.signal,
    onListen() {},
    onError(error) {
      errors.push(error);
      return new Response(null, { status: 599 });
    },
  }, threshold === null ? handler : withSendfile(handler, { threshold, onBody }));
  const { port } = server.addr;
  if (narrow) narrowDown(port);
  return {
    port,
    threshold: threshold === undefined ? DEFAULT : threshold,
    errors,
    ways,
    close() {
      ending.abort();
      return server.finished;
    },
  };
}

// Requests, and what they must bring

interface Head {
  readonly status: number;
  readonly version: string;
  readonly text: string;
  readonly headers: Record<string, string>;
}

/** One request, and all that is known of its response. */
interface Ask {
  readonly id: string;
  readonly path: string;
  readonly method: string;
  readonly version: string;
  readonly fields: Record<string, string>;
  readonly status: number;
  /** What the body must be, by the head, in pieces; for HEAD too, whose Content-Length speaks of it. */
  readonly body: (head: Head) => readonly Uint8Array[];
  /** A file's, and no text. */
  readonly file: boolean;
  readonly truncated?: boolean;
}

type Details = Pick<Ask, "path" | "body"> & Partial<Ask>;

/** Where no two files look alike, so do their types. */
const TYPE = "application/octet-stream";

function multipartOf(content: Uint8Array, spans: readonly Span[], boundary: string): Uint8Array[] {
  const parts = spans.flatMap(([first, last], i) => [
    Buffer.from(
      `${i === 0 ? "" : "\r\n"}--${boundary}\r\nContent-Type: ${TYPE}\r\n` +
        `Content-Range: bytes ${first}-${last}/${content.length}\r\n\r\n`,
    ),
    content.subarray(first, last + 1),
  ]);
  return [...parts, Buffer.from(`\r\n--${boundary}--\r\n`)];
}

function spanOf(draw: Draw, from: number, to: number): Span {
  const first = from + (draw(2) === 0 ? draw(100) : draw(to - from)) % (to - from);
  return [first, draw(3) > 0 ? to - 1 - draw(100) % (to - first) : first + draw(to - first)];
}

function fileOf(draw: Draw, least = 1): File {
  const large = FILES.filter(({ content }) => content.length >= least);
  return large[draw(large.length)];
}

/** A 206's head says which part of what. */
function checkRange({ headers, status }: Head, [first, last]: Span, size: number): void {
  if (status === 206) assertEquals(headers["content-range"], `bytes ${first}-${last}/${size}`);
}

const whole = (draw: Draw): Details => {
  const { name, content } = fileOf(draw, [1, 700_000, LARGE, LARGE][draw(4)]);
  return { path: `/file/${name}`, body: () => [content] };
};

const range = (draw: Draw): Details => {
  const { name, content } = fileOf(draw, [1, MIB, LARGE, LARGE][draw(4)]);
  const span = spanOf(draw, 0, content.length);
  const [first, last] = span;
  const text = last === content.length - 1 && draw(2) === 0 ? `${first}-` : `${first}-${last}`;
  return {
    path: `/file/${name}`,
    fields: { range: `bytes=${text}` },
    status: 206,
    body: (head) => {
      checkRange(head, span, content.length);
      return [content.subarray(first, last + 1)];
    },
  };
};

const multipart = (draw: Draw): Details => {
  const { name, content } = fileOf(draw, [1000, MIB, LARGE, LARGE][draw(4)]);
  const count = 2 + draw(4);
  const share = Math.floor(content.length / count);
  const spans = Array.from({ length: count }, (_, i) => spanOf(draw, i * share, (i + 1) * share));
  if (draw(2) === 0) spans.reverse();
  return {
    path: `/file/${name}`,
    fields: { range: `bytes=${spans.map((span) => span.join("-")).join(",")}` },
    status: 206,
    body: ({ headers }) => {
      const match = /^multipart\/byteranges; boundary=([\w-]+)$/.exec(headers["content-type"] ?? "");
      assert(match, `no boundary: ${headers["content-type"]}`);
      return multipartOf(content, spans, match[1]);
    },
  };
};

const changing = (draw: Draw): Details => {
  const name = Object.keys(CHANGES)[draw(3)];
  const from = draw(3) === 0 ? draw(50_000) : undefined;
  const race = [0, 1, 2, 3 + draw(20)][draw(4)];
  return {
    path: `/file/${name}?race=${race}`,
    fields: from === undefined ? {} : { range: `bytes=${from}-` },
    truncated: CHANGES[name] === "truncates",
    body: (head) => {
      const { status, headers } = head;
      if (status === 500) return [Buffer.from("500 Internal Server Error\n")]; // shorter between look and read
      if (status === 416) return [Buffer.from("416 Range Not Satisfiable\n")]; // of nothing
      assert(status === (from === undefined ? 200 : 206) || status === 200, head.text);
      const size = parseInt(headers.etag.slice(1), 16); // the tag is of size and time
      if (status === 200) return [versionOf(name, size)];
      checkRange(head, [from!, size - 1], size);
      return [versionOf(name, size).subarray(from)];
    },
  };
};

const text = (draw: Draw, id: string): Details => {
  const length = [0, 1, draw(200), draw(2000), draw(40_000)][draw(5)];
  const pieces = draw(3) > 0 ? 0 : 1 + draw(20);
  return { path: `/text/${length}/${pieces}`, file: false, body: () => [Buffer.from(textOf(id, length))] };
};

const missing = (): Details => ({
  path: "/file/none",
  status: 404,
  file: false,
  body: () => [Buffer.from("404 Not Found\n")],
});

function drawFile(draw: Draw): Details {
  return [whole, whole, whole, whole, range, range, multipart, changing][draw(8)](draw);
}

function drawSmall(draw: Draw, id: string): Details {
  if (draw(20) === 0) return missing();
  if (draw(3) > 0) return text(draw, id);
  if (draw(2) === 0) return { ...whole(draw), method: "HEAD" };
  const { name, content } = FILES[draw(7)];
  return { path: `/file/${name}`, body: () => [content] };
}

function drawAsk(draw: Draw, details: Details, id: string, connection: string | undefined): Ask {
  let { path } = details;
  path += `${path.includes("?") ? "&" : "?"}id=${id}`;
  if (draw(4) === 0) path += `&before=${draw(30)}`;
  if (draw(4) === 0) path += `&after=${draw(15)}`;
  if (draw(20) === 0) path += `&busy=${draw(8) === 0 ? 30 : draw(4)}`;
  const fields = { ...details.fields };
  if (connection !== undefined) fields.connection = connection;
  // Of what is here Deno compresses texts alone.
  if (details.file !== false && draw(6) === 0) fields["accept-encoding"] = "gzip, br";
  return { method: "GET", version: "1.1", status: 200, file: true, ...details, id, path, fields };
}

function linesOf({ method, path, version, fields }: Ask): string {
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/${version}\r\nHost: test\r\n${lines.join("")}\r\n`;
}

// Clients

/** What a client does in the middle. */
interface Habit extends Leaving {
  /** It says that it will ask no more, so many turns after it has asked. */
  readonly finishes?: number;
}

function habitOf(draw: Draw): Habit {
  const slow = ([undefined, undefined, undefined, "turns", "turns", "timer"] as const)[draw(6)];
  if (draw(2) === 0) return { slow, finishes: draw(3) === 0 ? draw(2) * draw(30) : undefined };
  const how = draw(2) === 0 ? "destroy" : "reset";
  if (draw(3) === 0) return { slow, leaves: { turns: draw(40), how } };
  return { slow, leaves: { after: [0, 1 + draw(500), draw(20_000), draw(6 * MIB)][draw(4)], how } };
}

/** The head of the next response; undefined where the connection ended in it. */
async function takeHead(wire: Wire, { id }: Ask): Promise<Head | undefined> {
  const text = (await wire.upTo("\r\n\r\n")).toString("latin1");
  assert("HTTP/1.".startsWith(text.slice(0, 7)), `no head: ${JSON.stringify(text.slice(0, 200))}`);
  const asked = /^x-asked: (.*)\r$/im.exec(text)?.[1];
  assert(asked === undefined || asked === id, `the response to ${asked}, not ${id}`);
  if (!text.endsWith("\r\n\r\n")) return undefined;
  assertEquals(asked, id, text);
  const [, ...lines] = text.trimEnd().split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const name = line.split(":")[0].toLowerCase();
    const value = line.slice(line.indexOf(":") + 2);
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return { status: Number(text.slice(9, 12)), version: text.slice(5, 8), text, headers };
}

/** Whether it is over with the connection after this response. */
function closes({ version, headers }: Head): boolean {
  const { connection = "" } = headers;
  return /\bclose\b/.test(connection) || version === "1.0" && connection !== "keep-alive";
}

function lengthOf(body: readonly Uint8Array[]): number {
  return body.reduce((sum, { length }) => sum + length, 0);
}

/** What the head must say; the body that it promises. */
function checkHead(head: Head, asked: Ask, { threshold }: Place): readonly Uint8Array[] {
  const { headers, status, text } = head;
  const body = asked.body(head);
  const length = lengthOf(body);
  if (!asked.path.includes("race=")) assertEquals(status, asked.status, text);
  assertEquals(headers["transfer-encoding"], undefined, text);
  const told = headers["content-length"] ?? (head.version === "2" ? "0" : undefined); // which frames nothing by it
  assertEquals(told, String(length), text);
  if (headers.connection === "close" && asked.version === "1.1") {
    const large = asked.file && asked.method === "GET" && length >= threshold! && length > 16 * KIB;
    assert(large && threshold !== null, `the connection is to end: ${text}`);
  }
  return asked.method === "HEAD" ? [] : body;
}

/** Takes the response to `asked`: whether it came to its end, and whether the connection comes to its own with it. */
async function takeReply(
  wire: Wire,
  asked: Ask,
  place: Place,
): Promise<{ whole: boolean; last?: boolean; sent?: boolean }> {
  const head = await takeHead(wire, asked);
  if (!head) return { whole: false };
  let at = 0;
  for (const piece of checkHead(head, asked, place)) {
    for (let from = 0; from < piece.length;) {
      const some = await wire.some(piece.length - from);
      if (some.length === 0) return { whole: false };
      const expected = piece.subarray(from, from + some.length);
      if (!some.equals(expected)) describe(some, expected, at, asked);
      from += some.length;
      at += some.length;
    }
  }
  return { whole: true, last: closes(head) };
}

/** Fails with all that can be said of bytes that are wrong. */
function describe(some: Buffer, expected: Uint8Array, at: number, { id, path }: Ask): never {
  const wrong = some.findIndex((byte, i) => byte !== expected[i]);
  const sample = some.subarray(wrong, wrong + 16);
  const from = FILES.flatMap(({ name, content }) => {
    const place = sample.length < 8 ? -1 : Buffer.from(content).indexOf(sample);
    return place < 0 ? [] : [`byte ${place} of ${name}`];
  });
  const what = from.join() || JSON.stringify(sample.toString("latin1"));
  throw new Error(`byte ${at + wrong} of ${id}, ${path}, is ${what}`);
}

/** What came of everything. */
class Done extends Tally {
  /** Ids of files' bodies that came whole. */
  readonly whole: string[] = [];
  /** Of bodies that ended early for clients that were still there, but had said that they would ask no more. */
  readonly cut: string[] = [];
}

/** Some places in a text of that length, in order. */
function cutsOf(draw: Draw, length: number): number[] {
  const cuts = Array.from({ length: draw(2) === 0 ? 0 : draw(6) }, () => draw(length));
  return cuts.sort((a, b) => a - b);
}

/** The requests that go out together. */
function drawBatch(draw: Draw, { threshold }: Place, id: (i: number) => string, connection?: string): Ask[] {
  const count = draw(2) === 0 ? 1 : 1 + draw(6);
  // One of them is large: the first, the last, or anyone.
  const at = threshold === null || draw(6) === 0 ? -1 : [0, 0, count - 1, draw(count)][draw(4)];
  return Array.from({ length: count }, (_, i) => {
    const small = threshold === null ? text : drawSmall;
    const details = i === at ? drawFile(draw) : small(draw, id(i));
    const asked = drawAsk(draw, details, id(i), connection);
    return i === count - 1 && draw(12) === 0 ? { ...asked, version: "1.0" } : asked;
  });
}

/**
 * Takes the end of a connection that a response has said to be over. Deno 2.9 goes on where a handler's response says
 * so: that is no error where the server sent the body itself.
 */
async function isEnd(wire: Wire, { id }: Ask, { port }: Place): Promise<boolean> {
  await Promise.race([wire.some(0), new Promise((resolve) => setTimeout(resolve, 200))]);
  if (wire.ended && wire.waiting === 0) return true;
  const ways = JSON.parse((await ask(port, `/way?id=${id}`)).body.toString()) as BodyWay[];
  if (ways.some(({ via }) => via === "native")) return false;
  const more = await wire.some(Infinity);
  assertEquals(more.length, 0, `behind the last response: ${more.toString("latin1", 0, 200)}`);
  return true;
}

interface Terms {
  readonly seed: string;
  readonly draw: Draw;
  /** For what comes in an order that differs from run to run. */
  readonly chance: Draw;
  readonly place: Place;
  readonly localPort?: number;
  /** Nothing is asked before that. */
  readonly idle?: Promise<unknown>;
}

/** One connection, from its beginning to its end. */
async function connection(
  { seed, draw, chance, place, localPort, idle }: Terms,
  tally: Done,
): Promise<void> {
  const habit = habitOf(draw);
  const keep = [undefined, undefined, "keep-alive", "Keep-Alive"][draw(4)];
  const batches = 1 + draw(3);
  let history = `port ${place.port}, threshold ${place.threshold}, ${JSON.stringify(habit)}`;
  let count = 0;
  const wire = await Wire.to(place.port, habit, chance, localPort);
  let finished = false;
  try {
    await idle;
    if (idle) assert(wire.left || wire.waiting === 0, "bytes that nobody asked for");
    for (let batch = 1; batch <= batches; batch++) {
      const asks = drawBatch(draw, place, (i) => `${seed}.${count + i}`, keep);
      count += asks.length;
      tally.requests += asks.length;
      const sent = asks.map(linesOf).join("");
      const cuts = cutsOf(draw, sent.length);
      history += `\n${sent}-- ${cuts}`;
      const sending = wire.send(sent, cuts, chance).then(async () => {
        const { leaves, finishes } = habit;
        if (leaves?.turns !== undefined) turns(leaves.turns).then(() => wire.leave(leaves.how));
        if (finishes === undefined || batch < batches) return;
        await turns(finishes);
        finished = true;
        wire.socket.end();
      });
      for (const [i, asked] of asks.entries()) {
        const { whole, last } = await takeReply(wire, asked, place);
        if (whole) {
          tally.count(`${asked.file ? asked.method : "text"} whole`);
          if (asked.file && asked.method === "GET") tally.whole.push(asked.id);
        } else {
          if (!wire.left) await sending;
          assert(
            wire.left || finished || asked.truncated,
            `${asked.id} ended early, after ${wire.total} bytes: ${wire.error}`,
          );
          if (!wire.left && finished && !asked.truncated) tally.cut.push(asked.id);
          return tally.count(wire.left ? "left" : asked.truncated ? "truncated" : "finished, then cut");
        }
        // Deno ends connections of HTTP/1.0 also where it says that it keeps them.
        if (!last && asked.version !== "1.0") continue;
        if (!last) return tally.count("HTTP/1.0 kept");
        if (!(await isEnd(wire, asked, place))) return tally.count("not closed by Deno");
        tally.count("closed by the server");
        return tally.count("unanswered", asks.length - 1 - i);
      }
      await sending;
    }
    assert(wire.left || wire.waiting === 0, "bytes that nobody asked for");
  } catch (error) {
    const { stack } = error as Error;
    throw new Error(`${seed}: ${stack}\nafter ${wire.total} bytes of ${history}`, { cause: error });
  } finally {
    wire.socket.destroy();
  }
}

let nextPort = process.pid * 37;

/** A port that several connections may begin at, as no other has it. */
function ownPort(): number {
  return 18_000 + nextPort++ % 14_000;
}

/** Two connections from one address and port, to two servers. */
async function couple(seed: number, places: readonly Place[], tally: Done): Promise<void> {
  const draw = lot(seed);
  const first = draw(places.length);
  const second = (first + 1 + draw(places.length - 1)) % places.length;
  const localPort = ownPort();
  const { promise, resolve } = Promise.withResolvers<void>();
  const one = (place: Place, half: number, idle?: Promise<unknown>) =>
    connection({
      seed: `${seed}.${half}`,
      draw: lot(draw(2 ** 30)),
      chance: lot(~seed * half),
      place,
      localPort,
      idle,
    }, tally).catch((error) => {
      if (error.code === "EADDRINUSE" || error.code === "EADDRNOTAVAIL") tally.count("port taken");
      else throw error;
    });
  const idle = draw(2) === 0 ? promise : turns(draw(20));
  tally.count("couple");
  await Promise.all([one(places[first], 1).finally(resolve), one(places[second], 2, idle)]);
}

/** A connection with HTTP/2, where all is asked at once. */
async function frames(seed: number, place: Place, tally: Done): Promise<void> {
  const draw = lot(seed);
  const { leaves } = habitOf(draw);
  const asks = drawBatch(draw, place, (i) => `${seed}.${i}`);
  tally.requests += asks.length;
  // node:http2 brings Deno 2.9 down where it leaves in the middle (SIGSEGV).
  using client = Deno.createHttpClient({ http1: false, http2: true });
  const leaving = new AbortController();
  let total = 0;
  const one = async ({ fields: { connection: _, ...headers }, ...asked }: Ask) => {
    const ask = { ...asked, fields: headers };
    const chunks: Uint8Array[] = [];
    let head: Head | undefined;
    try {
      const response = await fetch(`http://127.0.0.1:${place.port}${asked.path}`, {
        method: asked.method,
        headers: { "accept-encoding": "identity", ...headers }, // or it asks for more
        client,
        signal: leaving.signal,
      });
      const fields = Object.fromEntries(response.headers);
      head = { status: response.status, version: "2", text: JSON.stringify(fields), headers: fields };
      for await (const chunk of response.body ?? []) {
        chunks.push(chunk);
        total += chunk.length;
        if (leaves?.after !== undefined && total >= leaves.after) leaving.abort();
      }
    } catch (error) {
      assert(
        leaving.signal.aborted || asked.truncated,
        `${asked.id}, ${asked.path}: ${error}, ${(error as Error).cause}`,
      );
    }
    if (!head) return;
    assertEquals(head.headers["x-asked"], asked.id);
    const body = Buffer.concat(chunks);
    const expected = Buffer.concat(checkHead(head, ask, place));
    const right = expected.subarray(0, body.length);
    if (!body.equals(right)) describe(body, right, 0, ask);
    if (body.length === expected.length) {
      tally.count("HTTP/2 whole");
      if (asked.file && asked.method === "GET") tally.whole.push(asked.id);
    } else {
      const what = `${asked.id}: ${body.length} of ${expected.length} bytes`;
      assert(leaving.signal.aborted || asked.truncated, what);
    }
  };
  const all = asks.map(one);
  if (leaves?.turns !== undefined) turns(leaves.turns).then(() => leaving.abort());
  else if (leaves?.after === 0) leaving.abort();
  const ended = await Promise.allSettled(all);
  for (const result of ended) {
    if (result.status === "rejected") throw new Error(`HTTP/2: ${result.reason.stack}`);
  }
}

/** All the clients of one round. */
async function clients(seed: number, requests: number, atOnce: number, places: Place[]): Promise<Done> {
  const tally = new Done();
  await playSeeds({ seed, requests, atOnce, tally }, (seed) => {
    const draw = lot(~seed);
    const place = places[draw(8) === 0 ? places.length - 1 : draw(places.length - 1)];
    const shape = draw(12);
    if (shape < 2) return couple(seed, places, tally);
    if (shape === 2) return frames(seed, place, tally);
    return connection({ seed: String(seed), draw: lot(seed), chance: lot(seed ^ 0x5555), place }, tally);
  });
  return tally;
}

/** The same in a process of its own. */
async function clientsElsewhere(...terms: Parameters<typeof clients>): Promise<Done> {
  const args = ["run", "-A", "--no-check", fromFileUrl(import.meta.url)];
  const env = { ...process.env, [CLIENTS]: JSON.stringify(terms) };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.on("data", (chunk) => out += chunk);
  await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  const report = out.trim().split("\n").at(-1)!;
  assert(report, "the clients' process came to an early end");
  const { error, tally } = JSON.parse(report);
  if (error) throw new Failure(error.seed, error.request, error.text);
  return Object.assign(new Done(), tally);
}

/** In the environment of the process that {@link clientsElsewhere} starts. */
const CLIENTS = "SENDFILE_TEST_CLIENTS";

/** What the servers have told fits what has come. */
function checkWays(servers: readonly Running[], { whole, cut, counts }: Done): void {
  const all = new Map(servers.flatMap(({ ways }) => [...ways]));
  for (const id of cut) {
    assert(!all.get(id)?.some(({ via }) => via !== "native"), `${id} was cut short by sendfile`);
  }
  for (const id of whole) {
    const ways = all.get(id) ?? []; // none for what was sent from memory
    assert(ways.length <= 1, `${id}: ${JSON.stringify(ways)}`);
  }
  for (const { via, reason = via } of [...all.values()].flat()) counts[reason] = (counts[reason] ?? 0) + 1;
  if (whole.length < 100 || !canUseSendfile()) return;
  assert(counts["several connections have this peer"] > 0, "no two connections had one peer");
  for (const { ways, threshold } of servers) {
    if (threshold === null) continue;
    const sent = [...ways].filter(([_, ways]) => ways.some(({ via }) => via === "sendfile"));
    assert(sent.length > 0, `no body of the server with threshold ${threshold} went by sendfile`);
    counts["sendfile, later on a connection"] = (counts["sendfile, later on a connection"] ?? 0) +
      sent.filter(([id]) => !id.endsWith(".0")).length;
  }
  assert(counts["sendfile, later on a connection"] > 0, "none but first responses went by sendfile");
}

/** One round over servers with and without withSendfile; every second one has its clients in another process. */
export async function withSendfileRound(seed: number, requests: number): Promise<Tally> {
  const where = requests === 1 || lot(seed)(2) === 0 ? "here" : "elsewhere";
  const site = new Site();
  const servers = KINDS.map((kind) => serve(site, kind));
  try {
    // The first fetch of a process opens a pair of sockets for good.
    await (await fetch(`http://127.0.0.1:${servers[0].port}/text/1/0`, { headers: { connection: "close" } }))
      .text();
    const before = openSockets();
    const places = servers.map(({ port, threshold }) => ({ port, threshold }));
    const play = where === "here" ? clients : clientsElsewhere;
    const tally = await play(seed, requests, AT_ONCE[where], places);
    await until("the files are closed", () => openBelow(site.root).length === 0);
    await until("the sockets are closed", () => openSockets() <= before);
    checkWays(servers, tally);
    const { name, content } = FILES.at(-1)!;
    for (const { port, threshold } of servers) {
      if (threshold === null) continue;
      const { body } = await ask(port, `/file/${name}`);
      assertSame(body, Buffer.from(content), "the process still answers");
    }
    for (const { errors } of servers) {
      // A stream that must end early can only fail, and Deno.serve tells its onError of that.
      assertEquals(errors.filter((error) => !/became shorter/.test(String(error))), []);
    }
    return tally;
  } finally {
    await Promise.all(Object.values(site.changing).map((file) => file.end()));
    await Promise.all(servers.map((server) => server.close()));
    fs.rmSync(site.root, { recursive: true });
  }
}

if (process.env[CLIENTS]) {
  const terms = JSON.parse(process.env[CLIENTS]) as Parameters<typeof clients>;
  const result = await clients(...terms).then((tally) => ({ tally }), (error) => ({
    error: { seed: error.seed, request: error.request, text: error.stack },
  }));
  console.log(JSON.stringify(result));
  process.exit();
}
