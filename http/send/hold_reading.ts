import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import process from "node:process";
import { isBun, isDeno } from "../../runtime.ts";

/** The members that we use of the handle of a node:net socket in Deno. */
interface Handle {
  readStop(): unknown;
  readStart(): unknown;
}

/** The last holder that stopped each connection's reading. */
const holders = new WeakMap<Socket, symbol>();

/**
 * Stops reading from the client until the returned function is called. Call it right after `response.end()`.
 *
 * A client receives the whole response before the server has ended it, and may close at once. In Deno the read that
 * delivers the request also reads the end of the connection, before the work that `end()` scheduled runs; so a
 * complete response was "aborted" and never emitted 'finish' (measured: 12 to 23 of 40). Both runtimes also give up a
 * response under way if the client has only half-closed. While reading is stopped, a client that left is noticed
 * because sending to it fails.
 *
 * A request with a body is still read, because its client may read nothing before it has sent everything.
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
    // Another response may hold reading by now: end() starts the response to a pipelined request.
    if (!socket.destroyed && holders.get(socket) === holder) (handle as Handle).readStart();
  };
  return () => process.nextTick(start); // after the work that end() scheduled
}

/** Waits for `work` (a read from disk), and does not read from the client meanwhile. */
export async function holdReadingFor<T>(request: IncomingMessage, work: Promise<T>): Promise<T> {
  if (request.httpVersionMajor !== 1) return await work; // HTTP/2 shares its connection
  const release = holdReading(request, request.socket);
  try {
    return await work;
  } finally {
    release();
  }
}
