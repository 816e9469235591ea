/** Work on many things lets others run (http/in_turns.ts). */
import { assert, assertEquals } from "@std/assert";
import process from "node:process";
import { encodeInTurns, sortInTurns } from "../../http/in_turns.ts";
import { test } from "../support/harness.ts";

/** Milliseconds of CPU. Not of the clock: on a machine with other work each turn would be a long one. */
function cpu(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** What `work` gives, and the most CPU that was spent between two turns of a timer meanwhile. */
async function longest<T>(work: () => Promise<T>): Promise<[result: T, held: number]> {
  let held = 0;
  let last = cpu();
  const look = () => {
    const now = cpu();
    held = Math.max(held, now - last);
    last = now;
  };
  const timer = setInterval(look, 1);
  const result = await work();
  look();
  clearInterval(timer);
  return [result, held];
}

const ORDER = new Intl.Collator("en", { numeric: true });

for (const count of [0, 1, 2, 31, 32, 33, 1000]) {
  test(`sortInTurns sorts ${count} items as toSorted does`, async () => {
    const items = Array.from({ length: count }, (_, i) => ({ key: (i * 7919) % 101, i }));
    const before = structuredClone(items);
    const compare = (a: { key: number }, b: { key: number }) => a.key - b.key;
    assertEquals(await sortInTurns(items, compare), items.toSorted(compare));
    assertEquals(items, before);
  });
}

test("sortInTurns lets others run", async () => {
  const names = Array.from({ length: 100_000 }, (_, i) => `name ${(i * 7919) % 100_003} of many ä`);
  const began = cpu();
  const expected = names.toSorted(ORDER.compare);
  const atOnce = cpu() - began;
  const [sorted, held] = await longest(() => sortInTurns(names, ORDER.compare));
  assertEquals(sorted, expected);
  assert(held < atOnce / 4, `held the thread for ${held} ms; in one go it takes ${atOnce}`);
});

test("encodeInTurns encodes all texts, one behind the other, and lets others run", async () => {
  const length = 300_000;
  function* texts() {
    for (let i = 0; i < length; i++) yield `text ${i} with ä, € and 😀 `;
  }
  const began = cpu();
  const expected = new TextEncoder().encode(Array.from(texts()).join(""));
  const atOnce = cpu() - began;
  const [bytes, held] = await longest(() => encodeInTurns(texts()));
  assert(expected.length === bytes.length && expected.every((byte, i) => byte === bytes[i]));
  assert(held < atOnce / 2, `held the thread for ${held} ms; in one go it takes ${atOnce}`);
});

test("encodeInTurns encodes nothing, and texts longer than a block", async () => {
  assertEquals(await encodeInTurns([]), new Uint8Array());
  assertEquals(await encodeInTurns([""]), new Uint8Array());
  const long = "€".repeat(100_000);
  assertEquals(await encodeInTurns([long, "a", long]), new TextEncoder().encode(`${long}a${long}`));
});
