import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import { planText, type RequestHead, type ResponsePlan } from "../http/file_response.ts";
import type { ResolvedOptions } from "../http/options.ts";

const CHALLENGE = 'Basic realm="files", charset="UTF-8"';

/** Basic authentication with one name and password for everything (RFC 7617). */
export class BasicAuth {
  readonly #expected: Buffer;

  /** `credentials`: `user:password`. */
  constructor(credentials: string) {
    this.#expected = digest(Buffer.from(credentials));
  }

  /** The response to a request without the right name and password; undefined if they are right. */
  refuse(
    requestHead: Pick<RequestHead, "method" | "field">,
    resolved: ResolvedOptions,
  ): ResponsePlan | undefined {
    const [, text] = /^Basic +([A-Za-z\d+/_-]+=*) *$/i.exec(requestHead.field("authorization") ?? "") ?? [];
    // Digests have equal lengths, so the comparison takes the same time for every guess.
    const given = digest(Buffer.from(text ?? "", "base64"));
    if (timingSafeEqual(given, this.#expected)) return undefined;
    return planText(requestHead, resolved, 401, { "WWW-Authenticate": CHALLENGE });
  }
}

function digest(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
