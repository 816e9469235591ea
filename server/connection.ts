import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { isTurnDue, rest, spend } from "../transfer/budget.ts";
import { socketClosed } from "../errors.ts";
import { planText, REASONS, type ResponsePlan } from "../http/file_response.ts";
import { httpDate } from "../http/rfc9110/date.ts";
import { isFileBody } from "../http/root/open_file.ts";
import type { ResolvedOptions } from "../http/options.ts";
import { stallLimit } from "../http/send/stall.ts";
import { FROM_CACHE, type Outcome, problemOf, type Sent, transmit } from "../http/send/socket.ts";
import { yieldToEventLoop } from "../runtime.ts";
import { adapterOf } from "../sockets/mod.ts";
import { acknowledgedBy } from "../sockets/acknowledged.ts";
import { timedOut } from "../transfer/transfer.ts";
import type { ConnectionLimitOptions, ConnectionLimits, LimitedConnection } from "./connection_limits.ts";
import { type Head, type Malformed, parseHead } from "./request_head.ts";
import { Reader } from "./reader.ts";
import type { Reply } from "./reply.ts";
import { giveUpReply, type Outlet, sendBytes, sendReply } from "./send_reply.ts";
import type { Transport } from "./transport.ts";

/** What a server serves, and its callbacks. */
export interface Site extends ConnectionLimitOptions {
  readonly resolved: ResolvedOptions;
  plan(request: Head, exchange: Exchange): ResponsePlan | Reply | Promise<ResponsePlan | Reply>;
  /**
   * Whether the engine cannot answer this request, so that {@link handOver} must. `head`: the raw head of the
   * request.
   */
  isForeign?(request: Head | Malformed, head: Uint8Array): boolean;
  /** Takes over a connection until its end, from the first byte of a request that was not answered. */
  handOver?(connection: HandedOver): Promise<void>;
  /** Called with the result of a request. `began`: when its head had arrived, by `performance.now()`. */
  readonly onSent?: (request: Head, sent: Sent, client: string | undefined, began: number) => void;
  /** Called with an error that `plan` threw; the client gets 500. */
  onError(error: unknown): void;
  /** Called once when the server stops: pending plans must stop waiting. */
  onStop?(): void;
  /** Called with a line for the log about something that clients caused, such as a reached limit. */
  onWarning?(line: string): void;
}

/** The connection of a request, as a site may use it. */
export interface Exchange {
  readonly transport: Transport;
  /** Calls `onGone` if the client half-closes or the connection ends before the response has been sent. */
  watch(onGone: () => void): void;
}

/** A connection that is handed to another server. */
export interface HandedOver {
  readonly transport: Transport;
  /** As `read` of {@link Transport}, starting with the bytes that were read already. */
  read(into: Uint8Array): Promise<number>;
  /** Writes all bytes. Rejects if the connection has ended. */
  write(bytes: Uint8Array): Promise<void>;
  /** Half-closes our side. The client has some seconds to close its own. */
  finish(): void;
  /** Aborted when the connection has ended. */
  readonly closed: AbortSignal;
}

/** The value of the Connection field, if the response needs one. */
type Persistence = "close" | "keep-alive" | undefined;

/** Bytes of a request's body that are skipped. If the body is longer, the connection is closed. */
const MAX_SKIPPED = 64 * 1024;

/** Milliseconds that we wait for a request in transit when the server stops. */
const GRACE = 100;

/** The timeout in seconds for each state in which a connection waits. Files have their own timeout. */
const TIMEOUT_SECONDS = {
  /** Waits for a request: nginx's keepalive_timeout. */
  request: 75,
  /** Waits for the rest of a head or a body: client_header_timeout and client_body_timeout. */
  rest: 60,
  /** Waits until the socket takes more bytes (not of a file): send_timeout. */
  get room() {
    return stallLimit() / 1000;
  },
  /** Waits for the response plan. */
  plan: Infinity,
  file: Infinity,
  /** Waits for a handler's stream, which may be silent for any time. */
  stream: Infinity,
  /** Waits for a stream for a client that has half-closed: only sending to it shows whether it still listens. */
  deserted: 5,
  tunnel: Infinity,
  /** Waits for the client to close after the last response: RFC 9112, 9.6. */
  end: 2,
};

/** The states in which a connection may be closed to make room for another one. */
const IDLE: ReadonlySet<keyof typeof TIMEOUT_SECONDS> = new Set(["request", "rest", "end"] as const);

/** A snapshot of a connection. Two equal ones mean that nothing happened in between. */
interface Look {
  readonly waitsFor: keyof typeof TIMEOUT_SECONDS;
  readonly steps: number;
  /** Bytes that the client has acknowledged, if this state needs them and the system reports them. */
  readonly acked: number | undefined;
}

/** One connection. It answers requests one after the other, also if several are pipelined. */
export class Connection implements LimitedConnection, Exchange, HandedOver, Outlet {
  readonly transport: Transport;
  readonly #site: Site;
  readonly #reader: Reader;
  readonly #limits: ConnectionLimits | undefined;
  #waitsFor: keyof typeof TIMEOUT_SECONDS = "request";
  /** The last request that has arrived. */
  #request: Head | undefined;
  /** Counts events, so that a check can tell whether anything happened since the last one. */
  #steps = 0;
  #lastLook: Look = { waitsFor: "request", steps: 0, acked: undefined };
  /** For how many checks (one per second) nothing has happened. */
  #seconds = 0;
  #stopping = false;
  readonly #closed = new AbortController();
  /** Callbacks to call when the client has left. */
  #onGone: (() => void)[] = [];
  #hasEnded = false;
  /** Ends the wait for a response that may never come; set during such a wait. */
  #abandon: (() => void) | undefined;

  constructor(transport: Transport, site: Site, limits?: ConnectionLimits) {
    this.transport = transport;
    this.#limits = limits;
    this.#site = site;
    this.#reader = new Reader(transport);
    transport.gone = () => this.#over();
  }

  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  watch(onGone: () => void): void {
    if (this.#closed.signal.aborted) return onGone();
    this.#onGone.push(onGone);
    this.#reader.watch(() => {
      this.#hasEnded = true;
      if (this.#waitsFor === "stream") this.#step("deserted");
      this.#tellGone();
    });
  }

  #over(): void {
    this.#closed.abort(socketClosed());
    this.#tellGone();
    this.#abandon?.();
  }

  #tellGone(): void {
    for (const tell of this.#onGone.splice(0)) tell();
  }

  read(into: Uint8Array): Promise<number> {
    return this.#reader.read(into);
  }

  keepAlive(on: boolean): void {
    this.transport.keepAlive?.(on);
  }

  get client(): string | undefined {
    return this.transport.client;
  }

  get isReading(): boolean {
    return this.#waitsFor === "rest" || (this.#waitsFor === "request" && this.#reader.waiting > 0);
  }

  get seconds(): number {
    return this.#seconds;
  }

  /** The request whose response is under way. */
  get underWay(): Head | undefined {
    return IDLE.has(this.#waitsFor) ? undefined : this.#request;
  }

  /** Serves the connection until it ends. Rejects only because of a bug. */
  async run(): Promise<void> {
    try {
      while (await this.#turn()) {
        // Requests that have already arrived are answered without a wait, so they must count against the budget:
        // other connections would wait for all of them.
        spend(0);
        if (isTurnDue()) await rest();
      }
    } finally {
      this.close();
    }
  }

  /**
   * Closes the connection if it waits for a request. Otherwise the response under way, or the next one, is the last.
   */
  stop(): void {
    this.#stopping = true;
    if (this.#waitsFor === "request") this.finish();
  }

  /** Checks the timeouts. Call it once a second. */
  look(): void {
    if (TIMEOUT_SECONDS[this.#waitsFor] === Infinity) {
      this.#seconds = 0;
      return;
    }
    const waitsFor = this.#waitsFor === "request" && this.#reader.waiting > 0 ? "rest" : this.#waitsFor;
    // A client may read a listing of some megabytes slowly, so acknowledged bytes count as progress.
    const acked = waitsFor === "room" ? acknowledgedBy(adapterOf(this.transport.socket)) : undefined;
    const last = this.#lastLook;
    const isSame = waitsFor === last.waitsFor && this.#steps === last.steps && acked === last.acked;
    this.#seconds = isSame ? this.#seconds + 1 : 0;
    this.#lastLook = { waitsFor, steps: this.#steps, acked };
    // The response is sent, and nobody needs the request's body that the server would wait for.
    const most = this.#stopping && waitsFor === "rest" ? TIMEOUT_SECONDS.end : TIMEOUT_SECONDS[waitsFor];
    if (this.#seconds < most) return;
    if (waitsFor === "room") this.#closed.abort(timedOut(most * 1000, 0));
    this.close();
  }

  close(): void {
    this.#over();
    this.transport.close();
  }

  /** Handles one request and its response. False: the connection has ended. */
  async #turn(): Promise<boolean> {
    const request = await this.#next();
    if (request === undefined) return false;
    if (request === "foreign") return await this.#handOver();
    if (typeof request === "number") {
      const plan = planText({ method: "" }, this.#site.resolved, request);
      return await this.#last(async () => (await this.#send(plan, "close")).problem === undefined);
    }
    const { keep, old, body } = this.#request = request;
    const began = this.#site.onSent ? performance.now() : 0;
    const found = this.#answerTo(request);
    const plan = found instanceof Promise ? await this.#beforeEnd(found) : found;
    if (plan === undefined) return false;
    const reply = isReply(plan) ? plan : undefined;
    if (!keep || this.#stopping || body > MAX_SKIPPED || (!reply && plan.status === 503)) {
      return await this.#last(() => this.#respond(request, plan, "close", began));
    }
    const isComplete = await this.#respond(request, plan, old ? "keep-alive" : undefined, began);
    if (isComplete && reply?.last) return await this.#last(() => Promise.resolve(true));
    return isComplete && await this.#skip(body);
  }

  async #handOver(): Promise<false> {
    const problem = !this.#limits || this.#limits.admits(this)
      ? this.#limits?.affordsFile() === false ? "too few descriptors" : undefined
      : "too many connections";
    if (problem !== undefined) {
      const plan = this.#unavailable({ method: "" }, problem);
      return await this.#last(async () => (await this.#send(plan, "close")).problem === undefined);
    }
    this.#step("tunnel");
    await this.#site.handOver!(this);
    return false;
  }

  /** The next request, or the status to reject it with; undefined if none comes. */
  async #next(): Promise<Head | number | "foreign" | undefined> {
    this.#step("request");
    const stop = this.#stopping ? setTimeout(() => this.stop(), GRACE) : undefined;
    const bytes = await this.#reader.head();
    clearTimeout(stop);
    if (bytes === undefined) return undefined;
    if (this.#waitsFor === "end") {
      // The request came too late. Closing with unread bytes would reset the connection and lose bytes in flight.
      await this.#reader.drain();
      return undefined;
    }
    this.#step("plan"); // from now on stop() waits for this request
    if (typeof bytes === "number") return bytes;
    const head = parseHead(bytes);
    if (this.#site.isForeign?.(head, bytes)) {
      this.#reader.putBack(bytes);
      return "foreign";
    }
    return head.kind === "head" ? head : head.status;
  }

  #step(waitsFor: keyof typeof TIMEOUT_SECONDS): void {
    if (waitsFor !== this.#waitsFor) this.#limits?.setIdle(this, IDLE.has(waitsFor));
    this.#waitsFor = waitsFor;
    this.#steps++;
  }

  /**
   * Sends the last response. Meanwhile we read what the client sends: otherwise a client that is blocked in sending
   * would not read our response.
   */
  async #last(send: () => Promise<boolean>): Promise<false> {
    const drained = this.#reader.drain();
    if (await send()) {
      this.finish();
      await drained;
    }
    return false;
  }

  finish(): void {
    this.#step("end");
    this.transport.finish();
  }

  async #skip(bytes: number): Promise<boolean> {
    if (bytes === 0) return true;
    this.#step("rest");
    return await this.#reader.skip(bytes);
  }

  /**
   * The response to a request. 503 and the end of the connection if there are too many connections or too few
   * descriptors.
   */
  #answerTo(request: Head): ResponsePlan | Reply | Promise<ResponsePlan | Reply> {
    const limits = this.#limits;
    if (!limits) return this.#ask(request);
    if (!limits.admits(this)) return this.#unavailable(request, "too many connections");
    const answer = this.#ask(request);
    return answer instanceof Promise
      ? answer.then((plan) => this.#affordable(request, plan, limits))
      : this.#affordable(request, answer, limits);
  }

  /**
   * Returns `plan` if enough descriptors are left for it, otherwise 503. A file's descriptors are all open before its
   * head is sent.
   */
  #affordable<T extends ResponsePlan | Reply>(
    request: Head,
    plan: T,
    limits: ConnectionLimits,
  ): T | ResponsePlan | Reply | Promise<ResponsePlan | Reply> {
    if (isReply(plan)) {
      if (plan.body === undefined || !("file" in plan.body) || limits.affordsFile()) return plan;
      giveUpReply(plan, new Error("too few descriptors"));
      return this.#unavailable(request, "too few descriptors");
    }
    if (plan.status === 503) return limits.freeDescriptor() ? this.#askAgain(request) : plan;
    if (!isFileBody(plan.body) || limits.affordsFile()) return plan;
    fs.closeSync(plan.body.file.fd);
    return this.#unavailable(request, "too few descriptors");
  }

  async #askAgain(request: Head): Promise<ResponsePlan | Reply> {
    await yieldToEventLoop(); // the descriptor of a closed connection is free in the next round of the event loop
    return await this.#ask(request);
  }

  #unavailable(request: Pick<Head, "method">, problem: string): ResponsePlan {
    return { ...planText(request, this.#site.resolved, 503), problem };
  }

  /** Sends a response. True: all of it was passed to the system. */
  async #respond(
    request: Head,
    plan: ResponsePlan | Reply,
    connection: Persistence,
    began: number,
  ): Promise<boolean> {
    if (isReply(plan)) return await this.#reply(plan, connection);
    const { status } = plan;
    const sending = this.#send(plan, connection);
    const { bytes, way, problem } = sending instanceof Promise ? await sending : sending;
    this.#site.onSent?.(
      request,
      { status, bytes, way, problem: problem ?? plan.problem },
      this.client,
      began,
    );
    return problem === undefined;
  }

  async #reply(reply: Reply, connection: Persistence): Promise<boolean> {
    const sending = sendReply(reply, connection, this);
    const problem = sending instanceof Promise ? await sending : sending;
    this.#onGone.length = 0;
    reply.ended(problem);
    return problem === undefined;
  }

  /** Waits for a response until the connection ends; undefined if that happens first. */
  #beforeEnd<T extends ResponsePlan | Reply>(promise: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const abandon = this.#abandon = () => {
        this.#abandon = undefined;
        promise.then(giveUp, () => {/* the connection has ended */});
        resolve(undefined);
      };
      promise.then((plan) => {
        if (this.#abandon !== abandon) return;
        this.#abandon = undefined;
        resolve(plan);
      }, reject);
      if (this.#closed.signal.aborted) abandon();
    });
  }

  #ask(request: Head): ResponsePlan | Reply | Promise<ResponsePlan | Reply> {
    const failed = (error: unknown) => {
      this.#site.onError(error);
      return planText(request, this.#site.resolved, 500);
    };
    try {
      const plan = this.#site.plan(request, this);
      return plan instanceof Promise ? plan.catch(failed) : plan;
    } catch (error) {
      return failed(error);
    }
  }

  #send(plan: ResponsePlan, connection: Persistence): Outcome | Promise<Outcome> {
    const head = headOf(plan, connection);
    const { body } = plan;
    if (!isFileBody(body)) return this.#write(head, body, plan.cached);
    this.#step("file");
    return transmit(this.transport.socket, head, body, this.#site.resolved.rateLimit, this.#closed.signal);
  }

  async write(bytes: Uint8Array): Promise<void> {
    const before = this.#waitsFor;
    const target = adapterOf(this.transport.socket);
    for (let at = this.transport.send?.(bytes) ?? 0; at < bytes.length;) {
      this.#step("room");
      at += await target.write(bytes.subarray(at), this.#closed.signal);
    }
    this.#step(before);
  }

  waitFor(what: "file" | "stream"): void {
    this.#step(what === "stream" && this.#hasEnded ? "deserted" : what);
  }

  /** `cached`: how many bytes of the body come from the cache of small files. */
  #write(head: string, body: Uint8Array | string = "", cached?: number): Outcome | Promise<Outcome> {
    const content = typeof body === "string" ? Buffer.from(body) : body;
    const outcomeOf = (error: unknown): Outcome => {
      if (error === undefined) {
        return { bytes: cached ?? content.length, way: cached === undefined ? "-" : FROM_CACHE };
      }
      const { aborted, reason } = this.#closed.signal; // Deno reports its own close as "operation canceled"
      return { bytes: 0, way: "-", problem: problemOf(aborted ? reason : error) };
    };
    const sending = sendBytes(head, content, this);
    return sending instanceof Promise ? sending.then(outcomeOf) : outcomeOf(sending);
  }
}

/** The head of a response, including the empty line. */
function headOf({ status, headers }: ResponsePlan, connection: Persistence): string {
  let head = `HTTP/1.1 ${status} ${REASONS[status]}\r\nDate: ${httpDate(Math.floor(Date.now() / 1000))}\r\n`;
  for (const name in headers) {
    const value = headers[name];
    if (typeof value === "string") head += `${name}: ${value}\r\n`;
    else for (const one of value) head += `${name}: ${one}\r\n`;
  }
  if (connection !== undefined) head += `Connection: ${connection}\r\n`;
  return `${head}\r\n`;
}

function isReply(plan: ResponsePlan | Reply): plan is Reply {
  return "kind" in plan;
}

/** Closes the file or stream of a response that will not be sent. */
function giveUp(plan: ResponsePlan | Reply): void {
  if (isReply(plan)) giveUpReply(plan, socketClosed());
  else if (isFileBody(plan.body)) fs.closeSync(plan.body.file.fd);
}
