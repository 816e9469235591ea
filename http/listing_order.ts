import { sortInTurns } from "./in_turns.ts";
import type { Entry } from "./listing_entry.ts";

/** What a listing can be sorted by. */
export type SortKey = "name" | "size" | "date";

/** How a listing is shown, as the query of its URL says. */
export interface View {
  readonly sort: SortKey;
  readonly descending: boolean;
  /** From 1 on; one behind the last stands for the last. */
  readonly page: number;
}

const KEYS: readonly string[] = ["name", "size", "date"] satisfies SortKey[];

/** The way a column is sorted where its head is followed first: names from A, and what is largest or newest. */
export function descendsAtFirst(sort: SortKey): boolean {
  return sort !== "name";
}

/** Reads `?sort=name|size|date&order=asc|desc&page=N`; what is none of that is not looked at. */
export function viewOf(query: string): View {
  const fields = new URLSearchParams(query);
  const named = fields.get("sort") ?? "";
  const sort = KEYS.includes(named) ? named as SortKey : "name";
  const order = fields.get("order");
  const page = fields.get("page") ?? "";
  return {
    sort,
    descending: order === "desc" || (order !== "asc" && descendsAtFirst(sort)),
    page: /^[1-9]\d{0,8}$/.test(page) ? Number(page) : 1,
  };
}

/** The query that {@link viewOf} reads. */
export function queryOf({ sort, descending, page }: View): string {
  return `?sort=${sort}&order=${descending ? "desc" : "asc"}${page > 1 ? `&page=${page}` : ""}`;
}

/** Names in the order that people expect: file2 before file10. */
const ORDER = new Intl.Collator("en", { numeric: true });

/** The entries in that order, directories first whichever it is. */
export function sorted(entries: Entry[], { sort, descending }: View): Promise<Entry[]> {
  const sign = descending ? -1 : 1;
  return sortInTurns(entries, (a, b) => {
    if (a.type !== b.type) return a.type < b.type ? -1 : 1;
    const difference = sort === "name" ? 0 : valueOf(a, sort) - valueOf(b, sort);
    return difference === 0 ? (sort === "name" ? sign : 1) * byName(a, b) : sign * difference;
  });
}

function valueOf({ size = 0, time }: Entry, sort: "size" | "date"): number {
  return sort === "size" ? size : time;
}

/** Of names that the collator takes for the same (1 and 01) always the same one first. */
function byName(a: Entry, b: Entry): number {
  return ORDER.compare(a.name, b.name) || (a.name < b.name ? -1 : 1);
}
