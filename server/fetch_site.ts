import * as fs from "node:fs";
import { OWN_SERVER } from "../http/keep_file.ts";
import { resolveOptions } from "../http/options.ts";
import type { ResolvedOptions } from "../http/options.ts";
import { pairsOf } from "../http/headers.ts";
import { isFileBody } from "../http/root/open_file.ts";
import { fileStreamOf } from "../http/send/fetch_response.ts";
import { realResponse, takeKept } from "../http/send/lazy_response.ts";
import type { Exchange, HandedOver, Site } from "./connection.ts";
import type { Head, Malformed } from "./request_head.ts";
import { requestOf, type RequestSource } from "./lazy_request.ts";
import { frame, type Reply } from "./reply.ts";
import { partsOf, type ResponseParts } from "./response_parts.ts";
import { BodyError, takeFile } from "./send_reply.ts";
import type { ServeAddr, ServeHandler, ServeHandlerInfo } from "./serve_types.ts";
import { clientOf, type Tunnels } from "./tunnel.ts";

/** Connects a fetch handler to the HTTP/1.1 engine. */
export class FetchSite implements Site {
  readonly resolved: ResolvedOptions = resolveOptions({});
  readonly #handler: ServeHandler;
  readonly #onError: (error: unknown) => Response | Promise<Response>;
  readonly #tunnels: Tunnels;
  /** The host in the URL of a request without a Host field. */
  readonly #host: () => string;

  constructor(
    handler: ServeHandler,
    onError: (error: unknown) => Response | Promise<Response>,
    tunnels: Tunnels,
    host: () => string,
  ) {
    this.#handler = handler;
    this.#onError = onError;
    this.#tunnels = tunnels;
    this.#host = host;
  }

  plan(head: Head, exchange: Exchange): Reply | Promise<Reply> {
    const visit = new Visit(head, exchange, this.#host);
    if (!TARGET.test(head.target)) return this.#reply(visit, new Response(null, MALFORMED));
    try {
      const response: unknown = this.#handler(requestOf(visit), visit);
      // Any other thenable is awaited, as in Deno.serve.
      return response instanceof Response
        ? this.#reply(visit, response)
        : this.#settle(visit, response as Promise<Response>);
    } catch (error) {
      return this.#failed(visit, error);
    }
  }

  async #settle(visit: Visit, promise: Promise<Response>): Promise<Reply> {
    try {
      return this.#reply(visit, await promise);
    } catch (error) {
      return await this.#failed(visit, error);
    }
  }

  async #failed(visit: Visit, error: unknown): Promise<Reply> {
    try {
      return this.#reply(visit, await this.#onError(error));
    } catch (error) {
      console.error("Exception in onError while handling exception", error);
      return this.#reply(visit, new Response("Internal Server Error", { status: 500 }));
    }
  }

  #reply(visit: Visit, response: unknown): Reply {
    const { status, fields, content } = messageOf(response);
    const { head: request } = visit;
    const { old, method } = request;
    const { head, saysClose, framing } = frame(request, { status, fields }, lengthOf(content));
    const hasBody = method !== "HEAD" && status !== 204 && status !== 304;
    if (!hasBody && content !== undefined) discard(content);
    const body = !hasBody
      ? undefined
      : content instanceof ReadableStream
      ? { stream: content, framing }
      : content;
    return {
      kind: "reply",
      status,
      head,
      old,
      body,
      last: saysClose || framing === "close",
      saysClose,
      ended: (problem) => {
        if (problem instanceof BodyError) this.#report(problem.cause);
        visit.end(problem);
      },
    };
  }

  /** Reports a body that failed after its head was sent: the response can no longer report it. */
  #report(error: unknown): void {
    try {
      Promise.resolve(this.#onError(error)).catch(console.error);
    } catch (error) {
      console.error("Exception in onError while handling exception", error);
    }
  }

  onError(error: unknown): void {
    console.error(error);
  }

  onWarning(line: string): void {
    console.error(line);
  }

  /** The engine handles GET and HEAD without a body. Everything else goes to the runtime's own server. */
  isForeign(request: Head | Malformed, head: Uint8Array): boolean {
    if (request.kind === "malformed") return request.status === 505 && isPreface(head);
    const { method, body, fields } = request;
    return (method !== "GET" && method !== "HEAD") || body > 0 || fields.has("upgrade") ||
      fields.has("expect");
  }

  handOver(connection: HandedOver): Promise<void> {
    return this.#tunnels.run(connection);
  }
}

/** The forms that the target of a GET or HEAD can have (RFC 9112, 3.2). */
const TARGET = /^(?:\/|https?:\/\/[^/?#])/i;

const MALFORMED: ResponseInit = { status: 400, headers: { connection: "close" } };

const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\n");

/** Whether the received bytes are the HTTP/2 preface (RFC 9113, 3.4). */
function isPreface(head: Uint8Array): boolean {
  return head.length === PREFACE.length && PREFACE.every((byte, i) => head[i] === byte);
}

type Content = Exclude<Reply["body"], { stream: unknown }> | ReadableStream<Uint8Array>;

const utf8 = new TextEncoder();

/** The parts of a handler's response that we send. */
interface Message {
  readonly status: number;
  readonly fields: ResponseParts["fields"];
  readonly content: Content;
}

function messageOf(response: unknown): Message {
  const kept = takeKept(response);
  if (kept) {
    const { status, fields, body, rateLimit } = kept;
    const content = isFileBody(body) ? { file: body, rateLimit } : toBytes(body);
    return { status, fields: pairsOf(fields), content };
  }
  const parts = partsOf(realResponse(response));
  return { status: parts.status, fields: parts.fields, content: contentOf(parts) };
}

function toBytes(body: Uint8Array | string | undefined): Uint8Array | undefined {
  return typeof body === "string" ? utf8.encode(body) : body;
}

/** The body of a response in the form in which we send it. */
function contentOf({ body, fields }: ResponseParts): Content {
  if (!(body instanceof ReadableStream)) return toBytes(body ?? undefined);
  const stream = fileStreamOf(body);
  if (!stream) return body;
  // A handler that set another Content-Length means another body, or made a mistake that must be visible.
  const told = fields.find(([name]) => name.toLowerCase() === "content-length")?.[1];
  if (told !== undefined && told !== String(stream.body.length)) return body;
  const file = takeFile(stream);
  if (!file) return body;
  if (!stream.take) body.cancel().catch(() => {/* the runtime's own descriptor, which we do not read */});
  return { file, rateLimit: stream.rateLimit };
}

/** Bytes of a body; 0 if there is none, undefined if its length is unknown. */
function lengthOf(content: Content): number | undefined {
  if (content === undefined) return 0;
  if (content instanceof Uint8Array) return content.length;
  return content instanceof ReadableStream ? undefined : content.file.length;
}

/** Releases a body that is not sent. */
function discard(content: Exclude<Content, undefined>): void {
  if (content instanceof Uint8Array) return;
  if (content instanceof ReadableStream) content.cancel().catch(() => {/* nobody waits for it */});
  else fs.closeSync(content.file.file.fd);
}

/** The data of a request apart from its head, created on demand. */
class Visit implements RequestSource, ServeHandlerInfo {
  readonly [OWN_SERVER] = true;
  readonly head: Head;
  readonly #exchange: Exchange;
  readonly #host: () => string;
  #abort: AbortController | undefined;
  #completed: PromiseWithResolvers<void> | undefined;
  /** Undefined before the response has ended; then the reason why it failed, if it did. */
  #end: { readonly problem: unknown } | undefined;
  #discards: (() => void)[] | undefined;

  constructor(head: Head, exchange: Exchange, host: () => string) {
    this.head = head;
    this.#exchange = exchange;
    this.#host = host;
  }

  get url(): string {
    const { target, field } = this.head;
    return target.startsWith("/") ? `http://${field("host") || this.#host()}${target}` : target;
  }

  get signal(): AbortSignal {
    if (this.#abort) return this.#abort.signal;
    const abort = this.#abort = new AbortController();
    if (!this.#end) this.#exchange.watch(() => abort.abort(gone()));
    else if (this.#end.problem !== undefined) abort.abort(gone());
    return abort.signal;
  }

  get remoteAddr(): ServeAddr {
    return clientOf(this.#exchange.transport);
  }

  get completed(): Promise<void> {
    if (!this.#completed) {
      this.#completed = withResolvers();
      if (this.#end) this.#complete(this.#completed, this.#end.problem);
    }
    return this.#completed.promise;
  }

  keepFile = (discard: () => void): void => {
    if (this.#end) discard();
    else (this.#discards ??= []).push(discard);
  };

  end(problem: unknown): void {
    this.#end = { problem };
    if (this.#completed) this.#complete(this.#completed, problem);
    if (problem !== undefined) this.#abort?.abort(gone());
    if (this.#discards) { for (const discard of this.#discards) discard(); }
  }

  #complete({ resolve, reject }: PromiseWithResolvers<void>, problem: unknown): void {
    if (problem === undefined) resolve();
    else reject(new Deno.errors.Interrupted("HTTP response was not sent successfully"));
  }
}

/** The error with the text of Deno.serve. */
function gone(): DOMException {
  return new DOMException("The request has been cancelled.", "AbortError");
}

function withResolvers(): PromiseWithResolvers<void> {
  let resolve!: () => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<void>((yes, no) => [resolve, reject] = [yes, no]);
  return { promise, resolve: resolve as PromiseWithResolvers<void>["resolve"], reject };
}
