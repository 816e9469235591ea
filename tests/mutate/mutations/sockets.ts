import { type Mutation, selection } from "../mutation.ts";

const CLOSED_HERE = selection("sockets.test.ts", "while the peer reads nothing");
const NUMBER = selection("sockets.test.ts", "number now");

export const SOCKETS: readonly Mutation[] = [
  {
    name: "a Deno.Conn is always alive",
    file: "target/deno.ts",
    search: "return this.#cookie !== 0n && this.#libc!.cookie(this.fd) === this.#cookie;",
    replace: "return true;",
    why: "A closed connection's file would go to whoever has its descriptor's number now.",
    tests: NUMBER,
    only: { runtime: "deno", reason: "Bun has no Deno.Conn" },
  },
];
