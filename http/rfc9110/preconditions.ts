import { parseHttpDate } from "./date.ts";

/** What a representation is compared by. */
export interface Validators {
  /** The ETag that is sent, with its quotes, `W/` before a weak one; undefined: none is sent. */
  readonly tag: string | undefined;
  /** The Last-Modified that is sent, whole seconds since 1970; undefined: none is sent, or no date. */
  readonly modified: number | undefined;
}

/** A request's header field by its name in lower case. */
export type Field = (name: string) => string | null | undefined;

/** The next entity tag of a list: opaque text in quotes, which may hold commas, and of some callers spaces. */
const NEXT_TAG = /[ \t,]*(W\/)?("[\x20\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)/y;

/**
 * The status that a request's preconditions lead to: 412 or 304 in place of the representation, or 200 where it is to
 * be sent. In the order of RFC 9110, 13.2.2; for GET and HEAD.
 */
export function precondition(field: Field, { tag, modified }: Validators): 200 | 304 | 412 {
  const ifMatch = field("if-match");
  if (typeof ifMatch === "string") {
    if (!matches(ifMatch, tag, "strong")) return 412;
  } else {
    const date = dateOf(field, "if-unmodified-since");
    if (date !== undefined && modified !== undefined && modified > date) return 412;
  }
  const ifNoneMatch = field("if-none-match");
  if (typeof ifNoneMatch === "string") {
    if (matches(ifNoneMatch, tag, "weak")) return 304;
  } else {
    const date = dateOf(field, "if-modified-since");
    if (date !== undefined && modified !== undefined && modified <= date) return 304;
  }
  return 200;
}

/**
 * Whether `Range` is to be honoured as far as `If-Range` goes: it is absent, or holds the very tag (strong
 * comparison) or the very date. RFC 9110, 13.1.5.
 */
export function rangeIsCurrent(field: Field, { tag, modified }: Validators): boolean {
  const ifRange = field("if-range");
  if (typeof ifRange !== "string") return true;
  const value = ifRange.trim();
  if (/^(?:W\/)?"/.test(value)) return value === tag && !value.startsWith("W/"); // a weak tag is never strong
  return modified !== undefined && parseHttpDate(value) === modified;
}

/**
 * RFC 9110, 8.8.3.2: the strong comparison fails where either tag is weak; the weak one does not look at `W/`. What
 * follows something that is no tag does not count.
 */
function matches(list: string, tag: string | undefined, comparison: "strong" | "weak"): boolean {
  if (list.trim() === "*") return true;
  if (tag === undefined || (comparison === "strong" && tag.startsWith("W/"))) return false;
  const ours = tag.replace(/^W\//, "");
  NEXT_TAG.lastIndex = 0;
  for (let next; (next = NEXT_TAG.exec(list));) {
    const [, weak, opaque] = next;
    if (opaque === ours && !(weak && comparison === "strong")) return true;
  }
  return false;
}

function dateOf(field: Field, name: string): number | undefined {
  const value = field(name);
  return typeof value === "string" ? parseHttpDate(value.trim()) : undefined;
}
