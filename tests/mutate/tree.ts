import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Mutation } from "./mutation.ts";

/** A copy of the working tree, in which lines may be changed: the tree itself never is. */
export class Tree {
  readonly #base = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "sendfile-mutate-")));
  readonly path = join(this.#base, "tree");
  /** For what the tests make: those that are killed leave it behind. */
  readonly temporary = join(this.#base, "tmp");

  constructor(root: string) {
    fs.mkdirSync(this.temporary);
    const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    const names = execFileSync("git", args, { cwd: root, encoding: "utf8" }).split("\0").filter(Boolean);
    for (const name of names) {
      const from = join(root, name);
      if (!fs.existsSync(from)) continue; // deleted, and not committed
      fs.mkdirSync(dirname(join(this.path, name)), { recursive: true });
      fs.copyFileSync(from, join(this.path, name));
    }
    fs.symlinkSync(join(root, "node_modules"), join(this.path, "node_modules"));
  }

  /** Why a mutation does not fit the source any more; undefined where it does. */
  staleness({ file, search, replace }: Mutation): string | undefined {
    const path = join(this.path, file);
    if (!fs.existsSync(path)) return `there is no ${file}`;
    const found = fs.readFileSync(path, "utf8").split(search).length - 1;
    if (found !== 1) return `its text is ${found} times in ${file}, and must be once`;
    return search === replace ? "it changes nothing" : undefined;
  }

  /** Runs `work` with the line changed, and changes it back. */
  async with<T>({ file, search, replace }: Mutation, work: () => Promise<T>): Promise<T> {
    const path = join(this.path, file);
    const text = fs.readFileSync(path, "utf8");
    fs.writeFileSync(path, text.replace(search, () => replace));
    try {
      return await work();
    } finally {
      fs.writeFileSync(path, text);
    }
  }

  remove(): void {
    fs.rmSync(this.#base, { recursive: true });
  }
}
