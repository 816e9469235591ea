/** The requests of the soak, and what each must bring. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import type { Reply, Span } from "../support/http_client.ts";
import { type Changing, versionOf } from "./changing.ts";
import type { Draw } from "./lot.ts";
import type { Running } from "./servers.ts";
import { type File, KIB, MIB, type Site, TEXT } from "./site.ts";

/** Up to so much Bun.serve takes a request behind a body; behind more it ends the connection (oven-sh/bun#38128). */
const PIPELINED = 16 * KIB;

export type Head = Omit<Reply, "body">;

/** One request, and all that is known of its response. */
export interface Ask {
  readonly id: string;
  readonly text: string;
  readonly method: string;
  readonly status: number;
  /** Fields that the head must have. */
  readonly fields?: Record<string, string>;
  /** What the body must be, by the head; for HEAD too, whose Content-Length speaks of it. */
  readonly body: (head: Head) => Uint8Array;
  /** It may come in chunks. */
  readonly chunked?: boolean;
  /** Bun.serve must have nothing behind it. */
  readonly last?: boolean;
  /** The server may end the connection. */
  readonly cut?: boolean;
  readonly changing?: Changing;
  /** The request has a body. */
  readonly burdened?: boolean;
  /** Bytes of the body that are a file's; undefined where that is not reported. */
  readonly fromFile?: number;
  /** It is with the system, all of it, when the request has been read. */
  readonly prompt?: boolean;
  /** What the FileServer's Connection says; behind "close" nothing comes. */
  readonly connection?: string;
}

const NOTHING = new Uint8Array();

/** The body of a multipart response. */
function multipartOf({ content, type }: File, spans: readonly Span[], boundary: string): Uint8Array {
  const parts = spans.flatMap(([first, last], i) => [
    Buffer.from(
      `${i === 0 ? "" : "\r\n"}--${boundary}\r\nContent-Type: ${type}\r\n` +
        `Content-Range: bytes ${first}-${last}/${content.length}\r\n\r\n`,
    ),
    content.subarray(first, last + 1),
  ]);
  return Buffer.concat([...parts, Buffer.from(`\r\n--${boundary}--\r\n`)]);
}

function boundaryOf({ headers }: Head): string {
  const match = /^multipart\/byteranges; boundary=([\w-]+)$/.exec(headers["content-type"] ?? "");
  assert(match, `no boundary: ${headers["content-type"]}`);
  return match[1];
}

function spanOf(draw: Draw, from: number, to: number): Span {
  const first = from + draw(to - from);
  return [first, draw(3) === 0 ? Math.min(to - 1, first + draw(100)) : first + draw(to - first)];
}

type Details = Omit<Ask, "id" | "text" | "method"> & {
  readonly path: string;
  readonly method?: string;
  /** Lines of the request. */
  readonly lines?: string;
  readonly content?: string;
};

type Kind = (draw: Draw, site: Site, server: Running) => Details;

function fileOf(draw: Draw, { files }: Site): File {
  const small = files.filter(({ content }) => content.length <= 200_000);
  return draw(4) === 0 ? files[draw(files.length)] : small[draw(small.length)];
}

/** A file that has `size` bytes at least. */
function fileFrom(size: number, draw: Draw, site: Site): File {
  const file = fileOf(draw, site);
  return file.content.length >= size ? file : fileFrom(size, draw, site);
}

function pathTo({ name, content }: File, draw: Draw): string {
  if (content.length <= 200_000 && draw(8) === 0) return `/limited/${name}`;
  return `/${draw(3) === 0 ? "file" : "static"}/${name}`;
}

function wholeOf(file: File, draw: Draw): Details {
  const { content, tag, type } = file;
  const path = pathTo(file, draw);
  return {
    path,
    status: 200,
    fields: { etag: tag, "content-type": type },
    body: () => content,
    fromFile: content.length,
    prompt: content.length <= MIB && !path.startsWith("/limited/"),
    // A limited body comes in chunks from Bun.serve.
    chunked: path.startsWith("/limited/"),
    last: content.length > PIPELINED || path.startsWith("/limited/"),
  };
}

function rangeOf(file: File, [first, last]: Span, draw: Draw): Details {
  const { content } = file;
  const whole = wholeOf(file, draw);
  return {
    ...whole,
    status: 206,
    fields: { ...whole.fields, "content-range": `bytes ${first}-${last}/${content.length}` },
    body: () => content.subarray(first, last + 1),
    fromFile: last - first + 1,
  };
}

const whole: Kind = (draw, site) => wholeOf(fileOf(draw, site), draw);

const small: Kind = (draw, { files }) => wholeOf(files[draw(8)], draw);

const range: Kind = (draw, site) => {
  const file = fileFrom(1, draw, site);
  const { length } = file.content;
  const [first, last] = spanOf(draw, 0, length);
  const spellings: [span: Span, text: string][] = [
    [[first, last], `${first}-${last}`],
    [[first, length - 1], `${first}-`],
    [[length - 1 - last, length - 1], `-${last + 1}`],
  ];
  const [span, text] = spellings[draw(spellings.length)];
  const condition = ["", "", `If-Range: ${file.tag}\r\n`, 'If-Range: "x"\r\n'][draw(4)];
  const asked = condition.includes('"x"') ? wholeOf(file, draw) : rangeOf(file, span, draw);
  const chunked = asked.chunked || condition !== ""; // Bun.serve's, which cannot take the descriptor
  return { ...asked, lines: `Range: bytes=${text}\r\n${condition}`, chunked, last: asked.last || chunked };
};

const multipart: Kind = (draw, site) => {
  const file = fileFrom(1000, draw, site);
  const { length } = file.content;
  const count = 2 + draw(4);
  // Together no more than the file has, in any order.
  const share = Math.floor(length / count);
  const spans = Array.from({ length: count }, (_, i) => spanOf(draw, i * share, (i + 1) * share));
  if (draw(2) === 0) spans.reverse();
  return {
    ...wholeOf(file, draw),
    lines: `Range: bytes=${spans.map((span) => span.join("-")).join(draw(2) === 0 ? "," : ", ")}\r\n`,
    status: 206,
    fields: { etag: file.tag },
    body: (head) => multipartOf(file, spans, boundaryOf(head)),
    fromFile: spans.reduce((sum, [first, last]) => sum + last - first + 1, 0),
    prompt: false,
    chunked: true, // Bun.serve's
    last: true,
  };
};

const head: Kind = (draw, site) => {
  return { ...wholeOf(fileOf(draw, site), draw), method: "HEAD", fromFile: 0, last: false };
};

const unchanged: Kind = (draw, site) => {
  const file = fileOf(draw, site);
  const { path } = wholeOf(file, draw);
  const lines = `If-None-Match: ${draw(2) === 0 ? "*" : file.tag}\r\n`;
  return { path, lines, status: 304, fields: { etag: file.tag }, body: () => NOTHING, fromFile: 0 };
};

/** An answer with its status as the text. */
function refusal(path: string, status: number, text: string, more: Partial<Details> = {}): Details {
  return { path, status, body: () => Buffer.from(`${status} ${text}\n`), ...more };
}

const missing: Kind = (draw) =>
  refusal("/static/none", 404, "Not Found", draw(3) === 0 ? { method: "HEAD" } : {});

const unsatisfiable: Kind = (draw, site) => {
  const { name, content: { length } } = fileFrom(1, draw, site);
  const fields = { "content-range": `bytes */${length}` };
  return refusal(`/static/${name}`, 416, "Range Not Satisfiable", {
    lines: `Range: bytes=${length}-\r\n`,
    fields,
  });
};

const stale: Kind = (draw, site) =>
  refusal(`/static/${fileOf(draw, site).name}`, 412, "Precondition Failed", { lines: 'If-Match: "x"\r\n' });

const posted: Kind = (draw, site) =>
  refusal(`/static/${fileOf(draw, site).name}`, 405, "Method Not Allowed", {
    method: "POST",
    content: TEXT.toString("latin1", 0, draw(2) === 0 ? 0 : draw(50_000)),
    last: true,
  });

const dynamic: Kind = (draw) => {
  const length = [0, 1, draw(2000), draw(20_000), draw(400_000)][draw(5)];
  const pieces = draw(2) === 0 ? 0 : 1 + draw(6);
  const offset = draw(TEXT.length - length);
  const between = draw(3) === 0 ? `?between=${draw(3)}` : "";
  return {
    path: `/pool/${offset}/${length}/${pieces}${between}`,
    status: 200,
    body: () => TEXT.subarray(offset, offset + length),
    chunked: pieces > 0,
    last: length > PIPELINED || pieces > 0,
  };
};

const changing: Kind = (draw, site, { name }) => {
  // It opens the file's path anew when it sends, and lets a file that became shorter stall until its idleTimeout.
  const late = name === "Bun.serve";
  const file = [site.renamed, site.grown, site.truncated][draw(late ? 2 : 3)];
  return {
    path: `/${draw(2) === 0 ? "static" : "file"}/${file.name}${draw(2) === 0 ? "?race=1" : ""}`,
    status: 200,
    body: ({ status, headers }) => {
      // It may have become shorter between the look at it and the read, or be gone.
      if (status === 500) return Buffer.from("500 Internal Server Error\n");
      const tagged = parseInt(headers.etag.slice(1), 16); // the tag is of size and time
      const length = Number(headers["content-length"] ?? tagged);
      if (!late) assertEquals(tagged, length, "size in tag and Content-Length");
      return versionOf(file.name, length);
    },
    changing: file,
    chunked: late, // where the path leads to another file already
    last: true,
  };
};

/** A body that nobody asked for with a GET. */
const burdened: Kind = (draw, site, server) => ({
  ...[whole, range, missing, dynamic][draw(server.name === "FileServer" ? 3 : 4)](draw, site, server),
  content: TEXT.toString("latin1", 0, draw(2) === 0 ? draw(100) : draw(100_000)),
});

const echo: Kind = (draw) => {
  const offset = draw(1_000_000);
  const length = draw(2) === 0 ? draw(100) : draw(200_000);
  const content = TEXT.subarray(offset, offset + length);
  return {
    path: "/echo",
    method: "POST",
    content: content.toString("latin1"),
    status: 200,
    body: () => content,
    chunked: true,
  };
};

type Kinds = [weight: number, kind: Kind][];

/** Those that are answered at once. */
const LIGHT: Kinds = [[2, head], [2, unchanged], [2, missing], [1, unsatisfiable], [1, stale]];

const FILES: Kinds = [[10, whole], [4, range], [3, multipart], ...LIGHT, [4, changing]];

const KINDS: Record<Running["name"], Kinds> = {
  "Deno.serve": [...FILES, [6, dynamic]],
  "Bun.serve": [...FILES, [6, dynamic]],
  "serve": [...FILES, [6, dynamic]],
  "node:http": [...FILES, [6, dynamic], [1, posted], [1, burdened], [1, echo]],
  "FileServer": [...FILES, [1, posted], [2, burdened]],
};

/** Those of which hundreds come at once. */
const MANY: Kinds = [...LIGHT, [4, small], [1, posted]];

function drawKind(draw: Draw, kinds: Kinds): Kind {
  let at = draw(kinds.reduce((sum, [weight]) => sum + weight, 0));
  return kinds.find(([weight]) => (at -= weight) < 0)![1];
}

/** What a client says of itself and of the body that it sends. */
interface Manner {
  readonly before: string;
  readonly version: string;
  readonly lines: string;
  readonly content: string;
  readonly connection?: string;
}

/** Bytes of a request's body behind which the FileServer takes no other request. */
const SKIPPED = 64 * KIB;

/** The manners that the FileServer is to stand. `lasts`: the connection is to go on. */
function mannerOf(draw: Draw, content: string | undefined, lasts: boolean): Manner {
  const old = draw(16) === 0;
  const wish = lasts || draw(2) === 0 ? "keep-alive" : draw(15) === 0 ? "close" : "";
  let ends = wish === "close" || old && wish === "";
  let lines = wish === "" ? "" : `Connection: ${wish}\r\n`;
  if (draw(20) === 0) lines += `X-Pad: ${"x".repeat(draw(15_000))}\r\n`;
  const chunked = content !== undefined && !old && !lasts && draw(3) === 0;
  if (chunked) lines += "Transfer-Encoding: chunked\r\n";
  else if (content !== undefined) lines += `Content-Length: ${content.length}\r\n`;
  const expects = content !== undefined && !lasts && draw(3) === 0;
  if (expects) lines += "Expect: 100-continue\r\n";
  if (content) ends ||= expects || content.length > SKIPPED;
  return {
    before: draw(20) === 0 ? "\r\n" : "", // as old clients send it behind a body
    version: old ? "1.0" : "1.1",
    lines,
    content: chunked ? inChunks(draw, content) : content ?? "",
    connection: ends || chunked ? "close" : old ? "keep-alive" : undefined,
  };
}

function inChunks(draw: Draw, content: string): string {
  let chunks = "";
  for (let at = 0; at < content.length;) {
    const chunk = content.slice(at, at += 1 + draw(30_000));
    chunks += `${chunk.length.toString(16)}\r\n${chunk}\r\n`;
  }
  return `${chunks}0\r\n\r\n`;
}

/** The manners that are node:http's to understand. */
function commonManner(draw: Draw, path: string, content: string | undefined): Manner {
  let lines = content === undefined ? "" : `Content-Length: ${content.length}\r\n`;
  if (content !== undefined && !/^\/(pool|echo)/.test(path) && draw(3) === 0) {
    lines += "Expect: 100-continue\r\n";
  }
  return { before: "", version: "1.1", lines, content: content ?? "" };
}

/** `many`: it is one of hundreds. */
export function drawAsk(draw: Draw, site: Site, server: Running, id: string, many: boolean): Ask {
  const node = server.name === "node:http";
  const files = server.name === "FileServer";
  const details = drawKind(draw, many ? MANY : KINDS[server.name])(draw, site, server);
  const { method = "GET", path, lines = "", content } = details;
  let query = `${path.includes("?") ? "&" : "?"}id=${id}`;
  let { last, cut } = details;
  if (draw(4) === 0) {
    query += `&wait=${draw(files && !many && draw(4) === 0 ? 200 : 10)}`;
    last = true;
  }
  const fields = { ...details.fields };
  if (node) {
    // Not before a head of node:http's own that waits for its turn: that would go first, in Node.js too.
    if (!/^\/(pool|echo)/.test(path) && draw(8) === 0) query += `&hints=${draw(2) === 0 ? 1 : draw(50)}`;
    if (draw(10) === 0) query += "&wrap=1";
  }
  // A text for a body takes the head to UTF-8 with it, in Node.js too.
  if ((node && details.fromFile || files) && draw(8) === 0) {
    query += "&latin=1";
    fields["x-latin"] = "\u00e9\u00ff";
  }
  if (server.cuts.length > 0 && draw(files ? 30 : 6) === 0) {
    query += `&cut=${server.cuts[draw(server.cuts.length)]}&after=${draw(2) === 0 ? draw(3) : draw(100)}`;
    cut = node;
  }
  const manner = files ? mannerOf(draw, content, many) : commonManner(draw, path, content);
  const text = `${manner.before}${method} ${path}${query} HTTP/${manner.version}\r\nHost: test\r\n` +
    `${lines}${manner.lines}\r\n${manner.content}`;
  const prompt = details.prompt && !server.narrow && content === undefined && !/&(wait|wrap)=/.test(query);
  const { connection } = manner;
  return {
    ...details,
    id,
    method,
    text,
    last,
    cut,
    fields,
    prompt,
    burdened: content !== undefined,
    connection,
  };
}
