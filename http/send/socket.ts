import * as fs from "node:fs";
import { ConnectionClosedError, SendfileTimeoutError } from "../../errors.ts";
import { sendParts } from "../../sendfile.ts";
import { SeenFile } from "../../files/source.ts";
import type { SendfileSocket } from "../../sockets/mod.ts";
import { isLost, type Observer } from "../../transfer/transfer.ts";
import { TruncatedError } from "./body.ts";
import type { FileBody } from "../root/open_file.ts";
import { countOf } from "../rfc9110/multipart.ts";
import { optionsOf } from "./parts.ts";

/** The result of sending a response. */
export interface Sent {
  /** The status that was sent. */
  readonly status: number;
  /** Bytes of the body that were passed to the system, without the headers of multipart parts. */
  readonly bytes: number;
  /**
   * How the file was sent: `sendfile`, `copy (reason)`, `cache` (a small file whose bytes were read for an earlier
   * request), or `-` if no file was sent.
   */
  readonly way: string;
  /** Why the response was cut off, or a detail that only the log may contain. */
  readonly problem?: string;
}

/** The value of `way` for a small file whose bytes were read for an earlier request. */
export const FROM_CACHE = "cache";

/**
 * The result of sending a body. If it has a problem, the connection must be closed: the client did not receive the
 * promised length.
 */
export type Outcome = Omit<Sent, "status">;

/**
 * Sends `head` and the body on the connection's own socket. Closes the file. Neither throws nor rejects. `held`: a
 * signal that ends the transfer, and that the owner aborts before it closes the socket's descriptor.
 */
export function transmit(
  socket: SendfileSocket,
  head: string,
  body: FileBody,
  rateLimit: number | undefined,
  held?: AbortSignal,
): Outcome | Promise<Outcome> {
  let bytes = 0;
  let way = "-";
  const observer: Observer = {
    started: ({ via, reason }) => way = reason === undefined ? via : `${via} (${reason})`,
    moved: (count) => bytes += count,
    holdsSocket: held !== undefined,
  };
  const ended = (sent: number): Outcome => {
    fs.closeSync(body.file.fd);
    return sent < countOf(body) ? { bytes, way, problem: new TruncatedError().message } : { bytes, way };
  };
  const failed = (error: unknown): Outcome => {
    fs.closeSync(body.file.fd);
    return { bytes, way, problem: problemOf(error) };
  };
  let sent: number | Promise<number>;
  try {
    sent = sendParts(
      socket,
      new SeenFile(body.file.fd, body.file),
      optionsOf(body, rateLimit, head, held),
      observer,
    );
  } catch (error) {
    return failed(error);
  }
  return typeof sent === "number" ? ended(sent) : sent.then(ended, failed);
}

/** The client has left. */
export class LeftError extends Error {}

/** The text of an error for a log. */
export function problemOf(error: unknown): string {
  const { code, name, message } = error as Error & { code?: string };
  if (error instanceof SendfileTimeoutError) return `the client stalled: ${message}`;
  const left = error instanceof ConnectionClosedError || error instanceof LeftError || isLost(code ?? name);
  return left ? "the client left" : message;
}
