/** The files that the servers of the withSendfile part of the soak send. */
import { join } from "@std/path";
import * as fs from "node:fs";
import { folder } from "../support/data.ts";
import { CHANGES, Changing, POOL } from "./changing.ts";

export const KIB = 1024;
export const MIB = 1024 * KIB;
const SIZES = [
  ...[1, 1000, 16 * KIB, 16 * KIB + 1, 40_000, 100_000, 200_003, 256 * KIB - 1, 256 * KIB, 300_007],
  ...[512 * KIB, 600_011, 800_011, MIB - 1, MIB, MIB + 1, 1_200_007, 1_400_017, 1_700_021],
  ...[2 * MIB - 1, 2 * MIB, 2_500_009, 3_000_017, 3_700_001, 4 * MIB, 4 * MIB + 1, 4_300_003, 4_500_007],
  ...[4_700_021, 5_000_011, 6_000_011, 8 * MIB],
];
/** For a body of this size the search through this process's descriptors always pays. */
export const LARGE = 4 * MIB;

export interface File {
  readonly name: string;
  readonly content: Uint8Array;
}

/** Random content: two files have the same byte in the same place only by chance. */
export const FILES: readonly File[] = SIZES.map((size, i) => ({
  name: `${i}.bin`,
  content: POOL.subarray(i * 1_100_009, i * 1_100_009 + size),
}));

export class Site {
  readonly root = fs.realpathSync(folder());
  readonly changing: Readonly<Record<string, Changing>>;

  constructor() {
    for (const { name, content } of FILES) fs.writeFileSync(join(this.root, name), content);
    this.changing = Object.fromEntries(
      Object.keys(CHANGES).map((name) => [name, new Changing(this.root, name)]),
    );
  }
}
