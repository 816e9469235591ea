/** parseHead against llhttp, the parser of Node.js: 40,000 mutated heads, a new seed each run. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { parseTarget } from "../../http/root/request_target.ts";
import { endOfHead, parseHead } from "../../server/request_head.ts";
import { test } from "../support/harness.ts";
import { missing } from "../support/site.ts";
import { BEHIND, llhttp, type Understood } from "./llhttp.ts";

const VALID = [
  "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
  "GET /a.txt?q=1#f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
  "HEAD http://test:80/a HTTP/1.1\r\nHost: test:80\r\nConnection: close, x\r\n\r\n",
  "OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nX: y\r\n\r\n",
  "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nX: \xe4\r\n\r\n",
  "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nX:\r\n\r\n",
  "PUT /a HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
  "DELETE /%61 HTTP/1.1\r\nContent-Length: 12\r\nhost: a.b\r\nExpect: 100-continue\r\nX: 1\r\nx: 2\r\n\r\n",
  "GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 3\r\n\r\n",
];

/** What an attacker would put in. */
const PIECES = [
  ..."\r\n\t :,;/?#@[]%*\"'<>\\\0\x01\x0b\x0c\x7f\x80\xa0\xc4\xff+-_.059aAzZ",
  ...[
    "\r\n",
    "\r\n ",
    "\r\n\t",
    "\n\n",
    "\r\r\n",
    "  ",
    " \t",
    "GET",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "http://",
    "://",
  ],
  ...[
    "chunked",
    ", chunked",
    "close",
    "keep-alive",
    ", keep-alive",
    "Connection: ",
    "Content-Length: ",
    "Host: ",
  ],
  ...[
    "Transfer-Encoding: ",
    "\r\nContent-Length: 5",
    "\r\nContent-Length: 6",
    "\r\nTransfer-Encoding: chunked",
  ],
  ...[
    "\r\nHost: b",
    "\r\nConnection: close",
    "\r\nConnection: keep-alive",
    "\r\nX: y",
    "0x",
    "00",
    "99999999999999999999",
  ],
];

/** Numbers below `limit`, the same for the same seed (mulberry32). */
function numbers(seed: number): (limit: number) => number {
  return (limit) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

function mutate(head: string, below: (limit: number) => number): string {
  const at = below(head.length + 1);
  const piece = PIECES[below(PIECES.length)];
  const lines = head.split("\r\n");
  const line = below(lines.length);
  switch (below(8)) {
    case 0:
      return head.slice(0, at) + head.slice(at + 1 + below(3));
    case 1:
      return head.slice(0, at) + String.fromCharCode(below(256)) + head.slice(at + 1);
    case 2:
      return head.slice(0, at) + piece + head.slice(at + piece.length);
    case 3: // a line twice
      return [...lines.slice(0, line), ...lines.slice(line === 0 ? 0 : line - 1)].join("\r\n");
    case 4: { // around what means something
      const marks = [...head.matchAll(/\r\n|[:,= ]/g)];
      const { index, 0: mark } = marks[below(marks.length)] ?? { index: 0, 0: "" };
      return head.slice(0, index + below(2) * mark.length) + piece + head.slice(index + mark.length);
    }
    case 5: { // another case, of ASCII: the capital of ÿ is no byte any more
      const capitals = head.slice(at, at + 4).replace(/[a-z]/g, (letter) => letter.toUpperCase());
      return head.slice(0, at) + capitals + head.slice(at + 4);
    }
    default:
      return head.slice(0, at) + piece + head.slice(at);
  }
}

/** The head that the reader would find first; undefined where it would wait for more. */
function firstHead(text: string): string | undefined {
  const all = Buffer.from(text, "latin1");
  const end = endOfHead(all, 0, 0, all.length);
  return end < 0 ? undefined : text.slice(0, end);
}

const SCHEME = "http://";

function evenly(list: string): string {
  return list.replace(/[ \t]*,[ \t]*/g, ", ");
}

/** For what llhttp refuses although it is valid, something in its place that llhttp knows. */
function inTermsOfLlhttp(head: string): string {
  return head
    // Any token is a method (RFC 9110, 9.1); of CONNECT's body llhttp takes no note.
    .replace(/^(?!(?:GET|HEAD|POST|PUT|DELETE|OPTIONS) )[^ ]+/, "PATCH")
    // llhttp knows letters alone in a scheme (RFC 3986, 3.1).
    .replace(/^([A-Z]+ )[a-z][a-z0-9+.-]*:\/\//i, (_, method) => `${method}${SCHEME}`)
    // Space around a value and around the commas of a list (RFC 9110, 5.5 and 5.6.1), of which it takes some.
    .replace(/^([^: ]+:)[ \t]*(.*?)[ \t]*$/gm, "$1 $2")
    .replace(/^connection: .*$/gim, evenly)
    // A higher minor version is understood as the highest that one knows (RFC 9110, 2.5).
    .replace(/^([^\r\n]* HTTP\/1\.)[2-9]\r\n/, (_, start) => `${start}1\r\n`)
    // What a client should have encoded (RFC 3986, 2.1), as nginx and Apache take it.
    .replace(/[^\r\n]+/, (line) => line.replace(/[\x80-\xff]/g, (c) => `%${c.charCodeAt(0).toString(16)}`))
    // Lengths have no upper limit (RFC 9110, 8.6).
    .replace(/^(content-length:[ \t]*)0*(\d{19,})[ \t]*$/gim, "$19999999");
}

/** What is not the same in both; undefined: nothing, or ours has refused it. */
function difference(head: string, theirs: Understood | string): string | undefined {
  const ours = parseHead(Buffer.from(head, "latin1"));
  if (ours.kind !== "head" || parseTarget(ours.target).kind !== "target" && ours.target !== "*") {
    return undefined;
  }
  if (typeof theirs === "string") return `llhttp refuses it: ${theirs}`;
  const fields = new Map<string, string>();
  for (let i = 0; i < theirs.lines.length; i += 2) {
    const [name, value] = [theirs.lines[i].toLowerCase(), theirs.lines[i + 1]];
    fields.set(name, fields.has(name) ? `${fields.get(name)}, ${value}` : value);
  }
  const length = Number(ours.field("content-length") ?? 0);
  const isChunked = ours.field("transfer-encoding") !== undefined;
  const isUnknown = isChunked || (length > 0 && ours.field("expect") !== undefined);
  if (ours.body !== (isUnknown ? Infinity : length)) return `a body of ${ours.body}`;
  const body = isChunked ? "hello" : length > BEHIND.length ? "more" : BEHIND.slice(0, length);
  if (theirs.body !== body) return `its body: ${JSON.stringify(theirs.body)}`;
  if (ours.method !== theirs.method && theirs.method !== "PATCH") return `its method: ${theirs.method}`;
  if (ours.target.replace(/^[a-z][a-z0-9+.-]*:\/\//i, SCHEME) !== theirs.target) {
    return `its target: ${theirs.target}`;
  }
  if (ours.old !== theirs.old) return `its version: 1.${theirs.old ? 0 : 1}`;
  // "close" goes before "keep-alive" (RFC 9112, 9.3); llhttp looks for the latter alone in HTTP/1.0.
  const isTorn = ours.old && /\bclose\b/i.test(fields.get("connection") ?? "");
  if (ours.keep !== theirs.keep && !isTorn) return `whether it is kept: ${theirs.keep}`;
  for (const [name, value] of fields) {
    if (name === "content-length" && value === "9999999") continue; // in place of one that llhttp does not take
    if (evenly(ours.field(name) ?? "none") !== evenly(value)) {
      return `its field ${name}: ${JSON.stringify(value)}`;
    }
  }
  return undefined;
}

test("parseHead understands no head in another way than llhttp, and takes none that llhttp refuses", () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const below = numbers(seed);
  const heads = [...VALID];
  while (heads.length < 40_000) {
    let head = VALID[below(VALID.length)];
    for (let i = 1 + below(4); i > 0; i--) head = mutate(head, below);
    const first = firstHead(head);
    if (first !== undefined) heads.push(first);
  }
  const verdicts = llhttp(heads.map(inTermsOfLlhttp));
  const taken = heads.filter((head) => parseHead(Buffer.from(head, "latin1")).kind === "head").length;
  assert(taken > 5000 && taken < 35_000, `${taken} heads were taken, which tells little`);
  heads.forEach((head, i) => {
    const what = difference(head, verdicts[i]);
    assertEquals(what, undefined, `seed ${seed}, ${JSON.stringify(head)}`);
  });
}, { skip: missing("node") });
