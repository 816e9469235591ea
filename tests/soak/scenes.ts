/** The parts of the soak, and which of them a seed belongs to. */
import { isBun } from "../support/harness.ts";
import { httpRound } from "./http.ts";
import type { Round } from "./scene.ts";
import { socketsRound } from "./sockets.ts";
import { withSendfileRound } from "./with_sendfile.ts";

export const ROUNDS: Readonly<Record<string, Round>> = {
  "HTTP servers": httpRound,
  "sockets": socketsRound,
  ...(isBun ? {} : { "withSendfile": withSendfileRound }),
};
