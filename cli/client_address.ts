import { isIP } from "node:net";
import type { Field } from "../http/rfc9110/preconditions.ts";

/**
 * The client's address as the proxy in front reports it, or `peer` (the proxy) if the report is missing or ambiguous.
 *
 * A proxy appends the address it sees to what the client may have sent itself, so the last address counts, in
 * `X-Forwarded-For` or in `Forwarded` (RFC 7239). A proxy that writes one of the fields forwards the other as the
 * client sent it, so if both are present and disagree, neither is trusted.
 */
export function clientBehindProxy(peer: string | undefined, field: Field): string | undefined {
  const forwarded = field("forwarded");
  const list = field("x-forwarded-for");
  if (!forwarded) return (list && addressOf(lastOf(list))) || peer;
  const named = forOf(lastOf(forwarded));
  if (list && addressOf(lastOf(list)) !== named) return peer;
  return named ?? peer;
}

/** The last element of a list, in which quoted strings may contain commas. */
function lastOf(list: string): string {
  return split(list, ",").at(-1)!;
}

/** Splits at separators outside of quoted strings (RFC 9110, 5.6.4). */
function split(text: string, separator: string): string[] {
  const parts = [""];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '"') quoted = !quoted;
    if (text[i] === separator && !quoted) parts.push("");
    else parts[parts.length - 1] += quoted && text[i] === "\\" ? text[i] + (text[++i] ?? "") : text[i];
  }
  return parts;
}

/** The address in the parameter `for` of an element of `Forwarded`. */
function forOf(element: string): string | undefined {
  for (const pair of split(element, ";")) {
    const [, node] = /^\s*for\s*=\s*(.*?)\s*$/i.exec(pair) ?? [];
    if (node !== undefined) return addressOf(node.replace(/^"(.*)"$/, "$1").replace(/\\(.)/g, "$1"));
  }
  return undefined;
}

/**
 * Extracts an IP address and drops its port. "unknown" and the obfuscated identifiers of RFC 7239, 6.3, are not
 * addresses.
 */
function addressOf(text: string): string | undefined {
  const node = text.trim();
  const [, host] = /^\[(.*)\](?::\d+)?$/.exec(node) ?? /^([^:]*)(?::\d+)?$/.exec(node) ?? [node, node];
  return isIP(host) ? host : undefined;
}
