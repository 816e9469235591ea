/** Numbers in options and tables of the benchmarks. */

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** The largest share of a core that other work may take in a round that counts. */
export const QUIET = 0.05;

/** Parses the number of an option. */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new RangeError(`--${name} takes numbers above 0, not ${text}`);
  return value;
}

/** Parses a size such as `64K` to bytes. */
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

/** Prints a row of a table with right-aligned cells. */
export function printRow([first, ...cells]: readonly string[]): void {
  console.log(first.padStart(16) + cells.map((cell) => cell.padStart(11)).join(""));
}
