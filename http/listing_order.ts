import { sortInTurns } from "./in_turns.ts";
import type { Entry } from "./listing_entry.ts";

/** The columns that a listing can be sorted by. */
export type SortKey = "name" | "size" | "date";

/** How a listing is shown, according to the query of its URL. */
export interface View {
  readonly sort: SortKey;
  readonly descending: boolean;
  /** From 1 on. A number above the last page means the last page. */
  readonly page: number;
}

const KEYS: readonly string[] = ["name", "size", "date"] satisfies SortKey[];

/**
 * Whether the first click on a column's head sorts it in descending order: names start at A, sizes at the largest,
 * dates at the newest.
 */
export function descendsAtFirst(sort: SortKey): boolean {
  return sort !== "name";
}

/** Parses `?sort=name|size|date&order=asc|desc&page=N` and ignores everything else. */
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

/** The query that {@link viewOf} parses. */
export function queryOf({ sort, descending, page }: View): string {
  return `?sort=${sort}&order=${descending ? "desc" : "asc"}${page > 1 ? `&page=${page}` : ""}`;
}

/** Compares names in natural order: file2 before file10. */
const ORDER = new Intl.Collator("en", { numeric: true });

/** Sorts the entries. Directories always come first. */
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

/** Compares by name. Names that the collator considers equal (1 and 01) still get a fixed order. */
function byName(a: Entry, b: Entry): number {
  return ORDER.compare(a.name, b.name) || (a.name < b.name ? -1 : 1);
}
