import type { OpenFile } from "./root/open_file.ts";

/** What `Deno.stat` gives for a file, as far as it is used. */
export interface StdFileInfo {
  /** A directory is 404. */
  readonly isDirectory: boolean;
  /** Bytes. */
  readonly size: number;
  /** The last modification; null: unknown, so that there is no Last-Modified. */
  readonly mtime: Date | null;
  /** The last change of anything about it. */
  readonly ctime?: Date | null;
  /** The device's number. */
  readonly dev?: number;
  /** The file's number on it. */
  readonly ino?: number | null;
}

/**
 * `file` with the time of modification that a caller gives for it. The caller has looked before the file was opened: if
 * it is another one by now, or of another size, the caller's time is that of other bytes and does not count.
 */
export function applyInfo(told: StdFileInfo, file: OpenFile): OpenFile {
  if (told.size !== file.size) return file;
  if (typeof told.ino === "number" && told.ino !== Number(file.ino)) return file;
  if (typeof told.dev === "number" && told.dev !== Number(file.dev)) return file;
  const changed = told.ctime?.getTime();
  // Deno tells whole seconds.
  if (changed !== undefined && Math.abs(changed - file.changed * 1000) >= 1000) return file;
  const modified = told.mtime?.getTime();
  if (modified === undefined) return { ...file, seconds: 0, nanoseconds: 0 };
  // Date has whole milliseconds: where they are the file's own, its nanoseconds say more.
  if (Math.abs(modified - file.seconds * 1000 - file.nanoseconds / 1e6) < 1) return file;
  const seconds = Math.floor(modified / 1000);
  return { ...file, seconds, nanoseconds: (modified - seconds * 1000) * 1e6 };
}
