import { findPeer } from "../../ffi/find.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { isBun, isDeno } from "../../runtime.ts";
import { whyNotSendfile } from "../../sendfile.ts";
import { count, counters } from "../../transfer/stats.ts";
import { whyBunCopies } from "./bun_way.ts";
import { RecentMap } from "../../recent_map.ts";
import { askForBunFiles, countFileStreams, type FileStream, fileStreamOf } from "./fetch_response.ts";
import { isOwnServer, isTls, remoteAddrOf } from "./server_info.ts";
import type { WebRequest, WebResponse } from "../../types.ts";
import { type BodyWay, type Connection, FIRST, Handoff, type Plan } from "./handoff.ts";
import {
  ADDRESS_NOT_IP,
  BELOW_THRESHOLD,
  codeOf,
  NO_ADDRESS,
  NO_TCP_INFO,
  NOT_FIRST,
  NOT_TCP,
  RESPONSE_CHANGED,
  RESPONSE_UNDER_WAY,
  SMALL_RANGE,
  TLS,
  TRANSFER_ENCODING,
} from "../../reasons.ts";

export type { BodyWay };

/** Options of {@link withSendfile}. */
export interface WithSendfileOptions {
  /**
   * Bodies of fewer bytes are left to the server, as the connection ends with a response that is sent past it. Only on
   * Deno.
   *
   * @default {2097152}
   */
  threshold?: number;
  /** Told which way each body goes that is a file's still, and why not by sendfile(2). */
  onBody?: (way: BodyWay, request: WebRequest) => void;
}

/** A handler of `Deno.serve`, as much of it as is needed. `Info`: what the server tells of a request beside it. */
export type Handler<Info> = (request: WebRequest, info: Info) => WebResponse | Promise<WebResponse>;

const THRESHOLD = 2 * 1024 * 1024;

/**
 * Bytes of a body for which one descriptor is looked at: a look takes 0.2 to 0.5 µs, and sendfile spares 0.15 µs of CPU
 * time a KiB (measured).
 */
const WORTH = 4 * 1024;

/** The reason phrases that hyper writes. Other statuses have no file. */
const REASONS: Readonly<Record<number, string>> = { 200: "OK", 206: "Partial Content" };

/** What hyper adds: `date: Sun, 06 Nov 1994 08:49:37 GMT`. */
const DATE = 37;

/**
 * Makes the file bodies of a handler for `Deno.serve` leave by sendfile(2): those of `serveFile` and `serveDir`, through
 * whatever router and middleware, as long as nobody has put another body in their place. Everything else is returned as
 * the handler gave it, and so is a file wherever anything is in doubt: TLS, HTTP/2, a unix socket, no FFI permission,
 * compression, a connection that is not known to be the request's. It has to be the outermost handler.
 *
 * The connection ends with such a response. Requests that are pipelined behind it are not answered (RFC 9112, 9.6).
 * On Bun responses stay as they are, as Bun.serve sends files by sendfile(2) itself from 1 MiB up; `onBody` and
 * `sendfileStats()` are told which. In `serve` of this package it leaves all files to the server, which sends them so.
 *
 * Where it is called with the request alone, as by srvx, the connection is taken from `request.runtime`.
 *
 * Throws `TypeError` or `RangeError` for bad options.
 *
 * Source: sendfile(2); tcp(7), TCP_INFO; RFC 9112, 6.3 and 9.6.
 *
 * @example
 * ```ts no-eval
 * import { serveDir, withSendfile } from "@zerocopy/sendfile/http";
 *
 * Deno.serve(withSendfile((request) => serveDir(request, { fsRoot: "public" })));
 * ```
 */
export function withSendfile<Info>(
  handler: Handler<Info>,
  options: WithSendfileOptions = {},
): (request: WebRequest, info?: Info) => WebResponse | Promise<WebResponse> {
  if (typeof handler !== "function") throw new TypeError("handler must be a function");
  const { threshold = THRESHOLD, onBody } = options;
  if (typeof threshold !== "number") throw new TypeError("threshold must be a number of bytes");
  if (onBody !== undefined && typeof onBody !== "function") throw new TypeError("onBody must be a function");
  if (!(threshold >= 0)) throw new RangeError(`threshold must be a number of bytes, not ${threshold}`);
  if (!isDeno && !isBun) return handler as ReturnType<typeof withSendfile<Info>>;
  if (isBun) askForBunFiles();
  const planFor = (response: Response, stream: FileStream, request: Request, info?: Info) => {
    if (isBun) return whyBunCopies(stream, request, info);
    if (stream.body.length < threshold) return BELOW_THRESHOLD;
    return planOf(response, stream, request, info);
  };
  const finish = (response: Response, request: Request, info?: Info) => {
    const stream = streamOf(response);
    if (!stream) return response;
    const told = (way: BodyWay) => {
      if (way.via === "native") countNative(way.reason);
      onBody?.(way, request);
    };
    const plan = planFor(response, stream, request, info);
    if (typeof plan !== "object") {
      try {
        told(plan === undefined ? { via: "native" } : { via: "native", reason: plan, code: codeOf(plan) });
      } catch (error) {
        response.body!.cancel(); // nobody else will close the file
        throw error;
      }
      return response;
    }
    const handoff = new Handoff(plan, response.body!, stream, told);
    return new Response(handoff.toStream(), {
      status: response.status,
      statusText: response.statusText,
      headers: plan.headers,
    });
  };
  return (request, info) => {
    if (isOwnServer(request, info)) return handler(request, info as Info);
    const before = countFileStreams();
    const response = handler(request, info as Info); // undefined only where the server has none
    const pass = (response: Response) =>
      countFileStreams() === before ? response : finish(response, request, info);
    return response instanceof Promise ? response.then(pass) : pass(response);
  };
}

function countNative(reason: string | undefined): void {
  counters.native.transfers++;
  if (reason === undefined) counters.native.sendfile++;
  else count(reason);
}

/** The file that a response's body still is. The body of other responses is not looked at, which would change it. */
function streamOf(response: Response): FileStream | undefined {
  if (response.headers.get("accept-ranges") !== "bytes") return undefined;
  const { body } = response;
  return body && !body.locked ? fileStreamOf(body) : undefined;
}

/** All that the way past the server takes, or why it is not gone. */
function planOf(
  response: Response,
  { body }: FileStream,
  request: Request,
  info: unknown,
): Plan & { headers: [string, string][] } | string {
  if (isTls(request)) return TLS;
  const missing = whyNotSendfile();
  if (missing !== undefined) return missing;
  const reason = REASONS[response.status];
  if (reason === undefined || response.headers.get("content-length") !== String(body.length)) {
    return RESPONSE_CHANGED;
  }
  if (response.headers.has("transfer-encoding")) return TRANSFER_ENCODING;
  if (body.parts[0].count <= FIRST) return SMALL_RANGE;
  const connection = connectionOf(loadLibc() as Libc, request, info, body.length);
  if (typeof connection === "string") return connection;
  // To HTTP/1.1 hyper says so by itself where the request asks for it.
  const requestHead = /(?:^|,)\s*close\s*(?:,|$)/i.test(request.headers.get("connection") ?? "");
  const headers: [string, string][] = requestHead ? [] : [["connection", "close"]];
  if (connection.halfClosed) headers[0] = ["connection", `close, ${padding()}`];
  for (const field of response.headers) if (field[0] !== "connection") headers.push(field);
  let head = `HTTP/1.1 ${response.status} ${reason}\r\n\r\n`.length;
  for (const [name, value] of headers) head += name.length + value.length + ": \r\n".length;
  if (!response.headers.has("date")) head += DATE;
  return { connection, headers, head, compressible: request.headers.has("accept-encoding") };
}

interface Known {
  readonly fd: number;
  /** That of the socket behind `fd`. */
  readonly cookie: bigint;
  readonly http1: boolean;
}

/** Whether a connection speaks HTTP/1, by its peer, so far as that is known. */
const known = new RecentMap<string, Known>(1000);

/** The connection that a request came on, where it is certain and speaks HTTP/1; otherwise why not. */
function connectionOf(libc: Libc, request: Request, info: unknown, length: number): Connection | string {
  const remoteAddr = remoteAddrOf(request, info);
  if (remoteAddr === undefined) return NO_ADDRESS;
  if (remoteAddr.transport !== "tcp") return NOT_TCP;
  const { hostname, port } = remoteAddr;
  const peer = `${hostname} ${port}`;
  const before = known.get(peer);
  // The search is needed each time where the answer is yes: a second connection may have the same peer by now.
  if (before?.http1 === false && libc.cookie(before.fd) === before.cookie) return NOT_FIRST;
  const remote = libc.parseEndpoint(hostname, port);
  if (!remote) return ADDRESS_NOT_IP;
  const fd = findPeer(libc, remote, length / WORTH);
  if (typeof fd === "string") return fd;
  const cookie = libc.cookie(fd);
  const state = libc.tcp(fd);
  if (cookie === 0n || !state) return NO_TCP_INFO;
  // Before its first response an HTTP/1 connection has written nothing, one of HTTP/2 its settings; and no request of
  // HTTP/2 has the field Connection (RFC 9113, 8.2.2).
  const http1 = before?.cookie === cookie
    ? before.http1
    : state.written === 0 || request.headers.has("connection");
  known.set(peer, { fd, cookie, http1 });
  if (!http1) return NOT_FIRST;
  if (state.acked !== state.written) return RESPONSE_UNDER_WAY;
  return { libc, fd, cookie, written: state.written, halfClosed: state.halfClosed };
}

/**
 * A connection option that nobody knows (RFC 9110, 7.6.1), and so of no meaning but its length. Of a client that has ended
 * its direction the server writes the head alone: so that no other output can match it by accident, the head's length
 * has to be what nobody can foresee.
 */
function padding(): string {
  return "x".repeat(1 + crypto.getRandomValues(new Uint16Array(1))[0] % PADDING);
}

/** Characters at most: a client may take no more than some kilobytes of a head. */
const PADDING = 2048;
