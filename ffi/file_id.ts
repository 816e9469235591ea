import { isDeno } from "../runtime.ts";

/**
 * Which file something is. Inode numbers reach 2^64 (overlayfs with `xino`, some network file systems), and as doubles
 * neighbours above 2^53 compare equal.
 */
export interface FileId {
  readonly dev: bigint;
  readonly ino: bigint;
}

/** A runtime's own numbers as a {@link FileId}; undefined where they may be rounded: then they prove nothing. */
export function exactFileId(dev: number | bigint, ino: number | bigint | null): FileId | undefined {
  const [device, inode] = [exact(dev), exact(ino)];
  return device === undefined || inode === undefined ? undefined : { dev: device, ino: inode };
}

/** Deno's bigint has gone through a double. Bun's is signed. */
function exact(value: number | bigint | null): bigint | undefined {
  if (value === null) return undefined;
  if (Number.isSafeInteger(Number(value))) return BigInt.asUintN(64, BigInt(value));
  return typeof value === "bigint" && !isDeno ? BigInt.asUintN(64, value) : undefined;
}

export function isSameFile(one: FileId, other: FileId): boolean {
  return one.ino === other.ino && one.dev === other.dev;
}
