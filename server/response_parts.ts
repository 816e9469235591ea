import { isDeno } from "../runtime.ts";

/** The parts of a Response that a server sends. */
export interface ResponseParts {
  readonly status: number;
  /** In the order in which they were given; a name may occur several times. */
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array | ReadableStream<Uint8Array> | string | null;
}

/**
 * The internals of Deno's Response that we use, under symbols that are found by their descriptions. Not a public API.
 */
interface Inner {
  readonly type: string;
  readonly status: number;
  readonly headerList: [string, string][];
  readonly body: InnerBody | null;
}

interface InnerBody {
  readonly streamOrStatic: ReadableStream<Uint8Array> | { body: Uint8Array | string; consumed: boolean };
  consumed(): boolean;
}

type Inside = Record<symbol, unknown>;

interface Symbols {
  readonly response: symbol;
  readonly status: symbol;
  readonly body: symbol;
  readonly kind: symbol;
  readonly type: symbol;
  readonly consumed: symbol;
}

/** Values of `kind` for a Response whose Headers Deno has not created yet. */
const NO_FIELDS = 0;
const TEXT = 1;
const TYPED = 2;

const TEXT_FIELDS: ResponseParts["fields"] = [["content-type", "text/plain;charset=UTF-8"]];
const NONE: ResponseParts["fields"] = [];

/**
 * The parts of a handler's response, whose body then counts as used. Throws `TypeError`, with the texts of Deno.serve,
 * if it is not a Response, or its body was already used.
 *
 * Reads the internals of Deno's Response if they are as expected: they distinguish a text from a stream, which `body`
 * does not, and reading `body` and `headers` creates objects that cost more than the rest of a small response.
 */
export function partsOf(response: unknown): ResponseParts {
  if (!(response instanceof Response)) {
    throw new TypeError(
      "Return value from serve handler must be a response or a promise resolving to a response",
    );
  }
  const parts = (inside && insideParts(response, inside)) ?? publicParts(response);
  if (parts.status === 101) throw new TypeError("Upgrade response was not made by an upgrade of the request");
  return parts;
}

function insideParts(response: Response, symbols: Symbols): ResponseParts | undefined {
  const fields = response as unknown as Inside;
  const inner = fields[symbols.response] as Inner | undefined;
  if (inner === undefined) {
    throw new TypeError(
      "Return value from serve handler must be a Response constructed via the Response constructor in this realm",
    );
  }
  if (inner.type === "error") throw isError();
  if (fields[symbols.consumed] === true || inner.body?.consumed()) throw isUsed();
  const status = fields[symbols.status] as number;
  const body = fields[symbols.body] as string | Uint8Array | null;
  if (status !== 0 && body !== null) {
    fields[symbols.consumed] = true;
    switch (fields[symbols.kind]) {
      case TEXT:
        return { status, fields: TEXT_FIELDS, body };
      case TYPED:
        return { status, fields: [["content-type", fields[symbols.type] as string]], body };
      case NO_FIELDS:
        return { status, fields: NONE, body };
    }
    return undefined;
  }
  if (inner.body === null) return { status: inner.status, fields: inner.headerList, body: null };
  const { streamOrStatic } = inner.body;
  if (streamOrStatic instanceof ReadableStream) {
    if (streamOrStatic.locked) throw new TypeError("ReadableStream is locked");
    return { status: inner.status, fields: inner.headerList, body: streamOrStatic };
  }
  streamOrStatic.consumed = true;
  return { status: inner.status, fields: inner.headerList, body: streamOrStatic.body };
}

function publicParts(response: Response): ResponseParts {
  if (response.type === "error") throw isError();
  if (response.bodyUsed || response.body?.locked) throw isUsed();
  return { status: response.status, fields: [...response.headers], body: response.body };
}

function isError(): TypeError {
  return new TypeError(
    "Return value from serve handler must not be an error response (like Response.error())",
  );
}

function isUsed(): TypeError {
  return new TypeError(
    "The body of the Response returned from the serve handler has already been consumed",
  );
}

/** The symbols, if a Response of each kind reads back through them correctly. */
function findSymbols(): Symbols | undefined {
  if (!isDeno) return undefined;
  try {
    const own = Object.getOwnPropertySymbols(new Response("x"));
    const named = (description: string) => {
      const found = own.filter((symbol) => symbol.description === description);
      if (found.length !== 1) throw new Error(`no Symbol(${description})`);
      return found[0];
    };
    const symbols: Symbols = {
      response: named("response"),
      status: named("serve fast status"),
      body: named("serve fast body"),
      kind: named("serve fast header kind"),
      type: named("serve fast content type"),
      consumed: named("serve fast consumed"),
    };
    return SAMPLES.every((sample) => isUnderstood(sample, symbols)) ? symbols : undefined;
  } catch {
    return undefined;
  }
}

const SAMPLES: readonly (() => Response)[] = [
  () => new Response("x"),
  () => new Response("x", { headers: { "content-type": "text/html" } }),
  () => new Response("x", { status: 201, headers: [["a", "b"], ["Set-Cookie", "c"], ["set-cookie", "d"]] }),
  () => new Response(new Uint8Array([120])),
  () => new Response(new Uint8Array([120]), { headers: { a: "b" } }),
  () => Response.json("x"),
  () => Response.json("x", { status: 404, headers: { a: "b" } }),
  () => new Response(null, { status: 204 }),
  () => {
    const response = new Response("x");
    response.headers.set("a", "b");
    return response;
  },
];

function isUnderstood(sample: () => Response, symbols: Symbols): boolean {
  const parts = insideParts(sample(), symbols);
  const expected = sample();
  const { body } = parts ?? { body: undefined };
  const isBody = expected.body === null
    ? body === null
    : typeof body === "string"
    ? body === "x" || body === '"x"'
    : body instanceof Uint8Array && body[0] === 120 && body.length === 1;
  return isBody && parts?.status === expected.status &&
    JSON.stringify([...new Headers(parts.fields as [string, string][])]) ===
      JSON.stringify([...expected.headers]);
}

const inside = findSymbols();

/** Whether the internals of Response are as expected. */
export const readsInside: boolean = inside !== undefined;
