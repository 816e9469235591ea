/** What the servers of the soak serve. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { bytes, folder } from "../support/data.ts";
import { ask } from "../support/http_client.ts";
import { Changing, GROWN, POOL } from "./changing.ts";

export const KIB = 1024;
export const MIB = 1024 * KIB;
const SIZES = [
  ...[0, 1, 1000, 4 * KIB, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 100_000],
  ...[128 * KIB - 1, 128 * KIB, 128 * KIB + 1, MIB - 1, MIB, MIB + 1, 5 * MIB],
];

/** Where all that is not a file's comes from. */
export const TEXT: Buffer = Buffer.from(POOL.buffer, 0, 8 * MIB);
/** Two files of each size. */
const CONTENT = SIZES.flatMap((size, i) => [bytes(size, 100 + i), bytes(size, 200 + i)]);

export interface File {
  readonly name: string;
  readonly content: Uint8Array;
  tag: string;
  type: string;
}

export class Site {
  readonly root = fs.realpathSync(folder());
  readonly files: readonly File[];
  readonly renamed = new Changing(this.root, "renamed.bin");
  readonly grown = new Changing(this.root, GROWN);
  readonly truncated = new Changing(this.root, "truncated.bin");

  /** Those that change. */
  get changing(): readonly Changing[] {
    return [this.renamed, this.grown, this.truncated];
  }

  constructor() {
    this.files = CONTENT.map((content, i) => {
      const name = `${content.length}-${i % 2}.${i % 2 === 0 ? "bin" : "txt"}`;
      fs.writeFileSync(join(this.root, name), content);
      fs.utimesSync(join(this.root, name), 1_700_000_000 + i, 1_700_000_000 + i);
      return { name, content, tag: "", type: "" };
    });
  }

  /** Changes the file of that name, which is one of those that change. */
  change(name: string): void {
    this.changing.find((file) => file.name === name)!.change();
  }

  /** Asks `port` for what a response says besides the content. */
  async learn(port: number): Promise<void> {
    for (const file of this.files) {
      const { headers } = await ask(port, `/static/${file.name}`, { method: "HEAD" });
      file.tag = headers.etag;
      file.type = headers["content-type"];
    }
    assertEquals(new Set(this.files.map(({ tag }) => tag)).size, this.files.length);
  }
}
