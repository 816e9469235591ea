import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { isTurnDue, rest, spend } from "../transfer/budget.ts";
import { socketClosed } from "../errors.ts";
import { planText, REASONS, type ResponsePlan } from "../http/file_response.ts";
import { httpDate } from "../http/rfc9110/date.ts";
import { isFileBody } from "../http/root/open_file.ts";
import type { ResolvedOptions } from "../http/options.ts";
import { bytesOf } from "../http/send/parts.ts";
import { stallLimit } from "../http/send/stall.ts";
import { type Outcome, problemOf, type Sent, transmit } from "../http/send/socket.ts";
import { yieldToEventLoop } from "../runtime.ts";
import { adapterOf } from "../sockets/mod.ts";
import { acknowledgedBy } from "../sockets/acknowledged.ts";
import { timedOut } from "../transfer/transfer.ts";
import type { ConnectionLimitOptions, ConnectionLimits, LimitedConnection } from "./connection_limits.ts";
import { type Head, type Malformed, parseHead } from "./request_head.ts";
import { Reader } from "./reader.ts";
import type { Reply } from "./reply.ts";
import { giveUpReply, type Outlet, sendReply } from "./send_reply.ts";
import type { Transport } from "./transport.ts";

/** What is served, and who is told of it. */
export interface Site extends ConnectionLimitOptions {
  readonly resolved: ResolvedOptions;
  plan(request: Head, exchange: Exchange): ResponsePlan | Reply | Promise<ResponsePlan | Reply>;
  /** Whether {@link handOver} has to answer, with the raw head of the request. */
  isForeign?(request: Head | Malformed, head: Uint8Array): boolean;
  /** Takes a connection over from the first byte of a request that was not answered, until its end. */
  handOver?(connection: HandedOver): Promise<void>;
  /** What came of a request. `began`: when its head had come, by `performance.now()`. */
  readonly onSent?: (request: Head, sent: Sent, client: string | undefined, began: number) => void;
  /** What `plan` has thrown: the client gets 500. */
  onError(error: unknown): void;
  /** Called once the server ends: plans that wait for something must not be waited for. */
  onStop?(): void;
  /** One line about what clients cause, such as a limit that is reached. */
  onWarning?(line: string): void;
}

/** Bytes of a body that are sent with the head, so that a small one takes one write. A listing may have millions. */
const WITH_HEAD = 64 * 1024;

/** What a site may know of the connection that a request came on. */
export interface Exchange {
  readonly transport: Transport;
  /** Calls `onGone` once the client has ended its side or the connection is over, if that is before the response is. */
  watch(onGone: () => void): void;
}

/** A connection that another server has to go on with. */
export interface HandedOver {
  readonly transport: Transport;
  /** As of {@link Transport}, with what was read already. */
  read(into: Uint8Array): Promise<number>;
  /** Writes all. Rejects where the connection is over. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends our side. The client has some seconds to end its own. */
  finish(): void;
  /** Aborted once the connection is over. */
  readonly closed: AbortSignal;
}

/** What a response says of the connection's future, where it has to. */
type Persistence = "close" | "keep-alive" | undefined;

/** Bytes of a request's body that are read over; where there are more, the connection ends. */
const MAX_SKIPPED = 64 * 1024;

/** Milliseconds for a request that is on its way when the server stops. */
const GRACE = 100;

/** What a connection waits for, and how many seconds at most. Files have a time limit of their own. */
const TIMEOUT_SECONDS = {
  /** A request: nginx's keepalive_timeout. */
  request: 75,
  /** The rest of a head or of a body: client_header_timeout and client_body_timeout. */
  rest: 60,
  /** Room for bytes that are no file's: send_timeout. */
  get room() {
    return stallLimit() / 1000;
  },
  /** Its own answer. */
  plan: Infinity,
  file: Infinity,
  /** A handler's stream, which may have nothing to say for as long as it likes. */
  stream: Infinity,
  /** The same of a client that has ended its side: that it still listens shows only when something is sent to it. */
  deserted: 5,
  tunnel: Infinity,
  /** After the last response, the end of the client's side: RFC 9112, 9.6. */
  end: 2,
};

/** What a connection waits for that may be closed for another one's sake. */
const IDLE: ReadonlySet<keyof typeof TIMEOUT_SECONDS> = new Set(["request", "rest", "end"] as const);

/** What a look has seen of a connection: the same again means that nothing has happened. */
interface Look {
  readonly waitsFor: keyof typeof TIMEOUT_SECONDS;
  readonly steps: number;
  /** Bytes that the client has acknowledged, where they are asked for and the system tells. */
  readonly acked: number | undefined;
}

/** One connection: requests in, answers out, one after the other, however many have come. */
export class Connection implements LimitedConnection, Exchange, HandedOver, Outlet {
  readonly transport: Transport;
  readonly #site: Site;
  readonly #reader: Reader;
  readonly #limits: ConnectionLimits | undefined;
  #waitsFor: keyof typeof TIMEOUT_SECONDS = "request";
  /** The last one that has come. */
  #request: Head | undefined;
  /** Counts what has happened, so that a look tells whether anything has since the one before. */
  #steps = 0;
  #lastLook: Look = { waitsFor: "request", steps: 0, acked: undefined };
  /** For how many looks, one a second, nothing has happened. */
  #seconds = 0;
  #stopping = false;
  readonly #closed = new AbortController();
  /** Who is to be told that the client has left. */
  #onGone: (() => void)[] = [];
  #hasEnded = false;
  /** Present while an answer is waited for that may never come: ends the wait. */
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

  /** Serves until the end. Rejects for nothing but a defect. */
  async run(): Promise<void> {
    try {
      while (await this.#turn()) {
        // What has come already is answered without a wait; everybody else would have to.
        spend(0);
        if (isTurnDue()) await rest();
      }
    } finally {
      this.close();
    }
  }

  /** Ends it where it waits for a request; otherwise the response under way, or the next one, is the last. */
  stop(): void {
    this.#stopping = true;
    if (this.#waitsFor === "request") this.finish();
  }

  /** To be called once a second: ends what is waited for too long. */
  look(): void {
    if (TIMEOUT_SECONDS[this.#waitsFor] === Infinity) {
      this.#seconds = 0;
      return;
    }
    const waitsFor = this.#waitsFor === "request" && this.#reader.waiting > 0 ? "rest" : this.#waitsFor;
    // A listing of some megabytes, too, is for a client that takes it slowly.
    const acked = waitsFor === "room" ? acknowledgedBy(adapterOf(this.transport.socket)) : undefined;
    const last = this.#lastLook;
    const isSame = waitsFor === last.waitsFor && this.#steps === last.steps && acked === last.acked;
    this.#seconds = isSame ? this.#seconds + 1 : 0;
    this.#lastLook = { waitsFor, steps: this.#steps, acked };
    // The response has left; nobody needs the body that the server would wait for.
    const most = this.#stopping && waitsFor === "rest" ? TIMEOUT_SECONDS.end : TIMEOUT_SECONDS[waitsFor];
    if (this.#seconds < most) return;
    if (waitsFor === "room") this.#closed.abort(timedOut(most * 1000, 0));
    this.close();
  }

  close(): void {
    this.#over();
    this.transport.close();
  }

  /** One request and its answer. False: the connection is over. */
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

  /** The next request, or the status that refuses it; undefined where none comes. */
  async #next(): Promise<Head | number | "foreign" | undefined> {
    this.#step("request");
    const stop = this.#stopping ? setTimeout(() => this.stop(), GRACE) : undefined;
    const bytes = await this.#reader.head();
    clearTimeout(stop);
    if (bytes === undefined) return undefined;
    if (this.#waitsFor === "end") {
      // It came too late. Closed over it, the connection would be reset, and what is on its way lost.
      await this.#reader.drain();
      return undefined;
    }
    this.#step("plan"); // from now on a stop waits for it
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

  /** The last response. What the client sends meanwhile is read: else it would wait with that, and not read either. */
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

  /** The answer to a request; 503, with which the connection ends, where there are too many or no descriptors. */
  #answerTo(request: Head): ResponsePlan | Reply | Promise<ResponsePlan | Reply> {
    const limits = this.#limits;
    if (!limits) return this.#ask(request);
    if (!limits.admits(this)) return this.#unavailable(request, "too many connections");
    const requestHead = this.#ask(request);
    if (requestHead instanceof Promise) {
      return requestHead.then((plan) => this.#affordable(request, plan, limits));
    }
    return this.#affordable(request, requestHead, limits);
  }

  /** `plan`, where there are descriptors for it. All that a file takes is open before its head is sent. */
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
    await yieldToEventLoop(); // a closed connection's descriptor is free in the next turn
    return await this.#ask(request);
  }

  #unavailable(request: Pick<Head, "method">, problem: string): ResponsePlan {
    return { ...planText(request, this.#site.resolved, 503), problem };
  }

  /** True: all of the answer has been handed to the system. */
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

  /** An answer that is waited for no longer than the connection is there; undefined where that is over before. */
  #beforeEnd<T extends ResponsePlan | Reply>(promise: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const abandon = this.#abandon = () => {
        this.#abandon = undefined;
        promise.then(giveUp, () => {/* nobody is left to be told */});
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
    if (!isFileBody(body)) return this.#write(head, body);
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

  async #write(head: string, body: Uint8Array | string = ""): Promise<Outcome> {
    const content = typeof body === "string" ? Buffer.from(body) : body;
    try {
      await this.write(Buffer.concat([bytesOf(head), content.subarray(0, WITH_HEAD)]));
      await this.write(content.subarray(WITH_HEAD));
      return { bytes: content.length, way: "-" };
    } catch (error) {
      const { aborted, reason } = this.#closed.signal; // of its own closing Deno says "operation canceled"
      return { bytes: 0, way: "-", problem: problemOf(aborted ? reason : error) };
    }
  }
}

/** The head of a response, its empty line included. */
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

/** Closes what an answer holds that will not be sent. */
function giveUp(plan: ResponsePlan | Reply): void {
  if (isReply(plan)) giveUpReply(plan, socketClosed());
  else if (isFileBody(plan.body)) fs.closeSync(plan.body.file.fd);
}
