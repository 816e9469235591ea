import { codeOf, NOT_REGULAR, type ReasonCode } from "./reasons.ts";

/**
 * sendfile(2) cannot be used and the fallback was not wanted (`fallback: false`), or there is nothing to fall back
 * on. `sent` bytes of the file had left before that.
 */
export class SendfileNotAvailableError extends Error {
  /** The class's name. */
  override readonly name: string = "SendfileNotAvailableError";
  /** Why, as one clause: "TLS", "no permission: run with --allow-ffi", … */
  readonly reason: string;
  /** The reason in a word, which stays the same where its text is put better. */
  readonly code: ReasonCode;
  /** Bytes of the file that had been sent. */
  readonly sent: number;

  /**
   * An error with the reason as one clause. `message`: what to say in place of the reason alone. `code`: of a reason that
   * is not this package's.
   */
  constructor(
    reason: string,
    sent = 0,
    options: { cause?: unknown; message?: string; code?: ReasonCode } = {},
  ) {
    super(options.message ?? `sendfile is not available: ${reason}`, options);
    this.reason = reason;
    this.code = options.code ?? codeOf(reason);
    this.sent = sent;
  }
}

/** Anything the system answered that ends a transfer. */
export class SendfileError extends Error {
  /** The class's name. */
  override readonly name: string = "SendfileError";
  /** The system's name for the error: "EIO", "EBADF", "ETIMEDOUT", …; "UNKNOWN" where a runtime keeps it to itself. */
  readonly code: string;
  /** Its number on this system; 0 where no system call reported it. */
  readonly errno: number;
  /** The call that failed: "sendfile", "send", "dup", … */
  readonly syscall: string;
  /** Bytes of the file that had been sent. */
  readonly sent: number;

  /** An error with what the system said. */
  constructor(
    message: string,
    { code, errno = 0, syscall, sent = 0, cause }: {
      code: string;
      errno?: number;
      syscall: string;
      sent?: number;
      cause?: unknown;
    },
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
    this.sent = sent;
  }
}

/**
 * The code of the {@link SendfileError} for a file that has become shorter than what was sent of it. No system has one;
 * this is what NFS says of a file that is not what it was.
 */
export const TRUNCATED = "ESTALE";

/** The connection is gone: reset or closed by the peer (EPIPE, ECONNRESET), or closed on this side (ENOTCONN). */
export class ConnectionClosedError extends SendfileError {
  /** The class's name. */
  override readonly name = "ConnectionClosedError";
}

/** No byte could be sent, nor was one acknowledged, for as long as `timeout` allows. `code` is "ETIMEDOUT". */
export class SendfileTimeoutError extends SendfileError {
  /** The class's name. */
  override readonly name = "SendfileTimeoutError";
}

/** The socket was closed on this side, before or during a transfer. */
export function socketClosed(cause?: unknown): ConnectionClosedError {
  return new ConnectionClosedError("the socket is closed", { code: "ENOTCONN", syscall: "write", cause });
}

/** What was to be sent is no regular file. `directory`: its path, or which argument it is, where it is one. */
export function notRegular(directory?: string): SendfileNotAvailableError {
  const message = directory === undefined ? undefined : `${directory} is a directory`;
  return new SendfileNotAvailableError(NOT_REGULAR, 0, { message });
}
