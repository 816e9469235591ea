import { type Field, precondition, rangeIsCurrent, type Validators } from "./rfc9110/preconditions.ts";
import { httpDate, parseHttpDate } from "./rfc9110/date.ts";
import {
  closeFile,
  type FileBody,
  type HttpFailure,
  isFileBody,
  NOT_FOUND,
  type OpenFile,
  openRegular,
} from "./root/open_file.ts";
import {
  checkField,
  describesContent,
  dropFields,
  type FieldList,
  type Fields,
  overlay,
  putFields,
  putTextFields,
  valueOf,
} from "./headers.ts";
import type { HeaderFields } from "../types.ts";
import { assemble, countOf, multipart, type Parts } from "./rfc9110/multipart.ts";
import { largestCached, type ResolvedOptions } from "./options.ts";
import { openCached } from "./root/small_file_cache.ts";
import { acceptedEncodings, type Encoding } from "./rfc9110/content_coding.ts";
import { parseRange, type Range } from "./rfc9110/range.ts";
import { applyInfo, type StdFileInfo } from "./file_info.ts";
import { type Content, contentOf } from "./content_type.ts";

/** The parts of a request that we use. */
export interface RequestHead {
  readonly method: string;
  readonly field: Field;
  /** Called with the file that will be sent. Returns what the handler has already set on its response. */
  readonly preset?: (file: OpenFile) => Preset;
}

/** The status and fields that a handler set before. They stay, except those that only the server can know. */
export interface Preset {
  /**
   * Undefined: the status is chosen by the request. If set, the whole file is sent with this status, even if the
   * request has a Range.
   */
  readonly status: number | undefined;
  readonly fields: FieldList;
}

/** A response, before a runtime sends it. */
export interface ResponsePlan {
  readonly status: number;
  readonly headers: Fields;
  /** A file, bytes, a text, or no body. */
  readonly body: FileBody | Uint8Array<ArrayBuffer> | string | undefined;
  /** The coding that the sender must apply to the body, which is the plain file; the sender also sets the length. */
  readonly coding?: Encoding;
  /** No file has that name, or files do not support the method: another handler may answer. */
  readonly missing?: boolean;
  /** The reason why the file cannot be sent. */
  readonly failure?: HttpFailure;
  /** An additional text for the log. */
  readonly problem?: string;
  /** How many bytes of the body are a file's bytes that were read for an earlier request. */
  readonly cached?: number;
}

/** The methods that files support. */
const ALLOW = "GET, HEAD, OPTIONS";

/** The reason phrases of all statuses that a request for a file can get. */
export const REASONS: Record<number, string> = {
  200: "OK",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  304: "Not Modified",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
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

/** The response plan for a method that files do not support; undefined for GET and HEAD. RFC 9110, 9.3.7 and 15.5.6. */
export function planMethod({ method }: RequestHead, resolved: ResolvedOptions): ResponsePlan | undefined {
  if (method === "GET" || method === "HEAD") return undefined;
  if (method === "OPTIONS") {
    const headers: Fields = { Allow: ALLOW };
    putTextFields(headers, resolved.fields, 204);
    return { status: 204, headers, body: undefined, missing: true };
  }
  return { ...planText({ method }, resolved, 405, { Allow: ALLOW }), missing: true };
}

/** The response plan for an HTTP failure. */
export function planFailure(
  requestHead: Pick<RequestHead, "method">,
  resolved: ResolvedOptions,
  failure: HttpFailure,
): ResponsePlan {
  const { status, problem } = failure;
  return { ...planText(requestHead, resolved, status), failure, problem, missing: status < 500 };
}

/** The response plan that redirects to `location`, which is relative to the request's path. */
export function planRedirect(
  requestHead: Pick<RequestHead, "method">,
  resolved: ResolvedOptions,
  location: string,
): ResponsePlan {
  return planText(requestHead, resolved, 301, { Location: location }, `Redirecting to ${location}\n`);
}

/** The response plan for a status. The body is `text`, by default the reason phrase. */
export function planText(
  { method }: Pick<RequestHead, "method">,
  resolved: ResolvedOptions,
  status: number,
  headers: Fields = {},
  text = `${status} ${REASONS[status]}\n`,
): ResponsePlan {
  const fields: Fields = {
    ...headers,
    "Content-Length": String(text.length),
    "Content-Type": "text/plain; charset=utf-8",
  };
  putTextFields(fields, resolved.fields, status);
  return { status, headers: fields, body: method === "HEAD" ? undefined : text };
}

/** The response plan for the file at `path`, which is trusted. `told`: the caller's own stat of the file. */
export function planPath(
  requestHead: RequestHead,
  resolved: ResolvedOptions,
  path: string,
  told?: StdFileInfo,
): ResponsePlan | Promise<ResponsePlan> {
  const other = planMethod(requestHead, resolved);
  if (other) return other;
  const found = told?.isDirectory ? NOT_FOUND : openCached(path, largestCached(resolved));
  if (found.kind === "failure") return planFailure(requestHead, resolved, found);
  return planFile(requestHead, resolved, told ? applyInfo(told, found) : found, (ending) => {
    const sibling = openRegular(path + ending);
    return sibling.kind === "file" ? sibling : undefined;
  });
}

/**
 * The response plan for a GET or HEAD of `file`. Closes the file if it is not sent. `sibling` opens the file whose
 * name has an ending added.
 */
export function planFile(
  requestHead: RequestHead,
  resolved: ResolvedOptions,
  file: OpenFile,
  sibling: (ending: string) => OpenFile | undefined,
): ResponsePlan | Promise<ResponsePlan> {
  const content = contentOf(file);
  return content instanceof Promise
    ? content.then((content) => planContent(requestHead, resolved, file, content, sibling))
    : planContent(requestHead, resolved, file, content, sibling);
}

function planContent(
  requestHead: RequestHead,
  resolved: ResolvedOptions,
  file: OpenFile,
  content: Content,
  sibling: (ending: string) => OpenFile | undefined,
): ResponsePlan {
  let sent = file;
  let body: FileBody | undefined;
  try {
    const chosen = content.coding === undefined ? choose(requestHead, resolved, sibling) : undefined;
    sent = chosen?.file ?? file;
    const coding = chosen === undefined && content.coding === undefined
      ? resolved.codingFor?.(requestHead, content.type, file)
      : undefined;
    const plan = describe(requestHead, resolved, {
      named: file,
      file: sent,
      content,
      encoding: chosen?.encoding ?? coding,
      coding,
    });
    if (!isFileBody(plan.body)) return plan;
    body = plan.body;
    return sent.content ? { ...plan, body: takeParts(body, sent.content), cached: countOf(body) } : plan;
  } finally {
    if (sent !== file) closeFile(file);
    if (!body) closeFile(sent);
  }
}

/** The bytes of a body whose parts are ranges of `content`. A single range is a view, not a copy. */
function takeParts(body: Parts, content: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const [{ offset, count }] = body.parts;
  if (body.parts.length === 1) return content.subarray(offset, offset + count);
  return assemble(body, new Uint8Array(body.length), (into, offset) => {
    into.set(content.subarray(offset, offset + into.length));
  });
}

/** The sibling in the encoding that the client prefers. */
function choose(
  { field }: RequestHead,
  { encodings }: ResolvedOptions,
  sibling: (ending: string) => OpenFile | undefined,
): { file: OpenFile; encoding: Encoding } | undefined {
  if (encodings.length === 0) return undefined;
  for (const encoding of acceptedEncodings(field("accept-encoding"), encodings)) {
    const found = sibling(encoding.ending);
    if (found) return { file: found, encoding };
  }
  return undefined;
}

/** The representation that is sent for a request. */
interface Chosen {
  /** The requested file. */
  readonly named: OpenFile;
  /** The requested file, or its sibling in `encoding`. */
  readonly file: OpenFile;
  readonly content: Content;
  readonly encoding: Encoding | undefined;
  /** The encoding, if there is no sibling and the sender has to compress the file. */
  readonly coding: Encoding | undefined;
}

function describe(
  requestHead: RequestHead,
  resolved: ResolvedOptions,
  { named, file, content, encoding, coding: made }: Chosen,
): ResponsePlan {
  const { preset, field } = requestHead;
  const before = preset?.(named);
  const headers: Fields = {};
  if (resolved.ranges && made === undefined) headers["Accept-Ranges"] = "bytes";
  if (resolved.etag) headers["ETag"] = tagOf(file, encoding);
  const modified = resolved.lastModified ? modifiedOf(file) : undefined;
  if (modified !== undefined) headers["Last-Modified"] = httpDate(modified);
  if (resolved.cacheControl !== undefined) headers["Cache-Control"] = resolved.cacheControl;
  if (resolved.encodings.length > 0 || resolved.codingFor) headers["Vary"] = "Accept-Encoding";
  headers["Content-Type"] = content.type;
  const coding = encoding?.name ?? content.coding;
  if (coding !== undefined) headers["Content-Encoding"] = coding;
  const callers = callersFields(resolved, named.path, file, before?.fields ?? []);
  putFields(headers, callers);
  const status = before?.status;
  if (status !== undefined) return finish(requestHead, whole(headers, file, status));
  const validators: Validators = {
    tag: valueOf(headers, "ETag"),
    modified: callers.length === 0 ? modified : parseHttpDate(valueOf(headers, "Last-Modified") ?? ""),
  };
  const outcome = precondition(field, validators);
  if (outcome === 304) {
    return { status: 304, headers: dropFields(headers, describesContent), body: undefined };
  }
  if (outcome === 412) return planText(requestHead, resolved, 412);
  if (made !== undefined) {
    const plan = whole(headers, file, 200);
    delete headers["Content-Length"]; // not known before the body is compressed
    return finish(requestHead, { ...plan, coding: made });
  }
  let ranges = resolved.ranges ? rangesOf(requestHead, validators, file.size) : undefined;
  // On a multipart response Content-Encoding would describe the whole body, including the headers of its parts.
  if (ranges && ranges.length > 1 && valueOf(headers, "Content-Encoding") !== undefined) ranges = undefined;
  if (ranges?.length === 0) {
    return planText(requestHead, resolved, 416, { "Content-Range": `bytes */${file.size}` });
  }
  return finish(requestHead, ranges ? partial(headers, file, ranges) : whole(headers, file, 200));
}

function finish({ method }: RequestHead, plan: ResponsePlan): ResponsePlan {
  return method === "HEAD" ? { ...plan, body: undefined } : plan;
}

/** 2 January 1980: Nix, zip and reproducible images set all times to before that, so such times are meaningless. */
const MEANINGLESS = 315_619_200;

function isMeaningless({ seconds }: OpenFile): boolean {
  return seconds <= MEANINGLESS;
}

/** The Last-Modified of a file, never later than the response itself (RFC 9110, 8.8.2.1). */
function modifiedOf(file: OpenFile): number | undefined {
  return isMeaningless(file) ? undefined : Math.min(file.seconds, Math.floor(Date.now() / 1000));
}

/**
 * A strong tag from the size and the modification time, so that the same file has the same tag on two machines. If
 * the modification time is meaningless, the tag uses the inode number and the change time (ctime) instead, so that a
 * replaced file gets another tag; such a tag differs between machines (RFC 9110, 8.8.3).
 */
function tagOf(file: OpenFile, encoding: Encoding | undefined): string {
  const { size, seconds, nanoseconds, changed, ino } = file;
  const version = isMeaningless(file)
    ? `${Math.round(changed * 1e6).toString(16)}-${ino.toString(16)}`
    : `${seconds.toString(16)}.${nanoseconds.toString(16)}`;
  const tag = `${size.toString(16)}-${version}`;
  return encoding ? `"${tag}-${encoding.name}"` : `"${tag}"`;
}

/** All fields of the caller for a file. The options override fields that were set `before`. */
function callersFields(
  { fields, headers }: ResolvedOptions,
  path: string,
  file: OpenFile,
  before: FieldList,
): FieldList {
  const list = overlay(before, fields);
  if (!headers) return list;
  const { size, seconds, nanoseconds, changed } = file;
  const stat = {
    size,
    mtime: new Date(seconds * 1000 + nanoseconds / 1e6),
    ctime: new Date(changed * 1000),
  };
  return overlay(list, pairsOf(headers(path, stat)).map(([name, value]) => checkField(name, value)));
}

/** The fields as pairs. `Headers` would join several fields of one name. */
function pairsOf(fields: HeaderFields): readonly (readonly [string, string])[] {
  return Symbol.iterator in fields ? [...fields] : Object.entries(fields);
}

/** The ranges to send; undefined: the whole file. Only GET has ranges (RFC 9110, 14.2). */
function rangesOf({ method, field }: RequestHead, validators: Validators, size: number): Range[] | undefined {
  if (method !== "GET") return undefined;
  const range = field("range");
  return range && rangeIsCurrent(field, validators) ? parseRange(range, size) : undefined;
}

function whole(headers: Fields, file: OpenFile, status: number): ResponsePlan {
  const { size } = file;
  headers["Content-Length"] = String(size);
  const parts = [{ header: "", offset: 0, count: size }];
  return { status, headers, body: size === 0 ? "" : { file, parts, trailer: "", length: size } };
}

function partial(headers: Fields, file: OpenFile, ranges: Range[]): ResponsePlan {
  if (ranges.length === 1) {
    const [{ offset, count }] = ranges;
    headers["Content-Length"] = String(count);
    headers["Content-Range"] = `bytes ${offset}-${offset + count - 1}/${file.size}`;
    const parts = [{ header: "", offset, count }];
    return { status: 206, headers, body: { file, parts, trailer: "", length: count } };
  }
  const { boundary, ...body } = multipart(ranges, valueOf(headers, "Content-Type") ?? "", file.size);
  headers["Content-Type"] = `multipart/byteranges; boundary=${boundary}`;
  headers["Content-Length"] = String(body.length);
  return { status: 206, headers, body: { file, ...body } };
}
