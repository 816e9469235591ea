import type { Libc } from "../ffi/libc.ts";
import { RecentMap } from "../recent_map.ts";

/** An open file. */
export interface InMemoryFile {
  readonly fd: number;
  /** Undefined where it is not known. */
  readonly ino: bigint | undefined;
}

/** What was found in memory, and when (`performance.now`). */
interface Found {
  readonly position: number;
  readonly end: number;
  readonly at: number;
}

/**
 * By inode, what was found in memory last: a file that is sent again and again is not asked about each time. Where two
 * file systems use one number, somebody waits for the disk at worst.
 */
const recent = new RecentMap<bigint, Found>(1000);

/** Milliseconds for which what was found in memory is taken to be there still. */
export const FRESH = 1000;

/** Bytes that are read in one go: the first and the last tell of all. */
const SMALL = 64 * 1024;

/** Bytes of the smallest page there is. */
const PAGE = 4096;

/** Bytes between two bytes that are asked for where cachestat(2) does not tell. */
const APART = 512 * 1024;

/**
 * Whether a range of a file can be read without a wait for the disk, so far as is known and the system tells. To ask
 * takes 1 to 3 µs, to send 4 MiB by sendfile(2) a hundred times that (measured).
 */
export function isInMemory(
  libc: Libc | undefined,
  file: InMemoryFile,
  position: number,
  end: number,
  now: number = performance.now(),
): boolean {
  const known = file.ino === undefined ? undefined : recent.get(file.ino);
  if (known && known.position <= position && known.end >= end && now - known.at <= FRESH) return true;
  if (!libc || !ask(libc, file.fd, position, end)) return false;
  rememberInMemory(file, position, end, now);
  return true;
}

/** To be called when a range has been read. */
export function rememberInMemory(
  { ino }: InMemoryFile,
  position: number,
  end: number,
  now: number = performance.now(),
): void {
  if (ino === undefined) return;
  recent.set(ino, { position, end, at: now });
}

function ask(libc: Libc, fd: number, position: number, end: number): boolean {
  // The question for a byte that is not in memory makes the kernel read it, and some behind it: the first one comes
  // first, or others would be there before it.
  if (end - position <= SMALL) {
    const first = libc.canReadNow(fd, position);
    if (first === undefined) return libc.isCached(fd, position, end - position) ?? false;
    return first && (end - position <= PAGE || libc.canReadNow(fd, end - 1) === true);
  }
  const cached = libc.isCached(fd, position, end - position);
  if (cached === undefined) {
    for (let at = position; at < end; at += APART) if (!libc.canReadNow(fd, at)) return false;
    return libc.canReadNow(fd, end - 1) === true;
  }
  // What somebody has begun to read counts as cached, and comes from its first byte to its last. tmpfs tells only what
  // is cached, and reads nothing.
  return cached && libc.canReadNow(fd, end - 1) !== false && libc.canReadNow(fd, position) !== false;
}
