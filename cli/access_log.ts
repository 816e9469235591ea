import { printable } from "../http/printable.ts";
import type { Sent } from "../http/send/socket.ts";
import type { Head } from "../server/request_head.ts";

/** How requests are logged. `verbose`: the text with more of it. */
export type LogFormat = "text" | "verbose" | "json" | "none";

/** One line for the log about a response. `began`: when its request had come, by `performance.now()`. */
export function logLine(
  format: Exclude<LogFormat, "none">,
  { method, target, field }: Head,
  { status, bytes, way, problem }: Sent,
  client: string | undefined,
  began: number,
): string {
  const ms = Number((performance.now() - began).toFixed(3));
  const range = field("range");
  const agent = field("user-agent");
  if (format === "json") {
    const time = new Date().toISOString();
    return JSON.stringify({ time, client, method, target, status, bytes, way, problem, ms, range, agent });
  }
  const line = `${method} ${printable(target)} ${status} ${bytes} ${way}${problem ? ` (${problem})` : ""}`;
  if (format === "text") return line;
  const more = [`${client ?? "-"}`, `${ms.toFixed(1)}ms`, range ?? "-", `"${agent ?? "-"}"`];
  return `${line} ${more.map((text) => printable(text, " ")).join(" ")}`;
}
