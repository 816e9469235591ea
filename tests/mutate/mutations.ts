import type { Mutation } from "./mutation.ts";
import { FFI } from "./mutations/ffi.ts";

/** All that is tried. */
export const MUTATIONS: readonly Mutation[] = [...FFI];
