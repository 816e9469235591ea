import { isSameFile } from "../../ffi/file_id.ts";
import type { OpenFile } from "./open_file.ts";
import { RecentMap } from "../../recent_map.ts";

/** Milliseconds for which a file that was found below a root counts as being there. */
const FRESH = 1000;

/** A file that was found below a root, and when. */
interface Sighting extends Pick<OpenFile, "dev" | "ino" | "changed"> {
  readonly root: string;
  readonly real: string;
  /** By `Date.now()`. */
  readonly at: number;
}

/** The last entry for each path that a file was opened by. One is enough, because few paths are below two roots. */
const sightings = new RecentMap<string, Sighting>(1000);

/**
 * The real path of `file`, opened as `path`, if the same file was found below `root` less than a second ago. Asking
 * the system for it costs as much as opening the file, a sixth of a small response (measured).
 *
 * A file that was moved or linked since then has another change time (ctime). So the cache is wrong in one case only:
 * for a second after a directory above the file was moved out of the root and replaced by a symlink.
 */
export function lastSeen(root: string, path: string, file: OpenFile): string | undefined {
  const sighting = sightings.get(path);
  if (sighting?.root !== root) return undefined;
  const age = Date.now() - sighting.at;
  const fresh = age >= 0 && age < FRESH && isSame(file, sighting);
  return fresh ? sighting.real : undefined;
}

function isSame(one: OpenFile, other: Sighting): boolean {
  return isSameFile(one, other) && one.changed === other.changed;
}

/** Records that `file`, opened as `path`, has the real path `real` below `root`. */
export function saw(root: string, path: string, { dev, ino, changed }: OpenFile, real: string): void {
  sightings.set(path, { root, dev, ino, changed, real, at: Date.now() });
}
