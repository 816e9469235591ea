import type { HttpFailure } from "./root/open_file.ts";
import { REASONS } from "./file_response.ts";

/**
 * Why a request is not answered with a file, as connect-style error handlers take it: they send `status` in place of
 * 500, and may show `message` to the client where `expose` is set.
 */
export class HttpError extends Error {
  /** `NotFoundError`, `BadRequestError`, `ForbiddenError`, …: the status's name. */
  override readonly name: string;
  /** The status: 400, 403, 404, 500 or 503. */
  readonly status: number;
  /** The same: older handlers look for this one. */
  readonly statusCode: number;
  /** Whether the client may see the message: it may for 4xx. */
  readonly expose: boolean;
  /** What the system said, `ENOENT` for one; undefined where it was not asked. */
  readonly code: string | undefined;

  /** An error for what cannot be sent. */
  constructor({ status, code }: Pick<HttpFailure, "status" | "code">) {
    const reason = REASONS[status];
    super(code === undefined ? reason : `${reason} (${code})`);
    this.name = `${reason.replaceAll(" ", "").replace(/Error$/, "")}Error`;
    this.status = this.statusCode = status;
    this.expose = status < 500;
    this.code = code;
  }
}
