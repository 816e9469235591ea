import * as fs from "node:fs";
import { type Found, type OpenFile, openInside } from "./paths.ts";
import { contentType } from "./types.ts";

/** A response, before a runtime sends it. */
export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  /** The body: a file, which who sends it closes, or a text. */
  readonly body: OpenFile | string;
  /** What the log is to say besides. */
  readonly problem?: string;
}

const REASONS: Record<number, string> = {
  301: "Moved Permanently",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** What a request for a file below `root` gets. */
export function answer(root: string, method: string, target: string): Answer {
  if (method !== "GET" && method !== "HEAD") return text(405, { Allow: "GET, HEAD" });
  const found = openInside(root, target);
  const reply = found.status === 200 ? whole(found.file) : without(found);
  return method === "HEAD" ? bodiless(reply) : reply;
}

function whole(file: OpenFile): Answer {
  const headers = {
    "Content-Length": String(file.size),
    "Content-Type": contentType(file.path),
    // Never later than the response itself: RFC 9110, 8.8.2.1
    "Last-Modified": new Date(Math.min(file.modified, Date.now())).toUTCString(),
  };
  const reply = { status: 200, headers, body: file };
  return file.size === 0 ? bodiless(reply) : reply;
}

function without(found: Exclude<Found, { status: 200 }>): Answer {
  if (found.status === 301) return text(301, { Location: found.location });
  return { ...text(found.status), problem: found.problem };
}

function text(status: number, headers: Record<string, string> = {}): Answer {
  const body = `${status} ${REASONS[status]}\n`;
  return {
    status,
    headers: {
      ...headers,
      "Content-Length": String(body.length),
      "Content-Type": "text/plain; charset=utf-8",
    },
    body,
  };
}

function bodiless(reply: Answer): Answer {
  if (typeof reply.body !== "string") fs.closeSync(reply.body.fd);
  return { ...reply, body: "" };
}
