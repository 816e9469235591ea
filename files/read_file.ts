import * as fs from "node:fs";
import { libc } from "../ffi/load.ts";
import { type InMemoryFile, isInMemory, rememberInMemory } from "./in_memory.ts";

/**
 * Reads from a node:fs descriptor at a position. Reads at once if the bytes are in memory, and otherwise in another
 * thread, which takes 20 to 80 µs more (measured). The descriptor must stay open until the read is over.
 */
export function readAt(file: InMemoryFile, into: Uint8Array, position: number): number | Promise<number> {
  const end = position + into.length;
  if (into.length === 0) return 0;
  if (canRead(file, position, end)) return readNow(file.fd, into, position);
  return readAway(file.fd, into, position).then((bytes) => {
    if (bytes === into.length) rememberInMemory(file, position, end);
    return bytes;
  });
}

/** Whether a range can be read without waiting for the disk, as far as we know. */
export function canRead(file: InMemoryFile, position: number, end: number): boolean {
  const c = libc();
  return isInMemory(typeof c === "string" ? undefined : c, file, position, end);
}

/** Reads in this thread. */
export function readNow(fd: number, into: Uint8Array, position: number): number {
  for (;;) {
    try {
      return fs.readSync(fd, into, 0, into.length, position);
    } catch (error) {
      if (!isInterrupted(error)) throw error;
    }
  }
}

/**
 * Reads until `into` is full or the file ends, in this thread: a read may be short in the middle of a file (a signal, a
 * network file system). Returns the number of bytes.
 */
export function readFully(fd: number, into: Uint8Array, position: number): number {
  let at = 0;
  while (at < into.length) {
    const bytes = readNow(fd, into.subarray(at), position + at);
    if (bytes === 0) break;
    at += bytes;
  }
  return at;
}

/** Whether a signal interrupted a read before its first byte (EINTR), which happens on NFS and FUSE. */
function isInterrupted(error: unknown): boolean {
  return (error as { code?: string }).code === "EINTR";
}

/** Reads in a thread of the runtime. */
export function readAway(fd: number, into: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, into, 0, into.length, position, (error, bytes) => {
      if (error && isInterrupted(error)) readAway(fd, into, position).then(resolve, reject);
      else if (error) reject(error);
      else resolve(bytes);
    });
  });
}
