/** A bounded part of `deno task soak`. */
import { test } from "../support/harness.ts";
import { ROUNDS } from "./scenes.ts";

/** Requests of each round. */
const REQUESTS = { "HTTP servers": 1500, "sockets": 300, "withSendfile": 750 };

for (const [name, requests] of Object.entries(REQUESTS)) {
  const round = ROUNDS[name];
  if (!round) continue;
  for (const seed of name === "withSendfile" ? [1000, 2001] : [1000]) {
    test(`${name}: what ${requests} requests bring that are drawn by lot, from seed ${seed} on`, async () => {
      await round(seed, requests);
    });
  }
}
