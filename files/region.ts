import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import { notRegular } from "../errors.ts";
import type { WebURL } from "../types.ts";

/** Throws unless `offset` is a number of bytes: an integer from 0 to 2^53 - 1. */
export function checkOffset(offset: unknown): asserts offset is number {
  if (typeof offset !== "number") throw new TypeError("offset must be a non-negative integer");
  if (!Number.isInteger(offset)) throw new TypeError(`offset must be a non-negative integer, not ${offset}`);
  if (offset < 0 || offset > Number.MAX_SAFE_INTEGER) {
    throw new RangeError(`offset must be a non-negative integer, not ${offset}`);
  }
}

/** Throws unless `count` is undefined or a number of bytes: an integer from 1 to 2^53 - 1. */
export function checkCount(count: unknown): asserts count is number | undefined {
  if (count === undefined) return;
  if (typeof count !== "number") throw new TypeError("count must be a positive integer");
  if (!Number.isInteger(count)) throw new TypeError(`count must be a positive integer, not ${count}`);
  // -1 would reach libc as SIZE_MAX, and 0 means "to the end" to some systems.
  if (count <= 0 || count > Number.MAX_SAFE_INTEGER) {
    throw new RangeError(`count must be a positive integer, not ${count}`);
  }
}

/**
 * A range of a file that a response will send. Creating it opens nothing.
 *
 * @example The second kilobyte
 * ```ts
 * import { SendfileRegion } from "@zerocopy/sendfile";
 *
 * const region = new SendfileRegion("video.mp4", 1024, 1024);
 * console.assert(region.offset + (region.count ?? 0) === 2048);
 * ```
 */
export class SendfileRegion {
  /** The file. */
  readonly path: string | WebURL;
  /** Where the range starts, in bytes from the start of the file. */
  readonly offset: number;
  /** Bytes in the range; undefined: to the end of the file. */
  readonly count: number | undefined;

  /** Throws `TypeError` or `RangeError` if `offset` or `count` is not a number of bytes. */
  constructor(path: string | WebURL, offset = 0, count?: number) {
    if (typeof path !== "string" && !(path instanceof URL)) {
      throw new TypeError("path must be a string or a URL");
    }
    checkOffset(offset);
    checkCount(count);
    this.path = path;
    this.offset = offset;
    this.count = count;
  }

  /** The length of the range in bytes now: `count`, or less if the file ends first. Reads the file's size. */
  get length(): number {
    const stat = fs.statSync(this.path);
    if (stat.isDirectory()) {
      throw notRegular(typeof this.path === "string" ? this.path : fileURLToPath(this.path));
    }
    const rest = Math.max(0, stat.size - this.offset);
    return Math.min(rest, this.count ?? rest);
  }
}
