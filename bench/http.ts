/**
 * `deno task bench:http`: compares the HTTP servers of this package with nginx and other static servers, and with
 * those built into Deno, Bun, Node.js, Go and Python. All serve one directory, and drain.c loads them. Servers run on
 * core 0, the client on core 1. The options are those of matrix.ts; the names for `--only` are those that it prints.
 */
import { local } from "./harness.ts";
import { runMatrix } from "./matrix.ts";
import { KIB, MIB } from "./numbers.ts";
import { startCaddy, startGo, startNginx, startSirv } from "./peers.ts";
import { bunProgram, caddy, go, nginx, python, sirv } from "./programs.ts";
import type { Goal } from "./report.ts";
import { type Contender, type Setting, start } from "./servers.ts";

/** nginx's cache of open files, as in its manual. */
const OPEN_FILE_CACHE = `
        open_file_cache max=1000 inactive=20s;
        open_file_cache_valid 30s;
        open_file_cache_min_uses 2;
        open_file_cache_errors on;`;

/** In the order of a round: contenders whose ratio is a goal are neighbours. */
const CONTENDERS: readonly Contender[] = [
  {
    name: "nginx",
    what: "nginx, one worker, sendfile and tcp_nopush on",
    needs: nginx,
    start: startNginx(""),
  },
  { name: "static-deno", what: "the static server on Deno", start: onDeno("../cli.ts", quiet) },
  {
    name: "static-bun",
    what: "the static server on Bun",
    needs: bunProgram,
    start: onProgram("../cli.ts", quiet),
  },
  { name: "file-bun", what: "Bun.serve, Bun.file", needs: bunProgram, start: onProgram("http_bun_file.ts") },
  {
    name: "servefile-bun",
    what: "Bun.serve, serveFile",
    needs: bunProgram,
    start: onProgram("http_servefile.ts"),
  },
  { name: "stream-deno", what: "Deno.serve, FsFile.readable", start: onDeno("http_deno_stream.ts") },
  { name: "servefile-deno", what: "Deno.serve, serveFile", start: onDeno("http_servefile.ts") },
  { name: "serve-deno", what: "serve of ./serve, serveFile", start: onDeno("http_serve.ts") },
  {
    name: "floor-deno",
    what: "Deno.serve, FsFile.readable of a file opened synchronously",
    start: onDeno("http_deno_stream.ts", ({ place }) => [place.data, "sync"]),
  },
  {
    name: "with-deno",
    what: "Deno.serve, withSendfile around serveFile",
    start: onDeno("http_servefile.ts", wrapped),
  },
  { name: "memory-deno", what: "Deno.serve, bodies from memory", start: onDeno("http_memory.ts") },
  {
    name: "memory-with",
    what: "Deno.serve, withSendfile around bodies from memory",
    start: onDeno("http_memory.ts", wrapped),
  },
  { name: "sendfile-deno", what: "node:http on Deno, sendFile", start: onDeno("http_sendfile.ts") },
  {
    name: "raw-deno",
    what: "Deno.listen and sendfile(), without HTTP, each file opened once",
    start: onDeno("raw_deno.ts", filesOf),
  },
  {
    name: "nginx-cache",
    what: "nginx, with open_file_cache too",
    needs: nginx,
    start: startNginx(OPEN_FILE_CACHE),
  },
  { name: "caddy", what: "Caddy, file_server", needs: caddy, start: startCaddy },
  { name: "go", what: "Go, http.FileServer", needs: go, start: startGo },
  { name: "sirv", what: "Node.js, sirv under node:http", needs: sirv, start: startSirv },
  { name: "asyncio", what: "asyncio, loop.sendfile", needs: python, start: onProgram("asyncio_server.py") },
];

/** The fields that `serveFile` sends. */
const FIELDS = ["date", "accept-ranges", "etag", "last-modified", "content-type", "content-length"];

const atLeast = (least: number) => (size: number) => size >= least;
const exactly = (wanted: number) => (size: number) => size === wanted;

const GOALS: readonly Goal[] = [
  { server: "static-deno", base: "nginx", ratio: 0.75, at: exactly(4 * KIB) },
  { server: "static-deno", base: "nginx", ratio: 0.85, at: exactly(64 * KIB) },
  { server: "static-deno", base: "nginx", ratio: 1, at: atLeast(256 * KIB), under: "cubic" },
  { server: "static-deno", base: "nginx", ratio: 1, at: exactly(256 * KIB), under: "bbr" },
  { server: "static-deno", base: "nginx", ratio: 2, at: atLeast(MIB), under: "bbr" },
  { server: "static-bun", base: "nginx", ratio: 1, at: atLeast(MIB), under: "cubic" },
  { server: "static-bun", base: "nginx", ratio: 2, at: atLeast(MIB), under: "bbr" },
  { server: "static-bun", base: "file-bun", ratio: 1, at: () => true },
  { server: "servefile-deno", base: "stream-deno", ratio: 2.6, at: exactly(4 * KIB) },
  { server: "serve-deno", base: "stream-deno", ratio: 2.2, at: exactly(4 * KIB) },
  { server: "serve-deno", base: "stream-deno", ratio: 2.3, at: exactly(64 * KIB) },
  { server: "serve-deno", base: "stream-deno", ratio: 2.5, at: (size) => size >= 256 * KIB },
  { server: "servefile-deno", base: "stream-deno", ratio: 2.2, at: exactly(16 * KIB) },
  { server: "servefile-deno", base: "stream-deno", ratio: 1.4, at: exactly(32 * KIB) },
];

await runMatrix({
  name: "http",
  contenders: CONTENDERS,
  base: "nginx",
  goals: GOALS,
  fields: FIELDS,
  connections: "16",
}, Deno.args);

type Arguments = (setting: Setting) => readonly string[];

function onDeno(script: string, args: Arguments = directoryOnly): Contender["start"] {
  const options = ["run", "-A", "--node-modules-dir=none"];
  return (name, setting) =>
    start(name, setting, [Deno.execPath(), ...options, local(script), ...args(setting)]);
}

function onProgram(script: string, args: Arguments = directoryOnly): Contender["start"] {
  return (name, setting, program) => start(name, setting, [program, local(script), ...args(setting)]);
}

function directoryOnly({ place: { data } }: Setting): string[] {
  return [data];
}

function filesOf({ place: { data } }: Setting): string[] {
  return [...Deno.readDirSync(data)].map(({ name }) => `${data}/${name}`);
}

function wrapped({ place: { data } }: Setting): string[] {
  return [data, String(MIB)];
}

/** The arguments of the static server. */
function quiet({ link, pad, place: { data } }: Setting): string[] {
  const header = pad ? ["-H", `X-Pad: ${pad}`] : [];
  return ["--log", "none", "--host", link.host, "-p", "0", ...header, data];
}
