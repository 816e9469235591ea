import { parseHttpDate } from "./date.ts";

/** What a representation is compared by. */
export interface Validators {
  /** A strong entity tag, with its quotes. */
  readonly tag: string;
  /** The last modification, whole seconds since 1970. */
  readonly modified: number;
}

/** A request's header field by its name in lower case. */
export type Field = (name: string) => string | null | undefined;

/** An entity tag of a list: opaque text in quotes, which may hold commas. */
const TAGS = /(W\/)?("[\x21\x23-\x7e\x80-\xff]*")/g;

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
    if (date !== undefined && modified > date) return 412;
  }
  const ifNoneMatch = field("if-none-match");
  if (typeof ifNoneMatch === "string") {
    if (matches(ifNoneMatch, tag, "weak")) return 304;
  } else {
    const date = dateOf(field, "if-modified-since");
    if (date !== undefined && modified <= date) return 304;
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
  return ifRange.trim() === tag || parseHttpDate(ifRange.trim()) === modified;
}

/** RFC 9110, 8.8.3.2: the strong comparison fails for a weak tag; the weak one does not look at `W/`. */
function matches(list: string, tag: string, comparison: "strong" | "weak"): boolean {
  if (list.trim() === "*") return true;
  for (const [, weak, opaque] of list.matchAll(TAGS)) {
    if (opaque === tag && !(weak && comparison === "strong")) return true;
  }
  return false;
}

function dateOf(field: Field, name: string): number | undefined {
  const value = field(name);
  return typeof value === "string" ? parseHttpDate(value.trim()) : undefined;
}
