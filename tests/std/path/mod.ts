/** Stand-in for `jsr:@std/path` on machines that cannot reach JSR: the functions in use, over node:path. */
import { fileURLToPath } from "node:url";

export { extname, join, relative, resolve, SEPARATOR } from "./separator.ts";

/** The path of a `file:` URL. */
export function fromFileUrl(url: string | URL): string {
  return fileURLToPath(url);
}
