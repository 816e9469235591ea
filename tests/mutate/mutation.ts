import type { RuntimeName } from "./runtimes.ts";

/** The tests that are nearest to a line: one file or folder of `tests/`, and which of its tests. */
export interface Selection {
  /** Path below `tests/`; a folder stands for the files in it. */
  readonly file: string;
  /** A regular expression that the names of the tests match; undefined: all. */
  readonly filter?: string;
}

/** One change of one line that a test must notice. */
export interface Mutation {
  /** Short, and unlike any other: what the changed line does, or no longer does. */
  readonly name: string;
  /** The source file, from the root of the repository. */
  readonly file: string;
  /** Text of the file, found in it exactly once. */
  readonly search: string;
  readonly replace: string;
  /** What users would meet. */
  readonly why: string;
  readonly tests: Selection;
  /** The one runtime that has what the line does, with the reason. */
  readonly only?: { readonly runtime: RuntimeName; readonly reason: string };
  /** Why no test can tell the changed line from the right one. */
  readonly equivalent?: string;
}

export function selection(file: string, filter?: string): Selection {
  return { file, filter };
}
