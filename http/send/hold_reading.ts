import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import process from "node:process";
import { isBun, isDeno } from "../../runtime.ts";

/** The part in use of the handle that a socket of Deno's has. */
interface Handle {
  readStop(): unknown;
  readStart(): unknown;
}

/** Who has stopped each connection's reading last. */
const holders = new WeakMap<Socket, symbol>();

/**
 * Stops reading from the client until the returned function is called, which is to be right after `response.end()`.
 *
 * A client has all of a response before the server has ended it, and may close at once. In Deno a read that brings a
 * request goes on to read the end of the connection before what `end()` has scheduled runs; so a complete response was
 * "aborted" and never emitted 'finish' (measured: 12 to 23 of 40). Both runtimes also give up a response under way
 * where the client has only ended its own direction. That the client has left is seen by sending to it.
 *
 * A request with a body is read on: its client may take nothing before it has sent all.
 */
export function holdReading(request: IncomingMessage, socket: Socket): () => void {
  const { headers } = request;
  if ("content-length" in headers || "transfer-encoding" in headers) return () => {};
  if (isBun) {
    socket.pause();
    return () => void socket.resume();
  }
  const { _handle: handle } = socket as Socket & { _handle?: Partial<Handle> | null };
  if (!isDeno || !handle?.readStop || !handle.readStart) return () => {};
  const holder = Symbol();
  handle.readStop();
  holders.set(socket, holder);
  const start = () => {
    // Another may hold it by now: the response to a pipelined request, which has its turn within end().
    if (!socket.destroyed && holders.get(socket) === holder) (handle as Handle).readStart();
  };
  return () => process.nextTick(start); // behind what end() has scheduled
}

/** Waits for what the disk has to give, and does not read from the client meanwhile. */
export async function holdReadingFor<T>(request: IncomingMessage, work: Promise<T>): Promise<T> {
  if (request.httpVersionMajor !== 1) return await work; // HTTP/2 shares its connection
  const release = holdReading(request, request.socket);
  try {
    return await work;
  } finally {
    release();
  }
}
