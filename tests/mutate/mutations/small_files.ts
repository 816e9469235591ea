import { type Mutation, selection } from "../mutation.ts";

const CACHE = "http/root/small_file_cache.ts";
const CACHE_TESTS = "http/root/small_file_cache.test.ts";
const DENO_SERVE = { runtime: "deno", reason: "on Bun `serve` is Bun.serve" } as const;

export const SMALL_FILES: readonly Mutation[] = [
  {
    name: "a kept file is not asked whether it is unchanged",
    file: CACHE,
    search: "if (age >= 0 && age < FRESH && isUnchanged(path, file)) return file;",
    replace: "if (age >= 0 && age < FRESH) return file;",
    why: "For a second a changed file would be sent as it was.",
    tests: selection(CACHE_TESTS, "sees at once"),
  },
  {
    name: "a kept file's change time is not compared",
    file: CACHE,
    search: " && stat.changed === file.changed;",
    replace: ";",
    why: "A file whose modification time was set back would be sent as it was.",
    tests: selection(CACHE_TESTS, "modification time as before"),
  },
  {
    name: "a file that is changing is kept",
    file: CACHE,
    search: "const isSettled = Math.max(seconds + 1, changed) * 1000 + SETTLED < now;",
    replace: "const isSettled = true;",
    why: "Two changes within one tick of the clock would leave the first one's bytes.",
    tests: selection(CACHE_TESTS, "less than a second ago"),
  },
  {
    name: "a kept file is anybody's",
    file: CACHE,
    search: "if (!entry || entry.root !== root || ",
    replace: "if (!entry || ",
    why: "A file outside of the root, kept for who follows symlinks, would be given to who does not.",
    tests: selection(CACHE_TESTS, "gives a root no file"),
  },
  {
    name: "kept files have no bound",
    file: CACHE,
    search: "return bytes + cost <= CAPACITY;",
    replace: "return true;",
    why: "Clients could fill the memory with the files of a large directory.",
    tests: selection(CACHE_TESTS, "no more than 16 MiB"),
  },
  {
    name: "a half-closed client is read beside a body in memory",
    file: "http/send/node_response.ts",
    search: "const release = isDeno && request.httpVersionMajor === 1 && socket",
    replace: "const release = false && request.httpVersionMajor === 1 && socket",
    why: "The responses to the other pipelined requests would be lost.",
    tests: selection(CACHE_TESTS, "node:http answers all pipelined"),
    only: { runtime: "deno", reason: "Deno gives the connection up" },
  },
  {
    name: "a field's value keeps its line ends",
    file: "http/headers.ts",
    search: 'return [name, value.replace(/^[\\t\\n\\r ]+|[\\t\\n\\r ]+$/g, "")];',
    replace: "return [name, value];",
    why: "A value that a client has influence on could end the head.",
    tests: selection("server/serve_files.test.ts", "no line end"),
    only: DENO_SERVE,
  },
  {
    name: "a second part does not look at the signal",
    file: "sendfile.ts",
    search: "others[0].signal?.throwIfAborted();",
    replace: "",
    why: "The part could go to whoever has the closed connection's number.",
    tests: selection("sockets/held_socket.test.ts", "between two parts"),
    only: { runtime: "deno", reason: "the test closes a Deno.Conn" },
  },
];
