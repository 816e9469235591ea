import { Buffer } from "node:buffer";

/** The head of a request, as far as a server of files wants to know it. */
export interface Head {
  readonly kind: "head";
  readonly method: string;
  /** As it came; bytes that are not ASCII percent-encoded, as a client should have done. */
  readonly target: string;
  /** A field's value by its name in lower case; those of one name in one, with commas. */
  readonly field: (name: string) => string | undefined;
  /** All of them. */
  readonly fields: ReadonlyMap<string, string>;
  /** Whether HTTP/1.0. */
  readonly old: boolean;
  /** Whether the client wants the connection to go on. */
  readonly keep: boolean;
  /** Bytes of the request's body; Infinity where that is not known, or it waits to be asked for. */
  readonly body: number;
}

/** What is no request, by the status that says so. The connection cannot go on: nobody knows where the next begins. */
export interface Malformed {
  readonly kind: "malformed";
  readonly status: 400 | 501 | 505;
}

const BAD: Malformed = { kind: "malformed", status: 400 };

const CR = 13;
const LF = 10;

/** Where the head that begins at `start` ends; -1: not before `to`. Before `looked` there is no end of it. */
export function endOfHead(bytes: Uint8Array, start: number, looked: number, to: number): number {
  for (let at = Math.max(start + 3, looked); at < to; at++) {
    if (bytes[at] === LF && bytes[at - 1] === CR && bytes[at - 2] === LF && bytes[at - 3] === CR) {
      return at + 1;
    }
  }
  return -1;
}

/**
 * Whether a head that begins at `start` and has come up to `to` can still be one; what is before `looked` could. A TLS
 * ClientHello, the banner of another protocol, a line that ends in LF alone (RFC 9112, 2.2, lets a server refuse it)
 * never grow into a head, and their clients wait for an answer.
 */
export function canBecomeHead(bytes: Uint8Array, start: number, looked: number, to: number): boolean {
  for (let at = Math.max(start, looked); at < to; at++) {
    const afterCR = at > start && bytes[at - 1] === CR;
    if ((bytes[at] === LF) !== afterCR || !isText(bytes[at])) return false;
    if (bytes[at] === LF && bytes.indexOf(LF, start) === at) {
      if (!REQUEST_LINE.test(textOf(bytes.subarray(start, at - 1)))) return false;
    }
  }
  return true;
}

function isText(byte: number): boolean {
  return byte >= 0x20 ? byte !== 0x7f : byte === LF || byte === CR || byte === TAB;
}

const TAB = 9;

/** method SP request-target SP HTTP-version (RFC 9112, 3). */
const REQUEST_LINE = /^([!#$%&'*+.^_`|~\w-]+) ([\x21-\x7e\x80-\xff]+) HTTP\/(\d)\.(\d)$/;

/** field-name ":" field-value (RFC 9110, 5.5 and 5.6.2): no space before the colon, no folded line, no control. */
const FIELD = /^([!#$%&'*+.^_`|~\w-]+):([\t\x20-\x7e\x80-\xff]*)$/;

/** uri-host [ ":" port ] (RFC 9110, 7.2), as far as to tell it from what could never be one. */
const HOST = /^(?:[\w.~!$&'()*+,;=%-]*|\[[\da-f:.]+\])(?::\d*)?$/i;

/**
 * The head that `bytes` are, its empty line included. Strict as RFC 9112 wants a server to be: what another server in
 * front could understand in another way is refused.
 */
export function parseHead(bytes: Uint8Array): Head | Malformed {
  const lines = textOf(bytes).split("\r\n");
  const line = REQUEST_LINE.exec(lines[0]);
  if (!line) return BAD;
  const [, method, target, major, minor] = line;
  if (major !== "1") return { kind: "malformed", status: 505 };
  const fields = new Map<string, string>();
  for (let i = 1; i < lines.length - 2; i++) {
    const field = FIELD.exec(lines[i]);
    if (!field) return BAD;
    const name = field[1].toLowerCase();
    const value = trim(field[2]);
    const before = fields.get(name);
    if (before !== undefined && SINGLE.has(name)) return BAD;
    const between = name === "cookie" ? "; " : ", "; // RFC 6265, 5.4; RFC 9110, 5.3
    fields.set(name, before === undefined ? value : `${before}${between}${value}`);
  }
  const old = minor === "0";
  const host = fields.get("host");
  if (host === undefined ? !old : !HOST.test(host)) return BAD; // RFC 9112, 3.2
  const body = bodyOf(fields, old);
  if (typeof body !== "number") return body;
  return {
    kind: "head",
    method,
    target: target.replace(/[\x80-\xff]/g, percent),
    field: (name) => fields.get(name),
    fields,
    old,
    keep: keeps(fields.get("connection"), old),
    body,
  };
}

/** Fields of which a second one makes the request ambiguous (RFC 9112, 3.2 and 6.3). */
const SINGLE = new Set(["host", "content-length", "transfer-encoding"]);

const utf8 = new TextDecoder();

/** A head as text, one character for each byte. The runtime's decoder is the fastest, and right for ASCII. */
function textOf(bytes: Uint8Array): string {
  const text = utf8.decode(bytes);
  if (text.length === bytes.length && !text.includes("\ufffd")) return text;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** Without the spaces and tabs around it. A pattern for that would go through a run of spaces again and again. */
function trim(value: string): string {
  let from = 0;
  let to = value.length;
  while (from < to && isSpace(value.charCodeAt(from))) from++;
  while (from < to && isSpace(value.charCodeAt(to - 1))) to--;
  return value.slice(from, to);
}

function isSpace(code: number): boolean {
  return code === 32 || code === 9;
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16)}`;
}

/** RFC 9112, 6: a body is framed by a length, or by chunks, and never by both. */
function bodyOf(fields: ReadonlyMap<string, string>, old: boolean): number | Malformed {
  const coding = fields.get("transfer-encoding");
  const length = fields.get("content-length");
  if (coding !== undefined) {
    if (old || length !== undefined) return BAD;
    return coding.toLowerCase() === "chunked" ? Infinity : { kind: "malformed", status: 501 };
  }
  if (length === undefined) return 0;
  if (!/^\d+$/.test(length)) return BAD;
  const bytes = Number(length);
  return bytes > 0 && fields.has("expect") ? Infinity : bytes;
}

/** RFC 9112, 9.3. */
function keeps(connection: string | undefined, old: boolean): boolean {
  if (connection === undefined) return !old;
  const options = connection.toLowerCase().split(",").map(trim);
  return !options.includes("close") && (!old || options.includes("keep-alive"));
}
