/** Files of the soak that change while they are sent. */
import { join } from "@std/path";
import * as fs from "node:fs";
import { bytes } from "../support/data.ts";
import { type Draw, lot } from "./lot.ts";

const MIB = 1024 * 1024;

/** What files are made of. No part of it is like another. */
export const POOL: Uint8Array = bytes(44 * MIB, 77);

/** A size's remainder by this says which version of a file it is of. */
const VERSIONS = 4096;

/** A file that only becomes longer, also while somebody asks for its size in the middle of a write. */
export const GROWN = "grown.bin";

/** The bytes of the file of that name when it has `size`: each version has bytes of its own. */
export function versionOf(name: string, size: number): Uint8Array {
  const version = name === GROWN ? 0 : size % VERSIONS;
  const offset = (version * 7919 + name.length * 104_729) % (32 * MIB);
  return POOL.subarray(offset, offset + size);
}

/** How a file changes: another takes its name, it becomes longer, or it becomes empty (and then another takes its name). */
export type Change = "renames" | "grows" | "truncates";

/** The files, and how each changes. */
export const CHANGES: Readonly<Record<string, Change>> = {
  "renamed.bin": "renames",
  [GROWN]: "grows",
  "truncated.bin": "truncates",
};

/** A file whose name gets other bytes all the time. The size in a response's head tells which it speaks of. */
export class Changing {
  readonly #path: string;
  readonly #draw: Draw;
  /** Versions that were truncated: a response with one of them may end early. */
  readonly #truncated = new Set<number>();
  #versions = 0;
  #size = 0;
  #next = 0;
  #over = false;
  #changing: Promise<void> | undefined;

  constructor(root: string, readonly name: string) {
    this.#path = join(root, name);
    this.#draw = lot(name.length);
    this.#size = this.#make();
    fs.writeFileSync(this.#path, versionOf(name, this.#size));
    this.#next = this.#make();
    fs.writeFileSync(`${this.#path}.new`, versionOf(name, this.#next));
  }

  #make(): number {
    const base = [100_000, 100_000, 1_200_000, 3 * MIB, 4_400_000, 6 * MIB][this.#draw(6)];
    return Math.floor(base / VERSIONS) * VERSIONS + this.#versions++ % (VERSIONS - 1) + 1;
  }

  /** Whether the version of that size was truncated. */
  isTruncated(size: number): boolean {
    return this.#truncated.has(size % VERSIONS);
  }

  /** Makes the next change in another thread, whatever this one is doing. */
  change(): void {
    if (!this.#over) this.#changing ??= this.#change().finally(() => this.#changing = undefined);
  }

  async #change(): Promise<void> {
    const goesOn = this.#size > 0 && this.#draw(2) === 0;
    if (CHANGES[this.name] === "grows" && goesOn && this.#size < 7 * MIB) {
      const grown = this.#size + 1 + this.#draw(400_000);
      const more = versionOf(this.name, grown).subarray(this.#size);
      this.#size = grown;
      return await fs.promises.appendFile(this.#path, more);
    }
    // To nothing: where a part stays, the kernel zeroes what lay behind it, also in what is on its way to a client.
    if (CHANGES[this.name] === "truncates" && goesOn) {
      this.#truncated.add(this.#size % VERSIONS);
      this.#size = 0;
      return await fs.promises.truncate(this.#path, 0);
    }
    await fs.promises.rename(`${this.#path}.new`, this.#path);
    this.#size = this.#next;
    this.#next = this.#make();
    await fs.promises.writeFile(`${this.#path}.new`, versionOf(this.name, this.#next));
  }

  /** No change begins any more; resolves when the last has ended. */
  async end(): Promise<void> {
    this.#over = true;
    await this.#changing;
  }
}
