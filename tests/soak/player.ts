/** Plays the rounds that come on its standard input, one a line: the process that `run.ts` starts on each runtime. */
import process from "node:process";
import { createInterface } from "node:readline";
import { descriptors } from "../support/data.ts";
import { allocated } from "./allocated.ts";
import { Failure } from "./scene.ts";
import { ROUNDS } from "./scenes.ts";

/** What {@link Played} is told of. */
export interface Command {
  readonly scene: string;
  readonly seed: number;
  readonly requests: number;
}

/** What came of a round. */
export interface Played {
  readonly requests: number;
  readonly counts: Record<string, number>;
  readonly ms: number;
  /** Of this process afterwards. */
  readonly descriptors: number;
  /** Bytes, after a collection of the garbage: resident, what JavaScript holds, and {@link allocated}. */
  readonly memory: number;
  readonly heap: number;
  readonly allocated?: number;
  readonly failure?: { readonly seed?: number; readonly request?: number; readonly text: string };
}

interface Collectors {
  readonly gc?: () => void;
  readonly Bun?: { gc(force: boolean): void };
}

async function settle(): Promise<void> {
  const { gc, Bun } = globalThis as Collectors;
  for (let i = 0; i < 3; i++) {
    gc?.();
    Bun?.gc(true);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function play({ scene, seed, requests }: Command): Promise<Played> {
  const began = performance.now();
  const outcome = await ROUNDS[scene](seed, requests).then(
    ({ requests, counts }) => ({ requests, counts }),
    (error: unknown) => ({
      requests: 0,
      counts: {},
      failure: error instanceof Failure
        ? { seed: error.seed, request: error.request, text: error.message }
        : { text: String((error as Error).stack ?? error) },
    }),
  );
  const ms = Math.round(performance.now() - began);
  await settle();
  const { rss, heapUsed } = process.memoryUsage();
  return {
    ...outcome,
    ms,
    descriptors: descriptors().length,
    memory: rss,
    heap: heapUsed,
    allocated: allocated(),
  };
}

if (import.meta.main) {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await play(JSON.parse(line) as Command)));
  }
  process.exit();
}
