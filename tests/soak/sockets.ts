/** Many transfers at once with everything drawn by lot: what arrives is always a prefix of what was promised. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import {
  ConnectionClosedError,
  sendfile,
  type SendfileOptions,
  sendfileStats,
  SendfileTimeoutError,
} from "../../mod.ts";
import { assertBytes, bytes, concat, descriptors, testFile, until } from "../support/data.ts";
import type { Kind } from "../support/pair.ts";
import { kinds } from "../support/pairs.ts";
import { lot } from "./lot.ts";
import { playSeeds, Tally } from "./scene.ts";

const AT_ONCE = 40;
const CONTENT = bytes(3_000_000, 41);

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

/** One round over all kinds of sockets of this runtime; a request is a transfer. */
export async function socketsRound(seed: number, requests: number): Promise<Tally> {
  using file = testFile(CONTENT);
  const fd = fs.openSync(file.path, "r");
  const tally = new Tally();
  const { counts } = tally;
  try {
    await Promise.all(kinds.map((_, i) => transfer(i, file.path, fd))); // what a runtime opens once for all
    const before = descriptors().length;
    const stats = sendfileStats();
    await playSeeds({ seed, requests, atOnce: AT_ONCE, tally }, async (seed) => {
      tally.requests++;
      tally.count(await transfer(seed, file.path, fd));
    });
    await until("the descriptors are closed", () => descriptors().length <= before);
    if (requests < 300) return tally; // too few for all to happen
    const after = sendfileStats();
    for (const via of ["sendfile", "copy"] as const) assert(after[via].bytes > stats[via].bytes, via);
    assert(after.waits > stats.waits, "no transfer had to wait");
    for (const fate of ["whole", "peer leaves", "abort", "runtime closes"]) assert(counts[fate] > 0, fate);
    return tally;
  } finally {
    fs.closeSync(fd);
  }
}
