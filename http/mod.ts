/**
 * Files as HTTP responses, for the handlers of `Deno.serve` and `Bun.serve`: the functions and options of
 * `@std/http/file-server`, and more.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import type { WebRequest, WebResponse, WebURL } from "../types.ts";
import { planPath, type RequestHead } from "./file_response.ts";
import { planDirectory } from "./directory.ts";
import { printable } from "./printable.ts";
import type { StdFileInfo } from "./file_info.ts";
import {
  type FileInfo,
  type FileOptions,
  resolveDirectoryOptions,
  resolveOptions,
  type ServeDirectoryOptions,
} from "./options.ts";
import { keepFileOf } from "./keep_file.ts";
import { parseTarget } from "./root/request_target.ts";
import { toResponse } from "./send/fetch_response.ts";

export { type BodyWay, type Handler, withSendfile, type WithSendfileOptions } from "./send/with_sendfile.ts";
export type { FileInfo, FileOptions, ServeDirectoryOptions, StdFileInfo };
export type { Via } from "../transfer/options.ts";
export type { ReasonCode } from "../reasons.ts";
export type {
  HeaderFields,
  RequestLike,
  ResponseLike,
  URLLike,
  WebRequest,
  WebResponse,
  WebURL,
} from "../types.ts";

/** The same object each time: resolved options are cached by object. */
const NONE = {};

/** Options of @std/http's file server that have no effect here: they are checked and ignored. */
export interface StdOptions {
  /** Ignored: the ETag is not a hash but a strong tag from size and modification time. @default none */
  etagAlgorithm?: string | { readonly name: string };
  /** Ignored: every file has its own ETag. @default none */
  etagDefault?: string | Promise<string | undefined>;
}

/** Options of {@link serveFile}: those of @std/http, and more. */
export interface ServeFileOptions extends FileOptions, StdOptions {
  /**
   * The result of `Deno.stat` for the file. Its `mtime` is used as the modification time (null: no Last-Modified),
   * and a directory gets 404. It is ignored if the opened file is a different one (size, device, inode, change time).
   * @default the system's stat
   */
  fileInfo?: StdFileInfo;
}

/** Options of {@link serveDir}. */
export interface ServeDirOptions extends ServeDirectoryOptions, StdOptions {
  /** The directory to serve. @default "." */
  fsRoot?: string;
  /** Do not log requests. @default false */
  quiet?: boolean;
  /** Answers requests for a path that does not exist or with a method that files do not support. @default 404, 405 */
  fallthrough?: (request: WebRequest) => WebResponse | Promise<WebResponse>;
}

/**
 * Answers a request with a file, including ranges, preconditions and HEAD, by RFC 9110.
 *
 * `path` is trusted: never build it from anything that a client sent; use {@link serveDir} for that. The response is
 * 404 if it is not a regular file or may not be read.
 *
 * Small files are sent as bytes, others as the runtime's own file body. Throws `TypeError` or `RangeError` for bad
 * options, and what a `headers` function throws; errors of the system become responses (404, 500, 503).
 *
 * Source: RFC 9110; `serveFile` of @std/http.
 *
 * @example The same file for every request
 * ```ts no-eval
 * import { serveFile } from "@zerocopy/sendfile/http";
 *
 * Deno.serve((request) => serveFile(request, "video.mp4", { maxAge: 3600 }));
 * ```
 */
export async function serveFile(
  request: WebRequest,
  path: string | WebURL,
  options: ServeFileOptions = NONE,
): Promise<WebResponse> {
  const resolved = resolveOptions(options);
  const requestHead = requestHeadOf(request);
  const name = typeof path === "string" ? path : fileURLToPath(path);
  return await toResponse(
    await planPath(requestHead, resolved, name, options.fileInfo),
    requestHead,
    resolved,
    keepFileOf(request),
  );
}

/**
 * Answers a request with a file below `fsRoot`, or with the listing of a directory.
 *
 * No request can lead out of `fsRoot`, not even through symlinks, nor to names that start with a dot. Throws as
 * {@link serveFile} does. Unknown options are refused by name. If the root does not exist, a message is logged once,
 * and every request below it gets 404.
 *
 * Source: RFC 9110; `serveDir` of @std/http, with its options except those that choose a hash for the ETag, which
 * here is a strong tag from size and modification time.
 *
 * @example A site, with an application for paths that have no file
 * ```ts no-eval
 * import { serveDir } from "@zerocopy/sendfile/http";
 *
 * Deno.serve((request) =>
 *   serveDir(request, {
 *     fsRoot: "public",
 *     fallthrough: () => new Response("hello from the application"),
 *   })
 * );
 * ```
 */
export async function serveDir(request: WebRequest, options: ServeDirOptions = NONE): Promise<WebResponse> {
  const resolved = resolveDirectoryOptions(options);
  const { fsRoot = ".", quiet = false, fallthrough } = options;
  const requestHead = requestHeadOf(request);
  const target = parseTarget(request.url, resolved.urlRoot);
  const promised = planDirectory(requestHead, resolved, fsRoot, target);
  const plan = promised instanceof Promise ? await promised : promised;
  const response = plan.missing && fallthrough
    ? await fallthrough(request)
    : await toResponse(plan, requestHead, resolved, keepFileOf(request));
  if (!quiet) console.log(requestLine(request, response.status, plan.problem));
  return response;
}

function requestHeadOf({ method, headers }: WebRequest): RequestHead {
  return { method, field: (name) => headers.get(name) };
}

/** The log line, as in @std/http's file server. */
function requestLine({ method, url }: WebRequest, status: number, problem: string | undefined): string {
  const time = new Date().toISOString();
  const path = url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, "").replace(/#.*/, "");
  const line = `[${time.slice(0, 10)} ${time.slice(11, 19)}] [${method}] ${printable(path)} ${status}`;
  return problem === undefined ? line : `${line} (${problem})`;
}
