import { join, SEPARATOR } from "@std/path";
import * as fs from "node:fs";

/** A regular file, open for reading. Who gets it closes `fd`. */
export interface OpenFile {
  readonly fd: number;
  /** Its real path: no symlinks are left in it. */
  readonly path: string;
  readonly size: number;
  /** Milliseconds since 1970 of the last modification. */
  readonly modified: number;
}

/** What a request target leads to. `problem`: what only the log is to say. */
export type Found =
  | { readonly status: 200; readonly file: OpenFile }
  | { readonly status: 301; readonly location: string }
  | { readonly status: 400 | 404 | 500 | 503; readonly problem?: string };

const INDEX = "index.html";

const NOT_FOUND: Found = { status: 404 };

/** Origin form or absolute form (RFC 9112, 3.2) in its path and its query. */
const TARGET = /^(?:https?:\/\/[^/?#]*)?([^?#]*)(\?[^#]*)?/i;

// Only the descriptor of a FIFO would be opened without a writer; a regular file does not know the flag.
const FLAGS = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0) | (fs.constants.O_NOFOLLOW ?? 0);

/**
 * Opens the file below `root` that a request's target names, or its directory's index.html.
 *
 * THIS IS THE SECURITY BOUNDARY of the file server: whatever a client sends, no byte of a file outside of `root`, of
 * a dotfile (`.well-known` excepted) or of anything but a regular file gets past it. Each name is decoded once, on
 * its own, so that no encoded separator makes two names of one; what could climb is refused and not resolved; the
 * real path, symlinks followed, must be below `root`; and the opened descriptor must be the very file seen there.
 * Only who can write inside `root` while it is served could win the race between those steps.
 *
 * `root` must be a real path (`fs.realpathSync`). What may not be read is not found: the answer tells nothing about
 * what is outside.
 */
export function openInside(root: string, target: string): Found {
  const [, path, query = ""] = TARGET.exec(target)!;
  const [first, ...parts] = (path || "/").split("/");
  if (first !== "") return { status: 400 };
  const names = parts.map(decode);
  if (names.includes(undefined)) return { status: 400 };
  const slash = names.at(-1) === "";
  if (slash) names.pop();
  if (!(names as string[]).every(isPlain)) return NOT_FOUND;
  try {
    let real = realPath(root, names as string[]);
    if (real === undefined) return NOT_FOUND;
    let seen = fs.lstatSync(real);
    if (seen.isDirectory()) {
      // The path starts with one slash and a plain name, so this can never be taken for another host's URL.
      if (!slash) return { status: 301, location: `${path}/${query}` };
      real = realPath(root, [...names as string[], INDEX]);
      if (real === undefined) return NOT_FOUND;
      seen = fs.lstatSync(real);
    } else if (slash) return NOT_FOUND;
    // Not opened at all: the open of a FIFO or a device can have effects of its own.
    return seen.isFile() ? open(real, seen) : NOT_FOUND;
  } catch (error) {
    return refusal(error);
  }
}

/** One name of a path; undefined where it is malformed or not UTF-8, or holds NUL. */
function decode(name: string): string | undefined {
  try {
    const decoded = decodeURIComponent(name);
    return decoded.includes("\0") ? undefined : decoded;
  } catch {
    return undefined;
  }
}

/** Whether a name stands for something directly inside its directory, and is to be seen. */
function isPlain(name: string): boolean {
  if (name === "" || name === "." || name === "..") return false;
  if (/[/\\]/.test(name)) return false;
  return !name.startsWith(".") || name === ".well-known";
}

/** The real path, where it is `root` or below it. */
function realPath(root: string, names: string[]): string | undefined {
  const real = fs.realpathSync.native(join(root, ...names));
  const prefix = root.endsWith(SEPARATOR) ? root : root + SEPARATOR;
  return real === root || real.startsWith(prefix) ? real : undefined;
}

function open(path: string, seen: fs.Stats): Found {
  const fd = fs.openSync(path, FLAGS);
  try {
    const stat = fs.fstatSync(fd);
    if (stat.isFile() && stat.dev === seen.dev && stat.ino === seen.ino) {
      return { status: 200, file: { fd, path, size: stat.size, modified: stat.mtimeMs } };
    }
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
  fs.closeSync(fd);
  return NOT_FOUND;
}

/** What the system's error means to the client. Its text names paths and is not for it. */
function refusal(error: unknown): Found {
  const { code, name } = error as { code?: string; name?: string };
  const known = code ?? name ?? "unknown";
  switch (known) {
    case "ENOENT":
    case "ENOTDIR":
    case "ELOOP":
    case "EACCES":
    case "EPERM":
    case "NotCapable": // outside of what Deno's --allow-read names
      return NOT_FOUND;
    case "ENAMETOOLONG":
      return { status: 400 };
    case "EMFILE":
    case "ENFILE":
      return { status: 503, problem: known };
    default:
      return { status: 500, problem: known };
  }
}
