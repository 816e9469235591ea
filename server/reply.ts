import { Buffer } from "node:buffer";
import { REASONS } from "../http/file_response.ts";
import { httpDate } from "../http/rfc9110/date.ts";
import type { FileBody } from "../http/root/open_file.ts";
import type { Head } from "./request_head.ts";
import type { ResponseParts } from "./response_parts.ts";

/** A body that is neither a file nor in memory. */
export interface StreamBody {
  readonly stream: ReadableStream<Uint8Array>;
  /** How the client recognizes the end: by a length, by chunks, or by the end of the connection. */
  readonly framing: number | "chunked" | "close";
}

/** The response of a fetch handler, ready to be sent. */
export interface Reply {
  readonly kind: "reply";
  readonly status: number;
  /** Status line and fields, but for `Connection` and the empty line. */
  readonly head: string;
  /** Whether the client speaks HTTP/1.0. */
  readonly old: boolean;
  readonly body:
    | Uint8Array
    | { readonly file: FileBody; readonly rateLimit?: number }
    | StreamBody
    | undefined;
  /** `last`: the connection ends after this response. `saysClose`: the response's own fields already say so. */
  readonly last: boolean;
  readonly saysClose: boolean;
  /** Called once: when all of it was passed to the system, or with the problem that prevented that. */
  ended(problem: unknown): void;
}

/** Reason phrases for statuses that only handlers use, as in hyper, which Deno.serve uses. */
const NAMES: Readonly<Record<number, string>> = {
  ...REASONS,
  201: "Created",
  202: "Accepted",
  203: "Non Authoritative Information",
  205: "Reset Content",
  207: "Multi-Status",
  208: "Already Reported",
  226: "IM Used",
  300: "Multiple Choices",
  302: "Found",
  303: "See Other",
  305: "Use Proxy",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  401: "Unauthorized",
  402: "Payment Required",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  411: "Length Required",
  413: "Payload Too Large",
  415: "Unsupported Media Type",
  417: "Expectation Failed",
  418: "I'm a teapot",
  421: "Misdirected Request",
  422: "Unprocessable Entity",
  423: "Locked",
  424: "Failed Dependency",
  425: "Too Early",
  426: "Upgrade Required",
  428: "Precondition Required",
  429: "Too Many Requests",
  451: "Unavailable For Legal Reasons",
  502: "Bad Gateway",
  504: "Gateway Timeout",
  506: "Variant Also Negotiates",
  507: "Insufficient Storage",
  508: "Loop Detected",
  510: "Not Extended",
  511: "Network Authentication Required",
};

/** How a response is framed, by RFC 9112, 6.3. */
export interface Framing {
  /** Status line and fields, but for `Connection` and the empty line. */
  readonly head: string;
  readonly saysClose: boolean;
  /** How the body is framed, if it is a stream. */
  readonly framing: StreamBody["framing"];
}

/**
 * Makes the head of a response to `request`. `length`: bytes of the body, undefined if unknown. We write the fields
 * that frame the message: contradictory ones would allow response splitting.
 */
export function frame(
  { method, old }: Pick<Head, "method" | "old">,
  { status, fields }: Pick<ResponseParts, "status" | "fields">,
  length: number | undefined,
): Framing {
  let head = `HTTP/1.${old ? 0 : 1} ${status} ${NAMES[status] ?? ""}\r\n`;
  let told: string | undefined;
  let isDated = false;
  let saysClose = false;
  for (let i = 0; i < fields.length; i++) {
    const [name, value] = fields[i];
    // Most names already differ from these in their length.
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === "date") isDated = true;
        break;
      case 10:
        if (name.toLowerCase() === "connection") saysClose ||= CLOSE.test(value);
        break;
      case 14:
        if (name.toLowerCase() === "content-length") {
          told ??= value;
          continue;
        }
        break;
      case 17:
        if (name.toLowerCase() === "transfer-encoding") continue;
    }
    head += `${name}: ${value}\r\n`;
  }
  let framing: StreamBody["framing"] = 0;
  const promised = told !== undefined && DIGITS.test(told) ? told : undefined;
  if (status === 204 || status === 304) {
    // These statuses have no body and no Content-Length (RFC 9110, 8.6).
  } else if (method === "HEAD") {
    const shown = promised ?? length;
    if (shown !== undefined) head += `content-length: ${shown}\r\n`;
  } else if (length !== undefined) {
    head += `content-length: ${length}\r\n`;
    framing = length;
  } else if (promised !== undefined) {
    head += `content-length: ${promised}\r\n`;
    framing = Number(promised);
  } else if (old) {
    framing = "close"; // RFC 9112, 6.1: HTTP/1.0 has no chunks
  } else {
    head += "transfer-encoding: chunked\r\n";
    framing = "chunked";
  }
  if (!isDated) head += dateLine();
  return { head, saysClose, framing };
}

const CLOSE = /(?:^|,)\s*close\s*(?:,|$)/i;
const DIGITS = /^\d{1,15}$/;

let second = 0;
let date = "";

function dateLine(): string {
  const now = Math.floor(Date.now() / 1000);
  if (now !== second) {
    second = now;
    date = `date: ${httpDate(now)}\r\n`;
  }
  return date;
}

const utf8 = new TextEncoder();

/** Bytes reserved for a head in front of a text body. */
const HEAD = 4096;
const scratch = new Uint8Array(HEAD + 64 * 1024);

/**
 * Joins head and body in one buffer, for a `write` that has consumed it on return: the next call overwrites it.
 * Undefined if they do not fit.
 */
export function join(head: string, body: Uint8Array | undefined): Uint8Array | undefined {
  const length = body === undefined ? 0 : body.length;
  if (head.length > HEAD || length > scratch.length - HEAD) return undefined;
  const start = HEAD - head.length;
  const { read, written } = utf8.encodeInto(head, scratch.subarray(start, HEAD));
  // Other characters are encoded as Latin-1, one byte each.
  if (read !== head.length || written !== head.length) {
    Buffer.from(scratch.buffer).write(head, start, "latin1");
  }
  if (length > 0) scratch.set(body!, HEAD);
  return scratch.subarray(start, HEAD + length);
}
