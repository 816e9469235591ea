import { type Mutation, selection } from "../mutation.ts";

const DENO = { runtime: "deno", reason: "on Bun withSendfile gives the handler back" } as const;

export const HANDOFF: readonly Mutation[] = [
  {
    name: "the cookie is not compared after dup",
    file: "http/takeover.ts",
    search: "if (out >= 0 && libc.cookie(out) === cookie) return { file, out };",
    replace: "if (out >= 0) return { file, out };",
    why: "A file could go to the client that has the descriptor's number since the connection was looked at.",
    tests: selection("with_sendfile.test.ts", "leads to another connection by the time"),
    only: DENO,
  },
  {
    name: "whether the last response was acknowledged is not asked",
    file: "http/with_sendfile.ts",
    search: "if (state.acked !== state.written)",
    replace: "if (false)",
    why: "What is still on its way of an earlier response would be counted for the next one's.",
    tests: selection("with_sendfile.test.ts", "has not got yet"),
    only: DENO,
  },
];
