import { resolve } from "node:path";
import * as fs from "node:fs";
import { RecentMap } from "../../recent_map.ts";

/** Roots that were looked at. An application may make them of its users' names. */
const seen = new RecentMap<string, true>(1000);

/**
 * Says on the console, once for each root, that `root` is not there, or no directory: otherwise nothing tells a wrong
 * path from a missing file. It is no error to throw, as a build may make the directory later.
 */
export function warnOfMissingRoot(root: string): void {
  if (seen.get(root)) return;
  seen.set(root, true);
  let stat: fs.Stats | undefined;
  try {
    stat = fs.statSync(root, { throwIfNoEntry: false });
  } catch {
    return; // it may not be looked at, which is another matter
  }
  if (stat?.isDirectory()) return;
  const problem = stat ? "is not a directory" : "is not there";
  console.error(`the root ${problem}, so that every request below it is 404: ${resolve(root)}`);
}
