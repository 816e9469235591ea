import { parseHttpDate } from "./date.ts";

/** The validators of a representation. */
export interface Validators {
  /** The ETag that is sent, with its quotes, `W/` before a weak one; undefined: none is sent. */
  readonly tag: string | undefined;
  /**
   * The Last-Modified that is sent, in whole seconds since 1970; undefined: none is sent, or it is not a valid date.
   */
  readonly modified: number | undefined;
}

/** A request's header field by its name in lower case. */
export type Field = (name: string) => string | null | undefined;

/**
 * The next entity tag of a list: opaque text in quotes, which may contain commas, and spaces if a caller put them
 * there.
 */
const NEXT_TAG = /[ \t,]*(W\/)?("[\x20\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)/y;

/**
 * Evaluates the preconditions of a GET or HEAD in the order of RFC 9110, 13.2.2: 412 or 304, or 200 if the
 * representation is to be sent.
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
 * Whether `If-Range` allows `Range`: it is absent, or has exactly our tag (strong comparison) or exactly our date.
 * RFC 9110, 13.1.5.
 */
export function rangeIsCurrent(field: Field, { tag, modified }: Validators): boolean {
  const ifRange = field("if-range");
  if (typeof ifRange !== "string") return true;
  const value = ifRange.trim();
  if (/^(?:W\/)?"/.test(value)) return value === tag && !value.startsWith("W/"); // a weak tag never matches
  return modified !== undefined && parseHttpDate(value) === modified;
}

/**
 * Whether a list contains `tag`. RFC 9110, 8.8.3.2: the strong comparison fails if either tag is weak; the weak
 * comparison ignores `W/`. Parsing stops at the first thing that is not a tag.
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
