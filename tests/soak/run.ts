/**
 * Random requests, cuts, renames, growth, truncation, resets, pipelining and half-close on every kind of server and of
 * socket, on both runtimes at once. What each client gets is compared byte for byte with what it must be: right, or cut
 * off with an error. Ends with an error at the first that is not, and where descriptors or memory have grown.
 *
 *     deno task soak [--requests N] [--seed N] [--runtime deno|bun]
 *
 * `--requests`: how many, 20,000 by default. `--seed`: where to begin; a run prints the seed with which it can be
 * resumed, and for a failure the seed of its client, which `--requests 1` plays alone.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { parseArgs } from "node:util";
import { fromFileUrl } from "@std/path";
import { findBun } from "../support/find_bun.ts";
import type { Command, Played } from "./player.ts";
import { SEEDS, type Turn, turnOf } from "./schedule.ts";

type Runtime = Turn["runtime"];
const RUNTIMES: readonly Runtime[] = ["deno", "bun"];

/** Rounds that one runtime may be ahead of the other: they are played again when a run is resumed. */
const AHEAD = 20;

/** Rounds of a runtime after which all that it opens and keeps is there. */
const WARM = 5;

/** Bytes by which the heap may differ between two moments at which a runtime holds the same. */
const NOISE = 32 * 1024 * 1024;

/** As many times what it was at first may resident memory come to: an allocator keeps what it has split. */
const SPLIT = 2.5;

/** Descriptors that come and go: of a poller that is still open, or of the runtime's own. */
const FEW = 8;

/** The process that plays the rounds of one runtime. */
class Player {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;
  /** After the first rounds, and after the last. */
  first: Played | undefined;
  last: Played | undefined;
  rounds = 0;

  constructor(readonly runtime: Runtime) {
    const file = fromFileUrl(new URL("./player.ts", import.meta.url));
    const deno = ["run", "-A", "--no-check", "--node-modules-dir=none", "--v8-flags=--expose-gc", file];
    const [program, args] = runtime === "deno" ? [process.execPath, deno] : [findBun(), [file]];
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#reader = createInterface({ input: this.#child.stdout });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  async play(command: Command): Promise<Played> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) return { ...NOTHING, failure: { text: `${this.runtime} has ended` } };
    const played = JSON.parse(value) as Played;
    this.last = played;
    if (++this.rounds === WARM) this.first = played;
    return played;
  }

  close(): void {
    this.#reader.close();
    this.#child.stdin.end();
  }

  /** What has grown; undefined where nothing has. */
  get growth(): string | undefined {
    const { first, last } = this;
    if (!first || !last) return undefined;
    const hasGrown = last.descriptors > first.descriptors + FEW || last.heap > first.heap + NOISE ||
      (last.allocated ?? 0) > (first.allocated ?? 0) + NOISE || last.memory > SPLIT * first.memory;
    return hasGrown ? `${this}` : undefined;
  }

  toString(): string {
    const { first, last } = this;
    if (!last) return `${this.runtime}: nothing`;
    return `${this.runtime}: ${shown(last)}${first ? `, after ${WARM} rounds ${shown(first)}` : ""}`;
  }
}

const NOTHING: Played = { requests: 0, counts: {}, ms: 0, descriptors: 0, memory: 0, heap: 0 };

function shown({ descriptors, memory, heap, allocated }: Played): string {
  const native = allocated === undefined ? "" : `, ${mib(allocated)} allocated`;
  return `${descriptors} descriptors, ${mib(memory)} of memory, ${mib(heap)} of heap${native}`;
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MiB`;
}

/** A run from its first seed to its end, and how far it has come. */
class Run {
  requests = 0;
  failed = false;
  #stopped = false;
  readonly #began = performance.now();
  readonly #counts: Record<string, Record<string, number>> = {};
  /** The first seed of the next round, for each runtime. */
  readonly #next: Map<Runtime, number>;
  readonly #players: Player[];
  #told = 0;

  constructor(readonly seed: number, readonly wanted: number, runtimes: readonly Runtime[]) {
    this.#next = new Map(runtimes.map((runtime) => [runtime, this.#after(seed - SEEDS, runtime)]));
    this.#players = runtimes.map((runtime) => new Player(runtime));
  }

  /** The first seed of the runtime's round that comes after the one that begins with `seed`. */
  #after(seed: number, runtime: Runtime): number {
    do seed += SEEDS; while (turnOf(seed).runtime !== runtime);
    return seed;
  }

  /** With this seed the rest can be played. */
  get resume(): number {
    return Math.min(...this.#next.values());
  }

  get #isOver(): boolean {
    return this.#stopped || this.failed || this.requests >= this.wanted;
  }

  stop(): void {
    this.#stopped = true;
  }

  async play(): Promise<void> {
    await Promise.all(this.#players.map((player) => this.#lane(player)));
    for (const player of this.#players) player.close();
    console.log(`${this}`);
    for (const [name, counts] of Object.entries(this.#counts)) console.log(name, JSON.stringify(counts));
    for (const { growth } of this.#players) {
      if (growth === undefined) continue;
      console.log(`grown: ${growth}`);
      this.failed = true;
    }
    if (this.requests < this.wanted) {
      console.log(`resume with --seed ${this.resume} --requests ${this.wanted - this.requests}`);
    }
  }

  async #lane(player: Player): Promise<void> {
    while (!this.#isOver) {
      const seed = this.#next.get(player.runtime)!;
      if (seed > this.resume + AHEAD * SEEDS) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        continue;
      }
      const { scene, requests } = turnOf(seed);
      const played = await player.play({ scene, seed, requests: Math.min(requests, this.wanted) });
      this.#note(player, scene, seed, played);
      if (!played.failure) this.#next.set(player.runtime, this.#after(seed, player.runtime));
    }
  }

  #note({ runtime }: Player, scene: string, seed: number, { requests, counts, failure }: Played): void {
    if (failure) {
      this.failed = true;
      const request = this.requests + (failure.request ?? 0);
      console.log(`FAILED: ${runtime}, ${scene}, about request ${request}\n${failure.text}`);
      console.log(
        failure.seed === undefined
          ? `again: deno task soak --seed ${seed} --requests ${turnOf(seed).requests} --runtime ${runtime}`
          : `its client alone: deno task soak --seed ${failure.seed} --requests 1`,
      );
      return;
    }
    this.requests += requests;
    const all = this.#counts[`${runtime}, ${scene}`] ??= { requests: 0 };
    for (const [what, count] of Object.entries({ requests, ...counts })) {
      all[what] = (all[what] ?? 0) + count;
    }
    if (this.requests - this.#told < 10_000) return;
    this.#told = this.requests;
    console.log(`${this}; next seed ${this.resume}`);
  }

  toString(): string {
    const seconds = Math.round((performance.now() - this.#began) / 1000);
    return `${this.requests} of ${this.wanted} requests in ${seconds} s; ${this.#players.join("; ")}`;
  }
}

const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "20000" },
    seed: { type: "string", default: "0" },
    runtime: { type: "string" },
  },
});
const seed = Number(values.seed);
const requests = Number(values.requests);
if (!Number.isSafeInteger(seed) || seed < 0 || !Number.isSafeInteger(requests) || requests < 1) {
  throw new TypeError("--seed and --requests take whole numbers");
}
const alone = requests === 1 ? [turnOf(seed).runtime] : RUNTIMES;
const wanted = alone.filter((runtime) => values.runtime === undefined || values.runtime === runtime);
if (wanted.length === 0) throw new TypeError(`nothing to play on ${values.runtime}`);
const run = new Run(seed, requests, wanted);
process.on("SIGINT", () => run.stop());
process.on("SIGTERM", () => run.stop());
console.log(`soak: ${requests} requests from seed ${seed} on`);
await run.play();
process.exit(run.failed ? 1 : 0);
