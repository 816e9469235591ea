import { isDeno } from "../runtime.ts";

/**
 * The identity of a file, as bigints: inode numbers reach 2^64 (overlayfs with `xino`, some network file systems),
 * and as doubles neighbours above 2^53 compare equal.
 */
export interface FileId {
  readonly dev: bigint;
  readonly ino: bigint;
}

/**
 * Converts a runtime's own numbers to a {@link FileId}; undefined if they may be rounded, because then they prove
 * nothing.
 */
export function exactFileId(dev: number | bigint, ino: number | bigint | null): FileId | undefined {
  const [device, inode] = [exact(dev), exact(ino)];
  return device === undefined || inode === undefined ? undefined : { dev: device, ino: inode };
}

/** Deno's bigint was converted from a double. Bun's is signed. */
function exact(value: number | bigint | null): bigint | undefined {
  if (value === null) return undefined;
  if (Number.isSafeInteger(Number(value))) return BigInt.asUintN(64, BigInt(value));
  return typeof value === "bigint" && !isDeno ? BigInt.asUintN(64, value) : undefined;
}

export function isSameFile(one: FileId, other: FileId): boolean {
  return one.ino === other.ino && one.dev === other.dev;
}
