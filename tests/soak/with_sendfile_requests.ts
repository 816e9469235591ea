/** Requests drawn by lot, and what each response must be. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import type { Span } from "../support/http_client.ts";
import { CHANGES, versionOf } from "./changing.ts";
import type { Draw } from "./lot.ts";
import { type File, FILES, LARGE, MIB } from "./with_sendfile_files.ts";
import { textOf } from "./with_sendfile_servers.ts";

export interface Head {
  readonly status: number;
  readonly version: string;
  readonly text: string;
  readonly headers: Record<string, string>;
}

/** One request, and all that is known of its response. */
export interface Ask {
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

export const text = (draw: Draw, id: string): Details => {
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

export function drawFile(draw: Draw): Details {
  return [whole, whole, whole, whole, range, range, multipart, changing][draw(8)](draw);
}

export function drawSmall(draw: Draw, id: string): Details {
  if (draw(20) === 0) return missing();
  if (draw(3) > 0) return text(draw, id);
  if (draw(2) === 0) return { ...whole(draw), method: "HEAD" };
  const { name, content } = FILES[draw(7)];
  return { path: `/file/${name}`, body: () => [content] };
}

export function drawAsk(draw: Draw, details: Details, id: string, connection: string | undefined): Ask {
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

export function linesOf({ method, path, version, fields }: Ask): string {
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/${version}\r\nHost: test\r\n${lines.join("")}\r\n`;
}
