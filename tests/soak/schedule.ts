/** Which round a seed belongs to: a seed alone says what is played, and where. */

/** One round of the soak. */
export interface Turn {
  readonly runtime: "deno" | "bun";
  /** A key of `ROUNDS`. */
  readonly scene: string;
  /** Requests in all. */
  readonly requests: number;
}

/** Seeds of one round. It begins with the first of them, and has fewer clients. */
export const SEEDS = 10_000;

const http = { scene: "HTTP servers", requests: 2500 };
const sockets = { scene: "sockets", requests: 250 };
const TURNS: readonly Turn[] = [
  { runtime: "deno", ...http },
  { runtime: "bun", ...http },
  { runtime: "deno", scene: "withSendfile", requests: 1500 },
  { runtime: "bun", ...http },
  { runtime: "deno", ...http },
  { runtime: "bun", ...sockets },
  { runtime: "deno", ...sockets },
  { runtime: "bun", ...http },
  { runtime: "deno", ...http },
  { runtime: "bun", ...http },
];

/** The round that `seed` belongs to. */
export function turnOf(seed: number): Turn {
  return TURNS[Math.floor(seed / SEEDS) % TURNS.length];
}
