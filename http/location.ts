import type { Target } from "./root/request_target.ts";

/**
 * The relative reference from a request's path to the same path with single slashes, and with or without a final
 * slash. It cannot lead to another host, and stays correct behind a proxy that removes a prefix of the path.
 *
 * Source: RFC 3986, 4.2 and 5.2; RFC 9110, 10.2.2.
 */
export function locationOf({ path, query }: Pick<Target, "path" | "query">, slash: boolean): string {
  const directories = path.split("/").slice(1).filter((segment) => !isDot(segment));
  const last = isDot(path.slice(path.lastIndexOf("/") + 1)) ? "" : directories.pop() ?? "";
  const names = [...directories, last].filter((name) => name !== "");
  const tail = slash ? "" : names.pop() ?? "";
  let common = 0;
  while (common < directories.length && directories[common] === names[common]) common++;
  const up = "../".repeat(directories.length - common);
  const down = names.slice(common).map((name) => `${name}/`).join("");
  const reference = `${up}${down}${tail}` || "./";
  // "a:b/" alone would be a URL with the scheme "a".
  const start = reference.split("/", 1)[0].includes(":") ? "./" : "";
  return toAscii(`${start}${reference}${query}`);
}

/** Whether a segment is `.`, also in the encoded form `%2e`, which clients resolve too (URL standard, 4.1). */
function isDot(segment: string): boolean {
  return segment === "." || segment.toLowerCase() === "%2e";
}

const utf8 = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true });

/** Percent-encodes, in UTF-8, the characters that a reference must not contain (RFC 3986, 2). */
function toAscii(reference: string): string {
  const text = decodeBytes(reference);
  return text.replace(
    /[^\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]+/g,
    (part) => Array.from(utf8.encode(part), percent).join(""),
  );
}

function percent(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
}

/** node:http decodes a target as Latin-1. Decodes it as UTF-8 instead, if its bytes are valid UTF-8. */
function decodeBytes(text: string): string {
  // deno-lint-ignore no-control-regex
  if (!/[\x80-\xff]/.test(text) || /[^\x00-\xff]/.test(text)) return text;
  try {
    return strict.decode(Uint8Array.from(text, (character) => character.charCodeAt(0)));
  } catch {
    return text;
  }
}
