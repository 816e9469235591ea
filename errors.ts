import { codeOf, NOT_REGULAR, type ReasonCode } from "./reasons.ts";

/**
 * sendfile(2) cannot be used, and the caller turned the fallback off (`fallback: false`) or no fallback exists.
 * `sent` bytes of the file had been sent before.
 */
export class SendfileNotAvailableError extends Error {
  /** The class's name. */
  override readonly name: string = "SendfileNotAvailableError";
  /** The reason, as one clause: "TLS", "no permission: run with --allow-ffi", … */
  readonly reason: string;
  /** A stable code for the reason. It does not change when the text is improved. */
  readonly code: ReasonCode;
  /** Bytes of the file that had been sent. */
  readonly sent: number;

  /**
   * Creates the error. `reason` is one clause. `options.message` replaces the message that is made from the reason.
   * `options.code` is for reasons that are not this package's.
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

/** An error of the operating system that ended a transfer. */
export class SendfileError extends Error {
  /** The class's name. */
  override readonly name: string = "SendfileError";
  /** The system's name for the error: "EIO", "EBADF", "ETIMEDOUT", …; "UNKNOWN" if the runtime does not reveal it. */
  readonly code: string;
  /** The error's number on this system; 0 if no system call reported it. */
  readonly errno: number;
  /** The call that failed: "sendfile", "send", "dup", … */
  readonly syscall: string;
  /** Bytes of the file that had been sent. */
  readonly sent: number;

  /** Creates the error from the details that the system reported. */
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
 * The code of the {@link SendfileError} for a file that was truncated below what has been sent of it. No system has an
 * error for this, so we use ESTALE, which NFS reports for a file that was replaced.
 */
export const TRUNCATED = "ESTALE";

/** The connection is gone: reset or closed by the peer (EPIPE, ECONNRESET), or closed on this side (ENOTCONN). */
export class ConnectionClosedError extends SendfileError {
  /** The class's name. */
  override readonly name = "ConnectionClosedError";
}

/** For `timeout` milliseconds no byte could be sent and the peer acknowledged none. `code` is "ETIMEDOUT". */
export class SendfileTimeoutError extends SendfileError {
  /** The class's name. */
  override readonly name = "SendfileTimeoutError";
}

/** The socket was closed on this side, before or during a transfer. */
export function socketClosed(cause?: unknown): ConnectionClosedError {
  return new ConnectionClosedError("the socket is closed", { code: "ENOTCONN", syscall: "write", cause });
}

/**
 * The error for a file that is not a regular file. `directory`: if the file is a directory, its path or the name of
 * the argument.
 */
export function notRegular(directory?: string): SendfileNotAvailableError {
  const message = directory === undefined ? undefined : `${directory} is a directory`;
  return new SendfileNotAvailableError(NOT_REGULAR, 0, { message });
}
