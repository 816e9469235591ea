import type { IncomingMessage } from "node:http";
import { printable } from "../http/printable.ts";
import type { Sent } from "../http/node.ts";

/** How requests are logged. `verbose`: the text with more of it. */
export type LogFormat = "text" | "verbose" | "json" | "none";

/** What is noted when a request comes: later its socket may be gone. */
export interface Began {
  /** By `performance.now()`. */
  readonly at: number;
  readonly client: string | undefined;
}

/** One line for the log about a response. */
export function logLine(
  format: Exclude<LogFormat, "none">,
  { method = "", url = "", headers }: IncomingMessage,
  { status, bytes, way, problem }: Sent,
  { at, client }: Began,
): string {
  const { range, "user-agent": agent } = headers;
  const ms = Number((performance.now() - at).toFixed(3));
  if (format === "json") {
    const time = new Date().toISOString();
    return JSON.stringify({
      time,
      client,
      method,
      target: url,
      status,
      bytes,
      way,
      problem,
      ms,
      range,
      agent,
    });
  }
  const line = `${method} ${printable(url)} ${status} ${bytes} ${way}${problem ? ` (${problem})` : ""}`;
  if (format === "text") return line;
  const more = [`${client ?? "-"}`, `${ms.toFixed(1)}ms`, range ?? "-", `"${agent ?? "-"}"`];
  return `${line} ${more.map((text) => printable(text, " ")).join(" ")}`;
}
