import { isSameFile } from "../../ffi/file_id.ts";
import type { OpenFile } from "./open_file.ts";
import { RecentMap } from "../../recent_map.ts";

/** Milliseconds for which a file that was seen below a root counts as being there. */
const FRESH = 1000;

/** A file below a root, when it was seen there. */
interface Sighting extends Pick<OpenFile, "dev" | "ino" | "changed"> {
  readonly root: string;
  readonly real: string;
  /** By `Date.now()`. */
  readonly at: number;
}

/** The last one of each path that a file was opened by: few paths are below two roots. */
const sightings = new RecentMap<string, Sighting>(1000);

/**
 * The real path of `file`, opened as `path`, where the very same file was seen below `root` a moment ago. To ask the
 * system for it costs as much as to open the file, a sixth of a small response (measured).
 *
 * A file that was moved or linked since has another time of change; so what this can be wrong about is that one of the
 * directories above it has been moved out of the root, with a symlink left in its place, and that for a second.
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

/** Takes note that `file`, opened as `path`, is `real`, below `root`. */
export function saw(root: string, path: string, { dev, ino, changed }: OpenFile, real: string): void {
  sightings.set(path, { root, dev, ino, changed, real, at: Date.now() });
}
