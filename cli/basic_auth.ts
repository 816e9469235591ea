import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import { planText, type RequestHead, type ResponsePlan } from "../http/file_response.ts";
import type { ResolvedOptions } from "../http/options.ts";

const CHALLENGE = 'Basic realm="files", charset="UTF-8"';

/** One user's name and password, for all that is served (RFC 7617). */
export class BasicAuth {
  readonly #expected: Buffer;

  /** `credentials`: `user:password`. */
  constructor(credentials: string) {
    this.#expected = digest(Buffer.from(credentials));
  }

  /** The answer to a request without the right name and password; undefined where it has them. */
  refuse(
    requestHead: Pick<RequestHead, "method" | "field">,
    resolved: ResolvedOptions,
  ): ResponsePlan | undefined {
    const [, text] = /^Basic +([A-Za-z\d+/_-]+=*) *$/i.exec(requestHead.field("authorization") ?? "") ?? [];
    // The digests have one length, and the comparison takes one time, whatever has been guessed right.
    const given = digest(Buffer.from(text ?? "", "base64"));
    if (timingSafeEqual(given, this.#expected)) return undefined;
    return planText(requestHead, resolved, 401, { "WWW-Authenticate": CHALLENGE });
  }
}

function digest(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
