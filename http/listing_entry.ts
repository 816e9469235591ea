/** One line of a listing. */
export interface Entry {
  readonly name: string;
  readonly type: "directory" | "file";
  /** Bytes; files only. */
  readonly size?: number;
  /** The last modification in milliseconds since 1970; 0 if it is outside the range of `Date`. */
  readonly time: number;
  /** The same in ISO 8601; undefined if the year is not 0 to 9999 (RFC 3339, 1). */
  readonly modified?: string;
  /** The permission bits. */
  readonly mode: number;
}
