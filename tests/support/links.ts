/** Symlinks that a server meets below its root, and what it must answer. */
import { join } from "@std/path";
import * as fs from "node:fs";

/**
 * Makes them in `root`, beside which there must be a file `secret.txt`. Those that are answered with 200 lead to
 * `dir/file.txt`. Gives the name of each and the status that it must get.
 */
export function addLinks(root: string): [name: string, status: number][] {
  const beside = `${root}-beside`;
  fs.mkdirSync(beside);
  fs.writeFileSync(join(beside, "index.html"), "SECRET");
  const links: [name: string, target: string, status: number][] = [
    ["in.txt", "dir/file.txt", 200],
    ["absolute.txt", join(root, "dir/file.txt"), 200],
    ["out.txt", "../secret.txt", 404],
    ["etc.txt", "/etc/passwd", 404],
    ["up", "..", 404],
    ["beside", "../root-beside", 404],
    ["null", "/dev/null", 404],
    ["broken", "nowhere", 404],
    ["loop", "loop", 404],
  ];
  for (const [name, target] of links) fs.symlinkSync(target, join(root, name));
  return links.map(([name, , status]) => [name, status]);
}
