import * as fs from "node:fs";
import { ConnectionClosedError, SendfileTimeoutError } from "../../errors.ts";
import { sendParts } from "../../sendfile.ts";
import { SeenFile } from "../../files/source.ts";
import type { SendfileSocket } from "../../sockets/mod.ts";
import { isLost, type Observer } from "../../transfer/transfer.ts";
import { TruncatedError } from "./body.ts";
import type { FileBody } from "../root/open_file.ts";
import { countOf, optionsOf } from "./parts.ts";

/** What came of a response. */
export interface Sent {
  /** The status that was sent. */
  readonly status: number;
  /** Bytes of the body that were handed to the system, without what frames its parts. */
  readonly bytes: number;
  /** The way the file took: `sendfile`, `copy (reason)`, or `-` where none was sent. */
  readonly way: string;
  /** Why the response was cut off, or what is not for the client to know. */
  readonly problem?: string;
}

/** What came of a body. With a problem the connection is to be ended: the client has not got what it was promised. */
export type Outcome = Omit<Sent, "status">;

/**
 * Sends `head` and the body on the connection's own socket. Closes the file. Neither throws nor rejects. `held`: ends
 * it, and is aborted before the socket's descriptor is closed.
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

/** An error as a log says it. */
export function problemOf(error: unknown): string {
  const { code, name, message } = error as Error & { code?: string };
  if (error instanceof SendfileTimeoutError) return `the client stalled: ${message}`;
  const left = error instanceof ConnectionClosedError || error instanceof LeftError || isLost(code ?? name);
  return left ? "the client left" : message;
}
