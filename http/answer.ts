import * as fs from "node:fs";
import { type Field, precondition, rangeIsCurrent, type Validators } from "./conditions.ts";
import { httpDate, parseHttpDate } from "./date.ts";
import { type FileBody, isFileBody, type OpenFile, openRegular, type Refusal } from "./file.ts";
import { multipart } from "./multipart.ts";
import { checkField, mergeFields, type Rules } from "./options.ts";
import { acceptedEncodings, type Encoding } from "./precompressed.ts";
import { parseRange, type Range } from "./range.ts";
import { contentType } from "./types.ts";

/** The part in use of a request. */
export interface Asked {
  readonly method: string;
  readonly field: Field;
}

/** Header fields: one of each name, but those that callers may give several times. */
export type Fields = Record<string, string | string[]>;

/** A response, before a runtime sends it. */
export interface Answer {
  readonly status: number;
  readonly headers: Fields;
  /** A file, bytes, a text, or none at all. */
  readonly body: FileBody | Uint8Array<ArrayBuffer> | string | undefined;
  /** There is nothing of that name, or not with that method: another handler may have it. */
  readonly missing?: boolean;
  /** What a log is to say besides. */
  readonly problem?: string;
}

/** The methods that files have. */
const ALLOW = "GET, HEAD, OPTIONS";

/** The names of all statuses that come of a request for a file. */
export const REASONS: Record<number, string> = {
  200: "OK",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  304: "Not Modified",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  412: "Precondition Failed",
  414: "URI Too Long",
  416: "Range Not Satisfiable",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

/** The answer to a method that files do not have; undefined for GET and HEAD. RFC 9110, 9.3.7 and 15.5.6. */
export function answerMethod({ method }: Asked, rules: Rules): Answer | undefined {
  if (method === "GET" || method === "HEAD") return undefined;
  if (method === "OPTIONS") {
    return { status: 204, headers: { Allow: ALLOW, ...fieldsOf(rules) }, body: undefined, missing: true };
  }
  return { ...answerText({ method }, rules, 405, { Allow: ALLOW }), missing: true };
}

/** The answer in place of what is not to be had. */
export function answerRefusal(
  asked: Pick<Asked, "method">,
  rules: Rules,
  { status, problem }: Refusal,
): Answer {
  return { ...answerText(asked, rules, status), problem, missing: status < 500 };
}

/** A status with its name as the body. */
export function answerText(
  { method }: Pick<Asked, "method">,
  rules: Rules,
  status: number,
  headers: Fields = {},
): Answer {
  const text = `${status} ${REASONS[status]}\n`;
  const fields = {
    ...headers,
    "Content-Length": String(text.length),
    "Content-Type": "text/plain; charset=utf-8",
    ...fieldsOf(rules),
  };
  return { status, headers: fields, body: method === "HEAD" ? undefined : text };
}

function fieldsOf({ fields }: Rules): Fields {
  if (fields.length === 0) return {};
  const headers: Fields = {};
  for (const [name, value] of fields) add(headers, name, value);
  return headers;
}

/** What both `Vary` fields say. */
export function mergeVary(ours: string, others: string): string {
  return others.includes("*") || others.toLowerCase().includes(ours.toLowerCase())
    ? others
    : `${others}, ${ours}`;
}

/** Puts a caller's field in, beside others of its name. */
function add(headers: Fields, name: string, value: string): void {
  const present = headers[name];
  headers[name] = present === undefined ? value : [present, value].flat();
}

/** The answer to a request for the file at `path`, which is trusted. */
export function answerPath(asked: Asked, rules: Rules, path: string): Answer {
  const other = answerMethod(asked, rules);
  if (other) return other;
  const found = openRegular(path);
  if (found.kind === "refusal") return answerRefusal(asked, rules, found);
  return answerFile(asked, rules, found, (ending) => {
    const sibling = openRegular(path + ending);
    return sibling.kind === "file" ? sibling : undefined;
  });
}

/**
 * The answer to GET or HEAD with `file`, which it closes where it does not send it. `sibling` opens the file with an
 * ending added to its name.
 */
export function answerFile(
  asked: Asked,
  rules: Rules,
  file: OpenFile,
  sibling: (ending: string) => OpenFile | undefined,
): Answer {
  let sent = file;
  let body: FileBody | undefined;
  try {
    const chosen = choose(asked, rules, sibling);
    sent = chosen?.file ?? file;
    const answer = describe(asked, rules, file.path, sent, chosen?.encoding);
    if (isFileBody(answer.body)) body = answer.body;
    return answer;
  } finally {
    if (sent !== file) fs.closeSync(file.fd);
    if (!body) fs.closeSync(sent.fd);
  }
}

/** The sibling in the encoding that the client likes best. */
function choose(
  { field }: Asked,
  { encodings }: Rules,
  sibling: (ending: string) => OpenFile | undefined,
): { file: OpenFile; encoding: Encoding } | undefined {
  if (encodings.length === 0) return undefined;
  for (const encoding of acceptedEncodings(field("accept-encoding"), encodings)) {
    const found = sibling(encoding.ending);
    if (found) return { file: found, encoding };
  }
  return undefined;
}

function describe(asked: Asked, rules: Rules, path: string, file: OpenFile, encoding?: Encoding): Answer {
  const now = Math.floor(Date.now() / 1000);
  // Never later than the response itself: RFC 9110, 8.8.2.1
  const modified = Math.min(file.seconds, now);
  const headers: Fields = {
    "Accept-Ranges": "bytes",
    "ETag": tagOf(file, encoding),
    "Last-Modified": httpDate(modified),
  };
  if (rules.cacheControl !== undefined) headers["Cache-Control"] = rules.cacheControl;
  if (rules.encodings.length > 0) headers["Vary"] = "Accept-Encoding";
  const type: Fields = { "Content-Type": contentType(path) };
  if (encoding) type["Content-Encoding"] = encoding.name;
  if (rules.fields.length > 0 || rules.headers) override(rules, path, file, headers, type);
  const validators = {
    tag: String(headers["ETag"]),
    modified: rules.headers ? parseHttpDate(String(headers["Last-Modified"])) ?? modified : modified,
  };
  const status = precondition(asked.field, validators);
  if (status === 304) return { status, headers, body: undefined };
  if (status === 412) return answerText(asked, rules, 412);
  let ranges = rangesOf(asked, validators, file.size);
  // In front of parts, Content-Encoding would speak of all of them, heads included.
  if (ranges && ranges.length > 1 && type["Content-Encoding"] !== undefined) ranges = undefined;
  if (ranges?.length === 0) {
    return answerText(asked, rules, 416, { "Content-Range": `bytes */${file.size}` });
  }
  Object.assign(headers, type);
  const reply = ranges ? partial(headers, file, ranges) : whole(headers, file);
  return asked.method === "HEAD" ? { ...reply, body: undefined } : reply;
}

/**
 * A strong tag: another size or another moment of the last change makes another one, and the same file on two machines
 * has the same. The file's number would not do for that (RFC 9110, 8.8.3).
 */
function tagOf({ size, seconds, nanoseconds }: OpenFile, encoding: Encoding | undefined): string {
  const tag = `${size.toString(16)}-${seconds.toString(16)}.${nanoseconds.toString(16)}`;
  return encoding ? `"${tag}-${encoding.name}"` : `"${tag}"`;
}

/** The caller's fields, each in the place of ours of the same name. */
function override(rules: Rules, path: string, file: OpenFile, headers: Fields, type: Fields): void {
  const fields = mergeFields(rules.fields, rules.headers ? callersFields(rules.headers, path, file) : []);
  const replaced = new Set(fields.map(([name]) => name.toLowerCase()));
  const vary = headers["Vary"];
  for (const ours of [headers, type]) {
    for (const name of Object.keys(ours)) {
      if (replaced.has(name.toLowerCase())) delete ours[name];
    }
  }
  for (const [name, value] of fields) {
    const known = KNOWN[name.toLowerCase()];
    add(known?.startsWith("Content-") ? type : headers, known ?? name, value);
  }
  // Without ours a cache would give the encoded form to who cannot read it.
  if (vary && headers["Vary"] !== vary) headers["Vary"] = mergeVary(String(vary), String(headers["Vary"]));
}

function callersFields(
  headers: NonNullable<Rules["headers"]>,
  path: string,
  file: OpenFile,
): [string, string][] {
  const { size, seconds, nanoseconds } = file;
  const mtime = new Date(seconds * 1000 + nanoseconds / 1e6);
  return [...new Headers(headers(path, { size, mtime }))].map(([name, value]) => checkField(name, value));
}

/** Our spelling of the fields that are looked at once more, or that a 304 does not have. */
const KNOWN: Record<string, string | undefined> = {
  "content-disposition": "Content-Disposition",
  "content-type": "Content-Type",
  "content-encoding": "Content-Encoding",
  "etag": "ETag",
  "last-modified": "Last-Modified",
  "vary": "Vary",
};

/** The ranges to send; undefined: the whole. Only GET has them (RFC 9110, 14.2). */
function rangesOf({ method, field }: Asked, validators: Validators, size: number): Range[] | undefined {
  if (method !== "GET") return undefined;
  const range = field("range");
  return range && rangeIsCurrent(field, validators) ? parseRange(range, size) : undefined;
}

function whole(headers: Fields, file: OpenFile): Answer {
  const { size } = file;
  headers["Content-Length"] = String(size);
  const parts = [{ header: "", offset: 0, count: size }];
  return { status: 200, headers, body: size === 0 ? "" : { file, parts, trailer: "", length: size } };
}

function partial(headers: Fields, file: OpenFile, ranges: Range[]): Answer {
  if (ranges.length === 1) {
    const [{ offset, count }] = ranges;
    headers["Content-Length"] = String(count);
    headers["Content-Range"] = `bytes ${offset}-${offset + count - 1}/${file.size}`;
    const parts = [{ header: "", offset, count }];
    return { status: 206, headers, body: { file, parts, trailer: "", length: count } };
  }
  const { boundary, ...body } = multipart(ranges, String(headers["Content-Type"]), file.size);
  headers["Content-Type"] = `multipart/byteranges; boundary=${boundary}`;
  headers["Content-Length"] = String(body.length);
  return { status: 206, headers, body: { file, ...body } };
}
