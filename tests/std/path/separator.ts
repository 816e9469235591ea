import { sep } from "node:path";

export { extname, join, relative, resolve } from "node:path";
/** The character between the parts of a path. */
export const SEPARATOR: string = sep;
