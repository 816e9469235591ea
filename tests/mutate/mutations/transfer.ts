import { type Mutation, selection } from "../mutation.ts";

export const TRANSFER: readonly Mutation[] = [
  {
    name: "the piece of one call is 1 GiB",
    file: "loop.ts",
    search: "const PIECE = 4 * 1024 * 1024;",
    replace: "const PIECE = 1024 * 1024 * 1024;",
    why: "One peer that reads as fast as we send would hold the thread for as long as its file lasts.",
    tests: selection("transfer.test.ts", "no call asks for more"),
  },
];
