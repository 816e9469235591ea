import type { IncomingMessage } from "node:http";
import { printable } from "../http/printable.ts";
import type { Sent } from "../http/node.ts";

/** How requests are logged. `verbose`: the text with more of it. */
export type LogFormat = "text" | "verbose" | "json" | "none";

/** One line for the log about a response. `ms`: how long it took. */
export function logLine(
  format: Exclude<LogFormat, "none">,
  { method = "", url = "", headers, socket }: IncomingMessage,
  { status, bytes, way, problem }: Sent,
  ms: number,
): string {
  const { range, "user-agent": agent } = headers;
  const client = socket?.remoteAddress;
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
