/** One line of a listing. */
export interface Entry {
  readonly name: string;
  readonly type: "directory" | "file";
  /** Bytes, of a file. */
  readonly size?: number;
  /** The last modification, in milliseconds since 1970; 0 where `Date` has no such time. */
  readonly time: number;
  /** The same in ISO 8601; undefined where that has no form for it (RFC 3339, 1: years 0 to 9999). */
  readonly modified?: string;
  /** The permission bits. */
  readonly mode: number;
}
