import type { OpenFile } from "./root/open_file.ts";

/** The fields that we use of what `Deno.stat` returns. */
export interface StdFileInfo {
  /** Whether it is a directory, which gets 404. */
  readonly isDirectory: boolean;
  /** Bytes. */
  readonly size: number;
  /** The last modification; null: unknown, so that there is no Last-Modified. */
  readonly mtime: Date | null;
  /** The last change of the inode (ctime). */
  readonly ctime?: Date | null;
  /** The device's number. */
  readonly dev?: number;
  /** The inode number. */
  readonly ino?: number | null;
}

/**
 * Returns `file` with the modification time that the caller gives. The caller's stat was made before the file was
 * opened: if the file was replaced since then or has another size, the caller's time belongs to other bytes and is
 * ignored.
 */
export function applyInfo(told: StdFileInfo, file: OpenFile): OpenFile {
  if (told.size !== file.size) return file;
  if (typeof told.ino === "number" && told.ino !== Number(file.ino)) return file;
  if (typeof told.dev === "number" && told.dev !== Number(file.dev)) return file;
  const changed = told.ctime?.getTime();
  // Deno reports whole seconds.
  if (changed !== undefined && Math.abs(changed - file.changed * 1000) >= 1000) return file;
  const modified = told.mtime?.getTime();
  if (modified === undefined) return { ...file, seconds: 0, nanoseconds: 0 };
  // A Date has whole milliseconds. If they match the file's own time, the file's nanoseconds are more exact.
  if (Math.abs(modified - file.seconds * 1000 - file.nanoseconds / 1e6) < 1) return file;
  const seconds = Math.floor(modified / 1000);
  return { ...file, seconds, nanoseconds: (modified - seconds * 1000) * 1e6 };
}
