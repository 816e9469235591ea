/**
 * Files as responses of node:http servers, and so of Express, Connect and Fastify: the file's bytes go by sendfile(2)
 * on the connection's socket where that can be, and the connection stays open for the next request.
 *
 * @module
 */

import { fromFileUrl } from "@std/path";
import type { IncomingMessage, ServerResponse } from "node:http";
import { answerPath, type Asked } from "./answer.ts";
import { cutOff, deliver, inTurn } from "./deliver.ts";
import { answerDirectory } from "./directory.ts";
import {
  directoryRulesOf,
  type FileInfo,
  rulesOf,
  type ServeDirectoryOptions,
  type ServeFileOptions,
} from "./options.ts";
import { parseTarget } from "./paths.ts";
import type { Sent } from "./transmit.ts";

export type { FileInfo, Sent, ServeDirectoryOptions, ServeFileOptions };

/** The same object each time: what options come to is remembered by it. */
const NONE = {};

/** Options of {@link serveStatic}. */
export interface ServeStaticOptions extends ServeDirectoryOptions {
  /**
   * Call `next` for what is not there: a path that leads to nothing, a method that files do not have. Otherwise, and
   * where there is no `next`, it is answered with 404 or 405. @default true
   */
  fallthrough?: boolean;
  /** Told what came of each response that was given here. @default none */
  onSent?: (sent: Sent, request: IncomingMessage) => void;
}

/**
 * Answers a request with a file: ranges, preconditions, HEAD and all, by RFC 9110; resolves, once all has been handed
 * to the system, to what was sent. A client that leaves is no error: `problem` says so.
 *
 * `path` is the caller's and trusted: never make it of what a client sent, that is what {@link serveStatic} is for. It
 * is 404 where it is not a regular file or may not be read. Header fields set on `response` before are sent too.
 *
 * Where the response is not the connection's own (TLS, HTTP/2, a middleware that compresses) the file is written to
 * the response. Rejects with `TypeError` or `RangeError` for bad options, or where the head has been sent already.
 *
 * Source: RFC 9110; Express's `res.sendFile`.
 *
 * @example One file, whatever is asked for
 * ```ts no-eval
 * import { sendFile } from "@zerocopy/sendfile/node";
 * import { createServer } from "node:http";
 *
 * createServer((request, response) => {
 *   sendFile(request, response, "video.mp4", { maxAge: 3600 });
 * }).listen(8000);
 * ```
 */
export async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  path: string | URL,
  options: ServeFileOptions = NONE,
): Promise<Sent> {
  const rules = rulesOf(options);
  if (response.headersSent) throw new TypeError("the head of the response has been sent already");
  const name = typeof path === "string" ? path : fromFileUrl(path);
  const turn = inTurn(request, response);
  if (turn) await turn;
  const asked = askedOf(request);
  return await deliver(request, response, answerPath(asked, rules, name), asked, rules);
}

/**
 * A handler for files below the directory `root`: connect-style middleware, or a node:http request listener.
 *
 * What a client sends cannot lead out of `root`, not by symlinks either, nor to names that start with a dot. Throws
 * `TypeError` or `RangeError` for bad options; what goes wrong later goes to `next`.
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
  options: ServeStaticOptions = {},
): (request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void) => void {
  if (typeof root !== "string") throw new TypeError(`root must be a path, not ${String(root)}`);
  const rules = directoryRulesOf(options);
  const { fallthrough = true, onSent } = options;
  const serve = async (
    request: IncomingMessage,
    response: ServerResponse,
    next?: (error?: unknown) => void,
  ) => {
    const turn = inTurn(request, response);
    if (turn) await turn;
    const asked = askedOf(request);
    const promised = answerDirectory(asked, rules, root, targetOf(request, rules.urlRoot));
    const answer = promised instanceof Promise ? await promised : promised;
    if (answer.missing && fallthrough && next) return next();
    const sent = await deliver(request, response, answer, asked, rules);
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

function askedOf({ method = "", headers }: IncomingMessage): Asked {
  return {
    method,
    field: (name) => {
      const value = headers[name];
      return typeof value === "string" ? value : undefined;
    },
  };
}

/** Where a router has taken the path of its mount off `url`, `originalUrl` still has it, and the slash at the end. */
function targetOf(request: IncomingMessage, urlRoot: readonly string[]): ReturnType<typeof parseTarget> {
  const { url = "", originalUrl = url } = request as IncomingMessage & { originalUrl?: string };
  const target = parseTarget(url, urlRoot);
  if (originalUrl === url || target.kind === "refusal") return target;
  const original = parseTarget(originalUrl);
  return original.kind === "refusal" ? original : { ...target, path: original.path, slash: original.slash };
}
