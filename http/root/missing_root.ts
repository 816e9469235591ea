import { resolve } from "node:path";
import * as fs from "node:fs";
import { RecentMap } from "../../recent_map.ts";

/** Roots that were checked already. Bounded, because an application may derive roots from its users' names. */
const seen = new RecentMap<string, true>(1000);

/**
 * Logs once for each root if `root` does not exist or is not a directory: otherwise a wrong path looks like a missing
 * file. Does not throw, because a build may create the directory later.
 */
export function warnOfMissingRoot(root: string): void {
  if (seen.get(root)) return;
  seen.set(root, true);
  let stat: fs.Stats | undefined;
  try {
    stat = fs.statSync(root, { throwIfNoEntry: false });
  } catch {
    return; // no permission to look, which is another problem
  }
  if (stat?.isDirectory()) return;
  const problem = stat ? "is not a directory" : "does not exist";
  console.error(`the root ${problem}, so every request below it gets 404: ${resolve(root)}`);
}
