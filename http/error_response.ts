import type { HttpFailure } from "./root/open_file.ts";
import { REASONS } from "./file_response.ts";

/**
 * The reason why a request was not answered with a file, in the form that connect-style error handlers expect: they
 * send `status` in place of 500, and may show `message` to the client if `expose` is set.
 */
export class HttpError extends Error {
  /** `NotFoundError`, `BadRequestError`, `ForbiddenError`, …: the status's name. */
  override readonly name: string;
  /** The status: 400, 403, 404, 500 or 503. */
  readonly status: number;
  /** The same as `status`, for older handlers. */
  readonly statusCode: number;
  /** Whether the client may see the message: true for 4xx. */
  readonly expose: boolean;
  /** The system's error code, such as `ENOENT`; undefined if there was no system error. */
  readonly code: string | undefined;

  /** Creates the error for an HTTP failure. */
  constructor({ status, code }: Pick<HttpFailure, "status" | "code">) {
    const reason = REASONS[status];
    super(code === undefined ? reason : `${reason} (${code})`);
    this.name = `${reason.replaceAll(" ", "").replace(/Error$/, "")}Error`;
    this.status = this.statusCode = status;
    this.expose = status < 500;
    this.code = code;
  }
}
