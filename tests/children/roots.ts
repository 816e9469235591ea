/** Serves a file below each of many roots, and prints by how many bytes the heap has grown behind the first quarter. */
import { join } from "@std/path";
import process from "node:process";
import { planDirectory } from "../../http/directory.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";

const [base, count] = process.argv.slice(2);
const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(wait: boolean): void } };
const rules = resolveDirectoryOptions({});
const asked = { method: "HEAD", field: () => undefined };

async function serve(from: number, to: number): Promise<number> {
  for (let i = from; i < to; i++) {
    const { status } = await planDirectory(asked, rules, join(base, `root ${i}`), parseTarget("/file.txt"));
    if (status !== 200) throw new Error(`root ${i}: ${status}`);
  }
  if (gc) gc();
  else Bun!.gc(true);
  return process.memoryUsage().heapUsed;
}

const before = await serve(0, Number(count) / 4);
console.log(await serve(Number(count) / 4, Number(count)) - before);
