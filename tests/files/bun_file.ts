/** The part of Bun that opens files. */
interface BunGlobal {
  file(path: string | number): Blob & { size: number };
}
export const bun = (globalThis as unknown as { Bun: BunGlobal }).Bun;
