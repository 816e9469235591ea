/** Work on many small items that yields to the event loop between steps. */
import { Buffer } from "node:buffer";
import { isTurnDue, rest, spend } from "../transfer/budget.ts";

/** Resolves when the next step may run. Await it before each step. */
export function nextStep(): Promise<void> | undefined {
  spend(0);
  return isTurnDue() ? rest() : undefined;
}

/** Items sorted in one step. */
const RUN = 32;

/** Comparisons in one step. One comparison by a collator takes 0.1 to 0.5 µs, and an `await` about the same. */
const COMPARISONS = 128;

/** Sorts the items. The sort is stable. */
export async function sortInTurns<T>(items: T[], compare: (a: T, b: T) => number): Promise<T[]> {
  if (items.length <= RUN) {
    await nextStep();
    return items.toSorted(compare);
  }
  const middle = items.length >> 1;
  const first = await sortInTurns(items.slice(0, middle), compare);
  return merge(first, await sortInTurns(items.slice(middle), compare), compare);
}

async function merge<T>(a: T[], b: T[], compare: (a: T, b: T) => number): Promise<T[]> {
  const merged: T[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (merged.length % COMPARISONS === 0) await nextStep();
    merged.push(compare(a[i], b[j]) <= 0 ? a[i++] : b[j++]);
  }
  return merged.concat(a.slice(i), b.slice(j));
}

/** Characters that are joined before they are encoded. */
const BLOCK = 16 * 1024;

/** Concatenates all texts and encodes them in UTF-8. */
export async function encodeInTurns(texts: Iterable<string>): Promise<Uint8Array<ArrayBuffer>> {
  const blocks: string[] = [];
  let block = "";
  let length = 0;
  const end = () => {
    blocks.push(block);
    length += Buffer.byteLength(block);
    block = "";
  };
  for (const text of texts) {
    await nextStep();
    block += text;
    if (block.length >= BLOCK) end();
  }
  end();
  const bytes = new Uint8Array(length);
  const encoder = new TextEncoder();
  let at = 0;
  for (const text of blocks) {
    spend(text.length);
    await nextStep();
    at += encoder.encodeInto(text, bytes.subarray(at)).written;
  }
  return bytes;
}
