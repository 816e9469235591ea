import { KEEP_FILE, type KeepFile } from "../http/keep_file.ts";
import { standIn } from "../http/stand_in.ts";
import type { Head } from "./request_head.ts";

/** The data from which a request is made on demand. */
export interface RequestSource {
  readonly head: Head;
  readonly url: string;
  /** Aborted when the client has left. Created on first use. */
  readonly signal: AbortSignal;
  /** See {@link KEEP_FILE}. */
  readonly keepFile: KeepFile;
}

type Inside = Record<symbol, unknown>;

/**
 * The header fields of a request, as `Headers`. Creating a real `Headers` costs about as much as parsing the request,
 * and most handlers read one or two fields. `get` and `has` look a name up in the parsed head. Everything else
 * creates a real object first, which the prototype's own methods find under the symbols that they look for.
 */
class LazyHeaders {
  readonly #fields: ReadonlyMap<string, string>;
  #real: Headers | undefined;

  constructor(fields: ReadonlyMap<string, string>) {
    this.#fields = fields;
  }

  get(...[name]: [string]): string | null {
    const value = this.#fields.get(name);
    if (value !== undefined) return value;
    if (typeof name !== "string" || !NAME.test(name)) {
      return Reflect.apply(this.real.get, this.real, arguments);
    }
    return this.#fields.get(name.toLowerCase()) ?? null;
  }

  has(...[name]: [string]): boolean {
    if (typeof name !== "string" || !NAME.test(name)) {
      return Reflect.apply(this.real.has, this.real, arguments);
    }
    return this.#fields.has(name) || this.#fields.has(name.toLowerCase());
  }

  get real(): Headers {
    if (this.#real) return this.#real;
    const real = new Headers();
    for (const [name, value] of this.#fields) real.append(name, value);
    // A handler cannot change the headers of a request, as in Deno.serve.
    if (guard) (real as unknown as Inside)[guard] = "immutable";
    return this.#real = real;
  }
}

/** A field-name. For anything else the real object throws the error. */
const NAME = /^[!#$%&'*+.^_`|~\w-]+$/;

/**
 * A request as `Request`, which creates the real object as late as {@link LazyHeaders} does. Only for requests
 * without a body.
 */
class LazyRequest {
  readonly #source: RequestSource;
  #headers: LazyHeaders | undefined;
  #real: Request | undefined;

  constructor(source: RequestSource) {
    this.#source = source;
  }

  get method(): string {
    return this.#source.head.method;
  }

  get url(): string {
    return this.#source.url;
  }

  get headers(): Headers {
    return (this.#headers ??= new LazyHeaders(this.#source.head.fields)) as unknown as Headers;
  }

  get signal(): AbortSignal {
    return this.#source.signal;
  }

  get body(): null {
    return null;
  }

  get [KEEP_FILE](): KeepFile {
    return this.#source.keepFile;
  }

  get real(): Request {
    return this.#real ??= realRequest(this.#source, (this.headers as unknown as LazyHeaders).real);
  }
}

/** Creates a real `Request` at once. */
function realRequest({ head: { method }, url, signal }: RequestSource, headers: Headers): Request {
  const init = { method, headers, signal };
  let real: Request;
  try {
    real = new Request(url, init);
  } catch (error) {
    // The Host is not valid in a URL. The rest of the request is still good.
    if (!(error instanceof TypeError)) throw error;
    real = new Request("http://localhost/", init);
  }
  if (inner) showUrl((real as unknown as Inside)[inner], url);
  return real;
}

/** Makes copies of a request keep the URL as the client sent it, as in Deno.serve: `new Request` normalizes it. */
function showUrl(inner: unknown, url: string): void {
  const { urlListProcessed } = inner as { urlListProcessed?: unknown };
  if (Array.isArray(urlListProcessed)) urlListProcessed[0] = url;
}

let inner: symbol | undefined;
let guard: symbol | undefined;
let isLazy: boolean | undefined;

/** Whether a lazy request behaves like a real one in this runtime. */
export function canBeLazy(): boolean {
  return isLazy ??= prepare();
}

/** Creates the request for a handler. */
export function requestOf(source: RequestSource): Request {
  if (canBeLazy()) return new LazyRequest(source) as unknown as Request;
  return realRequest(source, new LazyHeaders(source.head.fields).real);
}

/**
 * Gives our classes the prototypes of the runtime's classes. False if the runtime's methods then behave differently.
 */
function prepare(): boolean {
  try {
    const headers = new Headers();
    guard = Object.getOwnPropertySymbols(headers).find(({ description }) => description === "guard");
    standIn(LazyHeaders.prototype, Headers.prototype, headers);
    const request = new Request("http://localhost/");
    inner = Object.getOwnPropertySymbols(request).find(({ description }) => description === "request");
    standIn(LazyRequest.prototype, Request.prototype, request);
    return behaves();
  } catch {
    return false;
  }
}

/** Tests the lazy objects. If the runtime reads private fields, which a prototype cannot provide, this throws. */
function behaves(): boolean {
  const fields = new Map([["a", "b"], ["cookie", "c"]]);
  const head = { method: "HEAD", fields } as unknown as Head;
  const { signal } = new AbortController();
  const request = new LazyRequest({
    head,
    url: "http://localhost/x?y",
    signal,
    keepFile() {},
  }) as unknown as Request;
  const copies = [
    request,
    request.clone(),
    new Request(request),
    new Request(request, { redirect: "manual" }),
  ];
  return copies.every((copy) =>
    copy instanceof Request && copy.headers instanceof Headers && copy.method === "HEAD" &&
    copy.url === "http://localhost/x?y" && !copy.bodyUsed && copy.body === null &&
    new Headers(copy.headers).get("a") === "b" && copy.headers.get("A") === "b" &&
    JSON.stringify([...copy.headers]) === '[["a","b"],["cookie","c"]]' && copy.signal instanceof AbortSignal
  );
}
