import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import process from "node:process";
import { libc as loadLibc } from "../ffi/load.ts";
import type { Via } from "../transfer/options.ts";
import { isGranted } from "../runtime.ts";
import { sendfile } from "../sendfile.ts";
import { adapterOf, type SendfileSocket } from "../sockets/mod.ts";

/** How the file was sent. */
export interface Outcome {
  readonly via: Via;
  /** Why sendfile(2) was not used. */
  readonly reason?: string;
  /** The connection's congestion control, if it is TCP and the system reports it. */
  readonly congestionControl?: string;
}

/** A test of one kind of socket or server, over loopback. */
export interface Probe {
  /** The kind of socket or server. */
  readonly kind: string;
  /** Sends the sample and compares what the peer receives. Rejects if it differs. */
  run(sample: Sample): Promise<Outcome>;
}

/** A part of an existing file, and its bytes. */
export interface Sample {
  readonly path: string;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Both ends of a connection. */
export interface Connection {
  /** The socket to send on. */
  readonly socket: SendfileSocket;
  /** Ends the sending side. */
  finish(): unknown;
  /** Everything that the peer receives. */
  readonly received: Promise<Uint8Array>;
  /** Closes both ends and the listener. */
  close(): unknown;
}

/** Timeout of a probe in milliseconds. */
const LIMIT = 10_000;

/** Bytes of a sample: more than a socket takes at once, so that the transfer has to wait. */
const SAMPLE = 4 * 1024 * 1024;

/**
 * A probe that sends the sample on a connection that `open` creates. `length`: the number of bytes that will be sent.
 */
export function socketProbe(kind: string, open: (length: number) => Promise<Connection>): Probe {
  return {
    kind,
    async run({ path, offset, bytes }) {
      const connection = await open(bytes.length);
      connection.received.catch(() => {}); // nobody awaits it if the transfer fails
      try {
        let outcome: Outcome = { via: "copy" };
        await sendfile(connection.socket, path, {
          offset,
          count: bytes.length,
          timeout: LIMIT,
          onStart: (start) => outcome = start,
        });
        const congestionControl = congestionControlOf(connection.socket);
        connection.finish();
        checkReceived(await connection.received, bytes);
        return { ...outcome, congestionControl };
      } finally {
        connection.close();
      }
    },
  };
}

function congestionControlOf(socket: SendfileSocket): string | undefined {
  const libc = loadLibc();
  if (typeof libc === "string") return undefined;
  const descriptor = adapterOf(socket).open(libc);
  if (typeof descriptor === "string") return undefined;
  const name = libc.congestionControl(descriptor.fd);
  if (descriptor.owned) libc.close(descriptor.fd);
  return name;
}

/** Throws if the peer received other bytes than were sent. */
export function checkReceived(received: Uint8Array, sent: Uint8Array): void {
  if (received.length !== sent.length) {
    throw new Error(`${received.length} bytes arrived in place of ${sent.length}`);
  }
  if (Buffer.compare(received, sent) !== 0) throw new Error("the bytes that arrived differ from those sent");
}

/** As `work`, but rejects after {@link LIMIT}. */
export async function within<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${LIMIT / 1000} s`)), LIMIT);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A probe could not begin. */
export class NotTriedError extends Error {}

/** A part of the runtime's own executable, a large file that always exists. Throws {@link NotTriedError}. */
export function takeSample(): Sample {
  const path = process.execPath;
  if (!isGranted({ name: "read", path })) throw new NotTriedError(`it needs --allow-read=${path}`);
  if (!isGranted({ name: "net", host: "127.0.0.1" })) {
    throw new NotTriedError("it needs --allow-net=127.0.0.1");
  }
  const bytes = new Uint8Array(SAMPLE);
  const offset = 1;
  const fd = fs.openSync(path, "r");
  try {
    return { path, offset, bytes: bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, offset)) };
  } finally {
    fs.closeSync(fd);
  }
}

/** Concatenates the chunks of a stream. */
export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    length += chunk.length;
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
