import { Buffer } from "node:buffer";

/** The parsed head of a request. */
export interface Head {
  readonly kind: "head";
  readonly method: string;
  /** As received, except that bytes that are not ASCII are percent-encoded, as the client should have done. */
  readonly target: string;
  /** A field's value by its name in lower case. Several fields of one name are joined with commas. */
  readonly field: (name: string) => string | undefined;
  /** All fields, by their names in lower case. */
  readonly fields: ReadonlyMap<string, string>;
  /** Whether the client speaks HTTP/1.0. */
  readonly old: boolean;
  /** Whether the client wants a persistent connection. */
  readonly keep: boolean;
  /** Bytes of the request's body; Infinity if unknown, or if the client waits for 100 Continue. */
  readonly body: number;
}

/**
 * A request we reject, with the status to send. The connection cannot continue, because the start of the next request
 * is unknown.
 */
export interface Malformed {
  readonly kind: "malformed";
  readonly status: 400 | 501 | 505;
}

const BAD: Malformed = { kind: "malformed", status: 400 };

const CR = 13;
const LF = 10;

/**
 * Where the head that begins at `start` ends; -1 if not before `to`. The bytes before `looked` were searched already.
 */
export function endOfHead(bytes: Uint8Array, start: number, looked: number, to: number): number {
  for (let at = Math.max(start + 3, looked); at < to; at++) {
    if (bytes[at] === LF && bytes[at - 1] === CR && bytes[at - 2] === LF && bytes[at - 3] === CR) {
      return at + 1;
    }
  }
  return -1;
}

/**
 * Whether the bytes from `start` to `to` can still become a head; those before `looked` were checked already. A TLS
 * ClientHello, the banner of another protocol, or a line that ends in LF alone (which a server may reject: RFC 9112,
 * 2.2) never become a head, and their clients would wait for a response.
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

/** uri-host [ ":" port ] (RFC 9110, 7.2), approximately: rejects what can never be one. */
const HOST = /^(?:[\w.~!$&'()*+,;=%-]*|\[[\da-f:.]+\])(?::\d*)?$/i;

/**
 * Parses a head, including its empty line. Strict as RFC 9112 requires: rejects what a proxy in front could interpret
 * differently.
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

/** Fields that make a request ambiguous if they occur twice (RFC 9112, 3.2 and 6.3). */
const SINGLE = new Set(["host", "content-length", "transfer-encoding"]);

const utf8 = new TextDecoder();

/** Decodes a head, one character for each byte. The runtime's decoder is fastest, and correct for ASCII. */
function textOf(bytes: Uint8Array): string {
  const text = utf8.decode(bytes);
  if (text.length === bytes.length && !text.includes("\ufffd")) return text;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** Removes surrounding spaces and tabs. A regular expression would scan a long run of spaces in quadratic time. */
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

/** The length of the body. RFC 9112, 6: a body is framed by a length or by chunks, never by both. */
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
