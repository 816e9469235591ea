import { printable } from "../http/printable.ts";
import type { Sent } from "../http/send/socket.ts";
import type { Head } from "../server/request_head.ts";

/** The format of the access log. `text`: time, client, request and result; `verbose`: more fields. */
export type LogFormat = "text" | "verbose" | "json" | "none";

/** Formats a log line for a response. `began`: when its request had arrived, by `performance.now()`. */
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
  const time = new Date().toISOString();
  if (format === "json") {
    return JSON.stringify({ time, client, method, target, status, bytes, way, problem, ms, range, agent });
  }
  const outcome = `${status} ${bytes} ${way}${problem ? ` (${problem})` : ""}`;
  const line = `${time.slice(0, 19)}Z ${client ?? "-"} ${method} ${printable(target)} ${outcome}`;
  if (format === "text") return line;
  const more = [`${ms.toFixed(1)}ms`, range ?? "-", `"${agent ?? "-"}"`];
  return `${line} ${more.map((text) => printable(text, " ")).join(" ")}`;
}
