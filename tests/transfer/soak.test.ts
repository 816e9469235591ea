/** Many transfers at once with everything drawn by lot: what arrives is always a prefix of what was promised. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import {
  ConnectionClosedError,
  sendfile,
  type SendfileOptions,
  sendfileStats,
  SendfileTimeoutError,
} from "../../mod.ts";
import { assertBytes, bytes, concat, descriptors, testFile, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { type Kind, kinds } from "../support/pairs.ts";

/** SOAK=20000 for an afternoon. */
const TRANSFERS = Number(process.env.SOAK ?? 600);
const AT_ONCE = 40;
const CONTENT = bytes(3_000_000, 41);

/** Numbers that look like chance and are the same in every run (mulberry32). */
function lot(seed: number): (below: number) => number {
  return (below) => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) % below;
  };
}

/** One transfer; what became of it. */
async function transfer(seed: number, path: string, fd: number): Promise<string> {
  const draw = lot(seed);
  const usable = kinds.filter(({ name }) => name !== "node:http"); // it sends a head of its own
  const kind: Kind = usable[draw(usable.length)];
  const pair = await kind.open({ small: kind.native && draw(2) === 0 });
  try {
    const offset = draw(4) === 0 ? 0 : draw(CONTENT.length);
    const count = draw(3) === 0 ? undefined : 1 + draw(draw(2) === 0 ? 5000 : CONTENT.length);
    const header = draw(2) === 0 ? bytes(1 + draw(300), seed) : undefined;
    const trailer = draw(4) === 0 ? bytes(1 + draw(300), seed + 1) : undefined;
    const stop = new AbortController();
    const options: SendfileOptions = {
      offset,
      count,
      header,
      trailer,
      signal: stop.signal,
      zeroCopy: draw(3) > 0,
      timeout: draw(4) === 0 ? 5000 : undefined,
      onProgress: draw(2) === 0 ? () => {} : undefined,
    };
    const ofFile = CONTENT.subarray(offset, count === undefined ? undefined : offset + count);
    const promised = concat(header ?? new Uint8Array(), ofFile, trailer ?? new Uint8Array());
    const fate = ["whole", "whole", "peer leaves", "abort", "runtime closes"][draw(5)];
    const leaveAt = draw(promised.length + 1);
    const sending = sendfile(pair.socket, draw(2) === 0 ? path : fd, options).then(
      (sent) => sent,
      (error: unknown) => error,
    );
    if (fate !== "whole") {
      if (leaveAt > 0) await pair.peer.atLeast(leaveAt);
      if (fate === "peer leaves") pair.peer.socket.destroy();
      else if (fate === "abort") stop.abort(new Error("enough"));
      else pair.close();
    }
    const received = fate === "whole" ? pair.peer.all() : undefined;
    const outcome = await sending;
    if (typeof outcome === "number") {
      assertEquals(outcome, ofFile.length);
      if (!received) return `${fate}: too late`;
      pair.end();
      assertBytes(await received, promised);
      return "whole";
    }
    assert(fate !== "whole", `${kind.name}: ${outcome instanceof Error ? outcome.stack : outcome}`);
    const expected = outcome instanceof ConnectionClosedError || outcome instanceof SendfileTimeoutError ||
      outcome instanceof Error && outcome.message === "enough";
    assert(expected, `${kind.name}, ${fate}: ${outcome instanceof Error ? outcome.stack : outcome}`);
    const arrived = pair.peer.received;
    assertBytes(arrived, promised.subarray(0, arrived.length));
    return fate;
  } finally {
    pair.close();
  }
}

test("transfers drawn by lot, many at once, with peers that leave, aborts and closed sockets", async () => {
  using file = testFile(CONTENT);
  const fd = fs.openSync(file.path, "r");
  await Promise.all(kinds.map((_, i) => transfer(i, file.path, fd))); // what a runtime opens once for all
  const before = descriptors().length;
  const stats = sendfileStats();
  const fates: Record<string, number> = {};
  let next = 0;
  const worker = async () => {
    while (next < TRANSFERS) {
      const seed = 1000 + next++;
      const fate = await transfer(seed, file.path, fd).catch((error) => {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      });
      fates[fate] = (fates[fate] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const after = sendfileStats();
  for (const way of ["sendfile", "copy"] as const) assert(after[way].bytes > stats[way].bytes, way);
  assert(after.waits > stats.waits, "no transfer had to wait");
  for (const fate of ["whole", "peer leaves", "abort", "runtime closes"]) assert(fates[fate] > 0, fate);
  await until("the descriptors are closed", () => descriptors().length <= before);
  fs.closeSync(fd);
});
