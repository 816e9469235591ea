import { isIP } from "node:net";
import type { Field } from "../http/rfc9110/preconditions.ts";

/**
 * The client that the proxy in front names, or `peer`, the proxy itself, where it names none that is certain.
 *
 * A proxy appends the address it has seen to what the client may have sent itself: so the last one counts, in
 * `X-Forwarded-For` or in `Forwarded` (RFC 7239). A proxy that writes one of the fields passes the other on as the
 * client has sent it: where both are there and do not name the same address, neither is believed.
 */
export function clientBehindProxy(peer: string | undefined, field: Field): string | undefined {
  const forwarded = field("forwarded");
  const list = field("x-forwarded-for");
  if (!forwarded) return (list && addressOf(lastOf(list))) || peer;
  const named = forOf(lastOf(forwarded));
  if (list && addressOf(lastOf(list)) !== named) return peer;
  return named ?? peer;
}

/** The last element of a list, in which a quoted string may hold commas. */
function lastOf(list: string): string {
  return split(list, ",").at(-1)!;
}

/** The parts between separators that stand outside of quoted strings (RFC 9110, 5.6.4). */
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

/** An IP address, without a port behind it. "unknown" and the made-up names of RFC 7239, 6.3, are none. */
function addressOf(text: string): string | undefined {
  const node = text.trim();
  const [, host] = /^\[(.*)\](?::\d+)?$/.exec(node) ?? /^([^:]*)(?::\d+)?$/.exec(node) ?? [node, node];
  return isIP(host) ? host : undefined;
}
