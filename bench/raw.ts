/**
 * `deno task bench:raw`: compares small servers on Deno and Bun that use `sendfile()` with a header to the same
 * server in C (server.c). drain.c loads them. Servers run on core 0, the client on core 1. The options are those of
 * matrix.ts, and
 *
 *   --bare               also servers with the bare calls, which show what the runtimes themselves cost
 */
import { bun, local } from "./harness.ts";
import { runMatrix } from "./matrix.ts";
import { KIB } from "./numbers.ts";
import { bunProgram } from "./programs.ts";
import type { Goal } from "./report.ts";
import { head } from "./served.ts";
import { type Contender, type Setting, start } from "./servers.ts";

const USUAL = ["Deno", "Bun"];
const BARE = ["bare-Deno", "bare-Bun"];

const CONTENDERS: readonly Contender[] = [
  {
    name: "C",
    what: "epoll and sendfile(2) in C",
    start: (name, setting) => start(name, setting, [`${setting.place.programs}/server`, ...paths(setting)]),
  },
  { name: "Deno", what: "Deno.listen and sendfile()", start: onDeno() },
  { name: "Bun", what: "Bun.listen and sendfile()", needs: bunProgram, start: onBun() },
  { name: "bare-Deno", what: "Deno.listen and the bare calls", start: onDeno({ BENCH_BARE: "1" }) },
  {
    name: "bare-Bun",
    what: "Bun.listen and the bare calls",
    needs: bunProgram,
    start: onBun({ BENCH_BARE: "1" }),
  },
];

const GOALS: readonly Goal[] = USUAL.flatMap((server) => [
  { server, base: "C", ratio: 0.7, at: (size) => size < 64 * KIB },
  { server, base: "C", ratio: 0.9, at: (size) => size >= 64 * KIB },
]);

const bare = Deno.args.includes("--bare");

await runMatrix({
  name: "raw",
  contenders: CONTENDERS,
  base: "C",
  goals: GOALS,
  compile: ["server"],
  fields: ["content-length", "content-type"],
  head,
  usual: bare ? [...USUAL, ...BARE] : USUAL,
  connections: "1,8,64",
}, Deno.args.filter((arg) => arg !== "--bare"));

function onDeno(env: Record<string, string> = {}): Contender["start"] {
  const command = [Deno.execPath(), "run", "-A", local("raw_deno.ts")];
  return (name, setting) => start(name, setting, [...command, ...paths(setting)], env);
}

function onBun(env: Record<string, string> = {}): Contender["start"] {
  return (name, setting) => start(name, setting, [bun(), local("raw_bun.ts"), ...paths(setting)], env);
}

/** The files that exist when the servers are started. */
function paths({ place: { data } }: Setting): string[] {
  return [...Deno.readDirSync(data)].map(({ name }) => `${data}/${name}`);
}
