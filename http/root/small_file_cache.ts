import * as fs from "node:fs";
import { isSameFile } from "../../ffi/file_id.ts";
import { libc } from "../../ffi/load.ts";
import { canRead, readFully } from "../../files/read_file.ts";
import { RecentMap } from "../../recent_map.ts";
import { failure, type HttpFailure, type OpenFile, openRegular } from "./open_file.ts";

/** Bytes of the largest file that is kept. */
export const LARGEST_KEPT = 64 * 1024;

/** Bytes of memory for all files that are kept, in each thread. */
const CAPACITY = 16 * 1024 * 1024;

/** Bytes of memory that a file takes beside its content and its path (measured: 600 on Deno, 800 on Bun). */
const OVERHEAD = 1024;

/** Milliseconds for which a file's bytes are used before it is opened and read again. */
const FRESH = 1000;

/**
 * Milliseconds that must have passed between a file's last change and the reading of its bytes. Then any later change
 * is sure to give the file different times: the kernel's clock for them ticks every 1 to 10 ms.
 */
const SETTLED = 1000;

interface Entry {
  /** The file with its bytes (`content`). Its descriptor is closed. */
  readonly file: OpenFile;
  /** The directory below which the file was found; undefined if the path is the caller's own. */
  readonly root: string | undefined;
  /** When it was opened, by `Date.now()`. */
  readonly at: number;
}

/** Entries by path, oldest first. */
const entries = new Map<string, Entry>();
let bytes = 0;

/** When each path was last opened, by `Date.now()`: only a file that is requested again within {@link FRESH} is kept. */
const opened = new RecentMap<string, number>(1000);

/**
 * The file of at most `limit` bytes that `path` leads to, with its bytes, if it was opened less than a second ago, below
 * the same `root`, and stat(2) shows that it is the same file and has not changed since. This saves two system calls, a
 * third of a small response's time (measured).
 *
 * Changes that stat(2) does not show are noticed after up to a second: a write through a shared mapping, a change on a
 * network file system that caches attributes, or a directory above the file that was moved out of the root and replaced
 * by a symlink to it.
 */
export function cachedFile(path: string, limit: number, root?: string): OpenFile | undefined {
  const entry = limit > 0 ? entries.get(path) : undefined;
  if (!entry || entry.root !== root || entry.file.size > limit) return undefined;
  const { file, at } = entry;
  const age = Date.now() - at;
  if (age >= 0 && age < FRESH && isUnchanged(path, file)) return file;
  remove(path, entry);
  return undefined;
}

function isUnchanged(path: string, file: OpenFile): boolean {
  const c = libc();
  if (typeof c === "string") return false;
  const stat = c.statPath(path);
  return stat !== undefined && stat.regular && isSameFile(stat, file) && stat.size === file.size &&
    stat.seconds === file.seconds && stat.nanoseconds === file.nanoseconds && stat.changed === file.changed;
}

/** As {@link openRegular}, for a path that the caller trusts, and from the cache if possible. */
export function openCached(path: string, limit: number): OpenFile | HttpFailure {
  const cached = cachedFile(path, limit);
  if (cached) return cached;
  const found = openRegular(path);
  if (limit === 0 || found.kind === "failure" || !isHot(path)) return found;
  try {
    return keepFile(path, found, limit) ?? found;
  } catch (error) {
    fs.closeSync(found.fd);
    return failure(error);
  }
}

/** Whether `path` was opened less than a second ago. Records that it is opened now. */
export function isHot(path: string): boolean {
  const now = Date.now();
  const age = now - (opened.get(path) ?? 0);
  opened.set(path, now);
  return age >= 0 && age < FRESH;
}

/**
 * Reads a small file that has just been opened as `path`, keeps its bytes and closes it. Returns undefined, and
 * leaves the file open, if it cannot be kept: it has more than `limit` bytes, was changed just now, is not in memory, or finds no room.
 */
export function keepFile(path: string, file: OpenFile, limit: number, root?: string): OpenFile | undefined {
  const { fd, size, seconds, changed } = file;
  const now = Date.now();
  const isSettled = Math.max(seconds + 1, changed) * 1000 + SETTLED < now;
  if (size === 0 || size > limit || !isSettled || typeof libc() === "string") return undefined;
  const before = entries.get(path);
  if (before) remove(path, before);
  if (!makeRoom(costOf(path, size), now) || !canRead(file, 0, size)) return undefined;
  const content = new Uint8Array(size);
  if (readFully(fd, content, 0) < size) return undefined; // the file has become shorter
  const cached: OpenFile = { ...file, fd: -1, content };
  // If the file was changed during the reading, its bytes may not match its times.
  if (!isUnchanged(path, cached)) return undefined;
  fs.closeSync(fd);
  entries.set(path, { file: cached, root, at: now });
  bytes += costOf(path, size);
  return cached;
}

/**
 * Makes room for `cost` bytes by removing what is no longer fresh. False if there is no room: files that are requested
 * in turn and do not fit together would otherwise all be read and removed again unused.
 */
function makeRoom(cost: number, now: number): boolean {
  for (const [oldest, entry] of entries) {
    const age = now - entry.at;
    if (age >= 0 && age < FRESH) break;
    remove(oldest, entry);
  }
  return bytes + cost <= CAPACITY;
}

function costOf(path: string, size: number): number {
  return size + 2 * path.length + OVERHEAD;
}

function remove(path: string, { file }: Entry): void {
  entries.delete(path);
  bytes -= costOf(path, file.size);
}
