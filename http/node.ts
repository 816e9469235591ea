/**
 * Files as responses of node:http servers, and so of Express, Connect and Fastify. The file's bytes are sent by
 * sendfile(2) on the connection's socket if possible, and the connection stays open for the next request.
 *
 * @module
 */

import * as fs from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { fileURLToPath } from "node:url";
import type { WebURL } from "../types.ts";
import { planPath, type Preset, type RequestHead, type ResponsePlan } from "./file_response.ts";
import { holdReadingFor } from "./send/hold_reading.ts";
import { cutOff, deliver, inTurn } from "./send/node_response.ts";
import { planDirectory } from "./directory.ts";
import { BAD_REQUEST, type OpenFile } from "./root/open_file.ts";
import { describesFile, isServers } from "./headers.ts";
import { HttpError } from "./error_response.ts";
import { warnOfMissingRoot } from "./root/missing_root.ts";
import {
  type Dotfiles,
  type HeaderObject,
  resolveSendOptions,
  resolveStaticOptions,
  type SendFileOptions,
  type ServeStaticOptions,
} from "./node_options.ts";
import type { FileInfo, FileOptions, ServeDirectoryOptions } from "./options.ts";
import { parseTarget } from "./root/request_target.ts";
import type { Sent } from "./send/socket.ts";

export { HttpError };
export type {
  Dotfiles,
  FileInfo,
  FileOptions,
  HeaderObject,
  SendFileOptions,
  Sent,
  ServeDirectoryOptions,
  ServeStaticOptions,
};
export type { HeaderFields, URLLike, WebURL } from "../types.ts";

/** The same object each time: resolved options are cached by object. */
const NONE = {};

/**
 * Answers a request with a file, including ranges, preconditions and HEAD, by RFC 9110. Resolves to what was sent
 * once everything has been passed to the system. A client that leaves is not an error: `problem` reports it.
 *
 * `path` is trusted: never build it from anything that a client sent, unless the option `root` names the directory
 * that it must stay in. The response is 404 if it is not a regular file or may not be read.
 *
 * A status other than 200 that was set on `response` before stays, and then the whole file is sent. Header fields
 * stay, too, except those that frame the message (Content-Length, Content-Range, Transfer-Encoding); fields that
 * describe a file (Content-*, ETag, Last-Modified) are removed from a 304 or an error text.
 *
 * If the response does not write straight to the socket (TLS, HTTP/2, a compressing middleware), the file is written
 * to the response. Rejects with `TypeError` or `RangeError` for bad options, or if the head was sent already.
 *
 * Source: RFC 9110; Express's `res.sendFile`.
 *
 * @example The same file for every request
 * ```ts no-eval
 * import { sendFile } from "@zerocopy/sendfile/node";
 * import { createServer } from "node:http";
 *
 * createServer((request, response) => {
 *   sendFile(request, response, "video.mp4", { maxAge: "1h" });
 * }).listen(8000);
 * ```
 */
export async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  path: string | WebURL,
  options: SendFileOptions = NONE,
): Promise<Sent> {
  const resolved = resolveSendOptions(options ?? NONE);
  if (response.headersSent) throw new TypeError("the head of the response has been sent already");
  const name = typeof path === "string" ? path : fileURLToPath(path);
  const turn = inTurn(request, response);
  if (turn) await turn;
  const requestHead = requestHeadOf(request, response);
  const planning = options?.root === undefined
    ? planPath(requestHead, resolved, name)
    : planDirectory(requestHead, resolved, options.root, targetIn(name));
  // No `await` unless needed: in Deno the next event may be that the client has half-closed.
  const plan = planning instanceof Promise ? await holdReadingFor(request, planning) : planning;
  return await deliver(request, response, plan, requestHead, resolved);
}

/** Converts a path below a root to the request target that leads there. */
function targetIn(path: string): ReturnType<typeof parseTarget> {
  if (path.includes("\0")) return BAD_REQUEST;
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  return { kind: "target", path: "/", names, slash: path.endsWith("/"), query: "" };
}

/**
 * A handler for files below the directory `root`: connect-style middleware, or a node:http request listener.
 *
 * No request can lead out of `root`, not even through symlinks, nor to names that start with a dot. Throws
 * `TypeError` or `RangeError` for bad options. Later errors are passed to `next` as an {@link HttpError}; with
 * `fallthrough: false` missing files are, too. If the root does not exist, a message is logged once.
 *
 * A status and header fields that were set on the response before stay, as for {@link sendFile}.
 *
 * Source: RFC 9110; `serve-static`.
 *
 * @example In an Express application
 * ```ts no-eval
 * import { serveStatic } from "@zerocopy/sendfile/node";
 * import express from "express";
 *
 * express().use(serveStatic("public", { maxAge: 60 })).listen(8000);
 * ```
 *
 * @example With node:http alone
 * ```ts no-eval
 * import { serveStatic } from "@zerocopy/sendfile/node";
 * import { createServer } from "node:http";
 *
 * createServer(serveStatic("public")).listen(8000);
 * ```
 */
export function serveStatic(
  root: string,
  options: ServeStaticOptions | null = NONE,
): (request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void) => void {
  if (root === undefined || root === "") throw new TypeError("root path required");
  if (typeof root !== "string") throw new TypeError(`root path must be a string, not ${String(root)}`);
  const given = options ?? NONE as ServeStaticOptions;
  const resolved = resolveStaticOptions(given);
  const { fallthrough = true, onSent, setHeaders } = given;
  warnOfMissingRoot(root);
  const serve = async (
    request: IncomingMessage,
    response: ServerResponse,
    next?: (error?: unknown) => void,
  ) => {
    const turn = inTurn(request, response);
    if (turn) await turn;
    const requestHead = requestHeadOf(request, response, setHeaders);
    const planning = planDirectory(requestHead, resolved, root, requestTargetOf(request, resolved.urlRoot));
    const plan = planning instanceof Promise ? await holdReadingFor(request, planning) : planning;
    const pass = next && passOn(plan, fallthrough);
    if (pass) return next(...pass);
    const sent = await deliver(request, response, plan, requestHead, resolved);
    onSent?.(sent, request);
  };
  return (request, response, next) => {
    serve(request, response, next).catch((error) => {
      if (next) return next(error);
      console.error(error);
      cutOff(response);
    });
  };
}

/** The arguments for `next` if it is called in place of a response; undefined if the response is sent. */
function passOn({ missing, failure }: ResponsePlan, fallthrough: boolean): [error?: HttpError] | undefined {
  if (missing && fallthrough) return [];
  return failure && [new HttpError(failure)];
}

function requestHeadOf(
  { method = "", headers }: IncomingMessage,
  response: ServerResponse,
  setHeaders?: ServeStaticOptions["setHeaders"],
): RequestHead {
  return {
    method,
    field: (name) => {
      const value = headers[name];
      return typeof value === "string" ? value : undefined;
    },
    preset: (file) => presetOf(response, file, setHeaders),
  };
}

/** Fields that a handler may set for the file, in addition to those that describe it. */
const KEPT = new Set(["cache-control", "expires"]);

function presetOf(
  response: ServerResponse,
  file: OpenFile,
  setHeaders: ServeStaticOptions["setHeaders"],
): Preset {
  setHeaders?.(response, file.path, fs.fstatSync(file.fd));
  const fields: [string, string][] = [];
  for (const name of response.getHeaderNames()) {
    if (isServers(name) || (!describesFile(name) && !KEPT.has(name))) continue;
    for (const value of [response.getHeader(name)].flat()) fields.push([name, String(value)]);
  }
  const { statusCode } = response;
  return { status: statusCode === 200 ? undefined : statusCode, fields };
}

/** The request target. A router removes its mount path from `url`; `originalUrl` still has it, and the final slash. */
function requestTargetOf(
  request: IncomingMessage,
  urlRoot: readonly string[],
): ReturnType<typeof parseTarget> {
  const { url = "", originalUrl = url } = request as IncomingMessage & { originalUrl?: string };
  const target = parseTarget(url, urlRoot);
  if (originalUrl === url || target.kind === "failure") return target;
  const original = parseTarget(originalUrl);
  return original.kind === "failure" ? original : { ...target, path: original.path, slash: original.slash };
}
