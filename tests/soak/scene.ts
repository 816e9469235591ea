/** What the runner and the suite know of a part of the soak. */
import { descriptors } from "../support/data.ts";

/** One round: clients whose seeds begin at `seed`, until they have asked so many requests. Throws a {@link Failure}. */
export type Round = (seed: number, requests: number) => Promise<Tally>;

/** What came of everything, and how often. */
export class Tally {
  readonly counts: Record<string, number> = {};
  requests = 0;

  count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }
}

/** A client got what it should not have, or something else was not as it should be after the round. */
export class Failure extends Error {
  constructor(
    /** Plays this client alone: `deno task soak --seed SEED --requests 1`. */
    readonly seed: number,
    /** How many had been asked in this round. */
    readonly request: number,
    cause: unknown,
  ) {
    const text = cause instanceof Error ? cause.stack ?? cause.message : String(cause);
    super(`seed ${seed}, request ${request} of the round: ${text}`, { cause });
  }
}

/** Plays seeds one after the other, `atOnce` at a time, until `tally` has so many requests. */
export async function playSeeds(
  { seed, requests, atOnce, tally }: { seed: number; requests: number; atOnce: number; tally: Tally },
  play: (seed: number) => Promise<void>,
): Promise<void> {
  let next = seed;
  let failed = false;
  const worker = async () => {
    while (tally.requests < requests && !failed) {
      const seed = next++;
      await play(seed).catch((error) => {
        failed = true;
        throw new Failure(seed, tally.requests, error);
      });
    }
  };
  // A single request is a client that is played alone.
  const workers = Math.min(atOnce, Math.ceil(requests / 4));
  const ended = await Promise.allSettled(Array.from({ length: workers }, worker));
  for (const result of ended) if (result.status === "rejected") throw result.reason;
}

/** Sockets of this process that are open. */
export function openSockets(): number {
  return descriptors().filter((text) => text.includes(" socket:")).length;
}
