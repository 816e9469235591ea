/** Figures of the benchmarks: what options give, and what tables show. */

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** The part of a core that other work may take from a round that counts. */
export const QUIET = 0.05;

/** The number that an option gives. */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new RangeError(`--${name} takes numbers above 0, not ${text}`);
  return value;
}

/** Bytes of a size such as `64K`. */
export function parseSize(text: string): number {
  const match = /^(\d+)([KM]?)(?:iB)?$/i.exec(text);
  if (!match) throw new TypeError(`--sizes takes sizes such as 4K or 1M, not ${text}`);
  const unit = { "": 1, K: KIB, M: MIB }[match[2].toUpperCase()]!;
  return positive("sizes", match[1]) * unit;
}

export function shownSize(bytes: number): string {
  if (bytes % MIB === 0) return `${bytes / MIB} MiB`;
  return bytes % KIB === 0 ? `${bytes / KIB} KiB` : `${bytes} B`;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** A row of a table; its cells are right-aligned. */
export function printRow([first, ...cells]: readonly string[]): void {
  console.log(first.padStart(16) + cells.map((cell) => cell.padStart(11)).join(""));
}
