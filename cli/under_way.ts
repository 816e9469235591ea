import { printable } from "../http/printable.ts";
import type { FileServer } from "../server/server.ts";

/** The most requests that are listed; there may be thousands. */
const NAMED = 5;

/** Lines for the terminal about the responses that a stopping server waits for; empty if there are none. */
export function underWayLines(server: Pick<FileServer, "underWay">): string[] {
  const requests = server.underWay();
  if (requests.length === 0) return [];
  const count = requests.length === 1 ? "one response" : `${requests.length} responses`;
  const more = requests.length > NAMED ? [`  and ${requests.length - NAMED} more`] : [];
  return [
    `Stopping: waits for ${count}, and ends at once on a second signal (Ctrl-C)`,
    ...requests.slice(0, NAMED).map(({ method, target }) => `  ${method} ${printable(target)}`),
    ...more,
  ];
}
