import type { Mutation } from "./mutation.ts";
import { BOUNDARY } from "./mutations/boundary.ts";
import { FFI } from "./mutations/ffi.ts";
import { HANDOFF } from "./mutations/handoff.ts";
import { SERVER } from "./mutations/server.ts";
import { SERVE } from "./mutations/serve.ts";
import { SMALL_FILES } from "./mutations/small_files.ts";
import { SOCKETS } from "./mutations/sockets.ts";
import { TRANSFER } from "./mutations/transfer.ts";

/** All that is tried. */
export const MUTATIONS: readonly Mutation[] = [
  ...FFI,
  ...TRANSFER,
  ...SMALL_FILES,
  ...SOCKETS,
  ...HANDOFF,
  ...BOUNDARY,
  ...SERVER,
  ...SERVE,
];
