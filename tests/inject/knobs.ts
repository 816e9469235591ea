/** Turns the knobs of inject.c, in a process that it is preloaded into. */
import * as fs from "node:fs";
import process from "node:process";
import { bunLoader } from "../../ffi/bun.ts";
import { denoLoader } from "../../ffi/deno.ts";
import { descriptors } from "../support/data.ts";
import { isBun } from "../support/harness.ts";
import { ERRNO, FUNCTIONS, type Rule } from "./rules.ts";

/** The same file again is the same instance. */
const library = (isBun ? bunLoader : denoLoader).load([process.env.LD_PRELOAD!], {
  inject: { args: ["i32", "i32", "i32", "i32", "i32", "i32"], returns: "i32" },
  inject_hits: { args: ["i32", "i32"], returns: "i32" },
}, {});
if (typeof library === "string") throw new Error(library);
const { call } = library;

const place = ({ caller, call }: Rule) => [caller === "ours" ? 0 : 1, FUNCTIONS.indexOf(call)];

export function inject(rule: Rule): void {
  const { from, times, fault } = rule;
  const [error, most] = typeof fault === "number" ? [0, fault] : [ERRNO[fault], 0];
  call.inject(...place(rule), from, times, error, most);
}

/** Ends a rule, and says how often it was applied. */
export function lift(rule: Rule): number {
  const hits = call.inject_hits(...place(rule));
  call.inject(...place(rule), 0, 0, 0, 0);
  return hits;
}

/**
 * Files and sockets of the test's, without what the runtime and the poller open for all: a runtime has pairs of unix
 * sockets, which have no path.
 */
export function opened(): string[] {
  const pairs = new Set<string>();
  for (const line of fs.readFileSync("/proc/self/net/unix", "latin1").split("\n")) {
    const [, , , , , , inode, path] = line.trim().split(/ +/);
    if (path === undefined) pairs.add(`socket:[${inode}]`);
  }
  return descriptors().filter((text) =>
    /socket:|\/sendfile-/.test(text) && !pairs.has(text.slice(text.indexOf(" ") + 1))
  );
}
