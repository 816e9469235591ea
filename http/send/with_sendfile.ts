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
   * The server sends bodies of fewer bytes itself, because a response by sendfile(2) ends the connection. Only on
   * Deno.
   *
   * @default {2097152}
   */
  threshold?: number;
  /** Called for each body that is still a file's, with how it is sent, and why not by sendfile(2). */
  onBody?: (way: BodyWay, request: WebRequest) => void;
}

/** A handler for `Deno.serve`. `Info`: the server's information about the request. */
export type Handler<Info> = (request: WebRequest, info: Info) => WebResponse | Promise<WebResponse>;

const THRESHOLD = 2 * 1024 * 1024;

/**
 * Bytes of a body for which checking one descriptor is worth it: one check takes 0.2 to 0.5 µs, and sendfile saves
 * 0.15 µs of CPU time per KiB (measured).
 */
const WORTH = 4 * 1024;

/** The reason phrases that hyper writes. Other statuses have no file. */
const REASONS: Readonly<Record<number, string>> = { 200: "OK", 206: "Partial Content" };

/** Length of the field that hyper adds: `date: Sun, 06 Nov 1994 08:49:37 GMT`. */
const DATE = 37;

/**
 * Wraps a handler for `Deno.serve` so that sendfile(2) sends the file bodies of `serveFile` and `serveDir`. They may
 * pass through any router and middleware that does not replace the body. Every other response is returned unchanged,
 * and so is a file if anything is in doubt: TLS, HTTP/2, a unix socket, no FFI permission, compression, a connection
 * that cannot be proved to be the request's. It must be the outermost handler.
 *
 * The connection ends after such a response. Requests that are pipelined after it are not answered (RFC 9112, 9.6).
 * On Bun responses are unchanged, because Bun.serve itself sends files by sendfile(2) from 1 MiB on; `onBody` and
 * `sendfileStats()` report which. Under this package's `serve` it leaves all files to that server, which uses
 * sendfile(2) itself.
 *
 * If it is called with the request alone, as by srvx, it takes the connection from `request.runtime`.
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
    const response = handler(request, info as Info); // undefined only if the server gives none
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

/**
 * The file of a response's body, if it still has one. The body of other responses is not accessed, because that would
 * change it.
 */
function streamOf(response: Response): FileStream | undefined {
  if (response.headers.get("accept-ranges") !== "bytes") return undefined;
  const { body } = response;
  return body && !body.locked ? fileStreamOf(body) : undefined;
}

/** The plan for a handoff, or the reason against one. */
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
  // In HTTP/1.1 hyper adds the field itself if the request asks for it.
  const asksToClose = /(?:^|,)\s*close\s*(?:,|$)/i.test(request.headers.get("connection") ?? "");
  const headers: [string, string][] = asksToClose ? [] : [["connection", "close"]];
  if (connection.halfClosed) headers[0] = ["connection", `close, ${padding()}`];
  for (const field of response.headers) if (field[0] !== "connection") headers.push(field);
  let head = `HTTP/1.1 ${response.status} ${reason}\r\n\r\n`.length;
  for (const [name, value] of headers) head += name.length + value.length + ": \r\n".length;
  if (!response.headers.has("date")) head += DATE;
  return { connection, headers, head, compressible: request.headers.has("accept-encoding") };
}

interface Known {
  readonly fd: number;
  /** The cookie of the socket that `fd` refers to. */
  readonly cookie: bigint;
  readonly http1: boolean;
}

/** Whether a connection speaks HTTP/1, by the address of its peer, as far as we know. */
const known = new RecentMap<string, Known>(1000);

/** The connection that a request came on, if it is certain and speaks HTTP/1; otherwise the reason. */
function connectionOf(libc: Libc, request: Request, info: unknown, length: number): Connection | string {
  const remoteAddr = remoteAddrOf(request, info);
  if (remoteAddr === undefined) return NO_ADDRESS;
  if (remoteAddr.transport !== "tcp") return NOT_TCP;
  const { hostname, port } = remoteAddr;
  const peer = `${hostname} ${port}`;
  const before = known.get(peer);
  // Only "no" may be answered from the cache. For "yes" we search each time: a second connection may have the same
  // peer by now.
  if (before?.http1 === false && libc.cookie(before.fd) === before.cookie) return NOT_FIRST;
  const remote = libc.parseEndpoint(hostname, port);
  if (!remote) return ADDRESS_NOT_IP;
  const fd = findPeer(libc, remote, length / WORTH);
  if (typeof fd === "string") return fd;
  const cookie = libc.cookie(fd);
  const state = libc.tcp(fd);
  if (cookie === 0n || !state) return NO_TCP_INFO;
  // Before its first response an HTTP/1 connection has written nothing, whereas an HTTP/2 connection has written its
  // SETTINGS; and an HTTP/2 request never has the field Connection (RFC 9113, 8.2.2).
  const http1 = before?.cookie === cookie
    ? before.http1
    : state.written === 0 || request.headers.has("connection");
  known.set(peer, { fd, cookie, http1 });
  if (!http1) return NOT_FIRST;
  if (state.acked !== state.written) return RESPONSE_UNDER_WAY;
  return { libc, fd, cookie, written: state.written, halfClosed: state.halfClosed };
}

/**
 * A random unknown connection option (RFC 9110, 7.6.1), which has no effect but its length. To a client that has
 * half-closed the server writes the head alone, so the length of the head must be random: then no other output can
 * match it by accident.
 */
function padding(): string {
  return "x".repeat(1 + crypto.getRandomValues(new Uint16Array(1))[0] % PADDING);
}

/** The most characters: a client may accept only a few kilobytes of head. */
const PADDING = 2048;
