import type { Fields } from "../headers.ts";
import type { ResponsePlan } from "../file_response.ts";
import { standIn } from "../stand_in.ts";

/** A response that a server sends without creating a real `Response`. */
export interface KeptResponse {
  readonly status: number;
  readonly fields: Fields;
  readonly body: ResponsePlan["body"];
  readonly rateLimit: number | undefined;
  /** Returns true if the caller now owns a file and must close it; false if another owner has taken it before. */
  take(): boolean;
}

/**
 * A file as a `Response`, for a server that sends the file itself. Most handlers return such a response untouched,
 * and its body and headers would cost more than sending a small file. Everything but the status creates the real
 * object first, on which the runtime's own methods then run.
 */
class LazyResponse {
  readonly #kept: KeptResponse;
  readonly #make: () => Response;
  #real: Response | undefined;
  #isSent = false;

  constructor(kept: KeptResponse, make: () => Response) {
    this.#kept = kept;
    this.#make = make;
  }

  get status(): number {
    return this.#kept.status;
  }

  get ok(): boolean {
    const { status } = this.#kept;
    return status >= 200 && status < 300;
  }

  get real(): Response {
    if (this.#real) return this.#real;
    const real = this.#make();
    void real.headers; // makes Deno drop the native part of a response, which only this object may free
    if (this.#isSent) real.body?.cancel().catch(() => {/* only to mark the body as used */});
    return this.#real = real;
  }

  takeUntouched(): KeptResponse | undefined {
    if (this.#real || this.#isSent || !this.#kept.take()) return undefined;
    this.#isSent = true;
    return this.#kept;
  }
}

let isLazy: boolean | undefined;

/** The Response for `kept`. `make` creates the real object; if its body is a file, the stream takes it when it is read. */
export function lazyResponse(kept: KeptResponse, make: () => Response): Response {
  isLazy ??= prepare();
  return isLazy ? new LazyResponse(kept, make) as unknown as Response : make();
}

/** The real object of a response of {@link lazyResponse}; other values are returned as they are. */
export function realResponse(response: unknown): unknown {
  return response instanceof LazyResponse ? response.real : response;
}

/**
 * The data of a response of {@link lazyResponse} that nobody has accessed. The caller closes its file, and the body of
 * the response counts as used. Undefined for all other responses.
 */
export function takeKept(response: unknown): KeptResponse | undefined {
  return response instanceof LazyResponse ? response.takeUntouched() : undefined;
}

/** Gives our class the members of the runtime's class. False if they then behave differently. */
function prepare(): boolean {
  try {
    forward(LazyResponse.prototype, Response.prototype, new Response());
    return behaves();
  } catch {
    return false;
  }
}

/**
 * As {@link standIn}, and runs each member on the real object. The runtime's methods must not have ours as `this`: Deno
 * 2.9 unregisters a response from a FinalizationRegistry by that object, and would free its native part twice (the
 * process aborts).
 */
function forward(lazy: Lazy, real: Response, sample: Response): void {
  standIn(lazy, real, sample);
  for (const key of Reflect.ownKeys(real)) {
    if (key === "constructor" || Object.hasOwn(lazy, key)) continue;
    const { get, value } = Object.getOwnPropertyDescriptor(real, key)!;
    if (typeof value === "function") {
      Object.defineProperty(lazy, key, {
        value(this: Lazy, ...args: unknown[]) {
          return Reflect.apply(value, this.real, args);
        },
      });
    } else if (get) {
      Object.defineProperty(lazy, key, {
        get(this: Lazy) {
          return Reflect.apply(get, this.real, []);
        },
      });
    }
  }
}

interface Lazy {
  readonly real: Response;
}

function behaves(): boolean {
  const kept = { status: 206, fields: {}, body: undefined, rateLimit: undefined, take: () => true };
  const make = () => new Response(new ReadableStream(), { status: 206, headers: { a: "b" } });
  const lazy = () => new LazyResponse(kept, make) as unknown as Response;
  const sent = lazy();
  takeKept(sent);
  const copies = [lazy(), lazy().clone(), new Response(lazy().body, lazy())];
  return sent.bodyUsed &&
    copies.every((copy) =>
      copy instanceof Response && copy.status === 206 && copy.ok && !copy.bodyUsed &&
      copy.body instanceof ReadableStream && copy.headers.get("A") === "b"
    );
}
