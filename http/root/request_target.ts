import { join, resolve, sep } from "node:path";
import * as fs from "node:fs";
import process from "node:process";
import { libc } from "../../ffi/load.ts";
import { exactFileId, isSameFile } from "../../ffi/file_id.ts";
import { BAD_REQUEST, failure, type HttpFailure, NOT_FOUND, type OpenFile, openFile } from "./open_file.ts";
import { RecentMap } from "../../recent_map.ts";
import { lastSeen, saw } from "./real_path_cache.ts";
import { cachedFile, isHot, keepFile } from "./small_file_cache.ts";
import { isDeno } from "../../runtime.ts";

/** A parsed request target. */
export interface Target {
  readonly kind: "target";
  /** The path as the client sent it, including `urlRoot`: a redirect is relative to it. */
  readonly path: string;
  /**
   * The names below `urlRoot`, decoded once, each on its own, so that an encoded separator cannot turn one name into
   * two.
   */
  readonly names: readonly string[];
  /** Whether the path ends in a slash, as for a directory. */
  readonly slash: boolean;
  /** `?` and the query, or "". */
  readonly query: string;
}

/** The part of an absolute-form target before its path (RFC 9112, 3.2.2; RFC 3986, 3; Deno uses `http+unix:`). */
const AUTHORITY = /^[a-z][a-z0-9+.-]*:\/\/(?:[\w.~!$&'()*+,;=:%-]*@)?[\w.~!$&'()*+,;=:%[\]-]*(?=[/?]|$)/i;

const PATH = /^([^?#]*)(\?[^#]*)?/;

/** Parses a request target (or URL). `urlRoot`: decoded names that the path must start with; they are removed. */
export function parseTarget(target: string, urlRoot: readonly string[] = []): Target | HttpFailure {
  const start = target.startsWith("/") ? 0 : AUTHORITY.exec(target)?.[0].length;
  if (start === undefined) return BAD_REQUEST;
  const [, path, query = ""] = PATH.exec(target.slice(start))!;
  const [first, ...parts] = (path || "/").split("/");
  if (first !== "") return BAD_REQUEST;
  const slash = /(?:^|\/)\.?$/.test(path);
  if (parts.at(-1) === "") parts.pop();
  const names: string[] = [];
  for (const part of parts) {
    const name = decode(part);
    if (name === undefined) return BAD_REQUEST;
    // RFC 3986, 5.2.4; apt asks for /./Packages. An empty name is a doubled slash.
    if (name !== "." && name !== "") names.push(name);
  }
  if (urlRoot.some((name, i) => names[i] !== name)) return NOT_FOUND;
  return { kind: "target", path: path || "/", names: names.slice(urlRoot.length), slash, query };
}

/** Decodes one name of a path; undefined if it is malformed, is not UTF-8 or contains NUL. */
function decode(name: string): string | undefined {
  if (!name.includes("%")) return name.includes("\0") ? undefined : name;
  try {
    const decoded = decodeURIComponent(name);
    return decoded.includes("\0") ? undefined : decoded;
  } catch {
    return undefined;
  }
}

/** A file inside the root, and the names that lead to it. */
export interface InsideFile extends OpenFile {
  readonly names: readonly string[];
}

/** A directory inside the root. */
export interface Directory {
  readonly kind: "directory";
  readonly path: string;
}

/**
 * Opens the file or finds the directory that `names` lead to below the directory `root`.
 *
 * THIS IS THE SECURITY BOUNDARY of everything that serves a directory. Whatever a client sends, this function never
 * returns a file outside of `root`, a dotfile (except `.well-known`, and unless `dotfiles` is set) or anything but a
 * regular file, and nothing below `root` is opened in another way. A name that could climb (`..`) is rejected and not
 * resolved. Then the path is opened, and the descriptor itself, the one that is sent, must lie below the real path of
 * `root`: so it does not matter if a symlink is swapped meanwhile.
 *
 * If the system does not reveal a descriptor's path (see `pathOf`), the path is resolved instead, and compared before
 * and after. Then a process that can write below `root` could still win a race.
 *
 * A file that was found there less than a second ago is not looked up again (real_path_cache.ts).
 *
 * A file of at most `largestCached` bytes that is requested often may be returned with its bytes and without a descriptor
 * (small_file_cache.ts).
 *
 * `followSymlinks` drops the check of the descriptor's path, for roots that consist of symlinks: then symlinks may lead
 * anywhere, but names still cannot.
 *
 * A file that may not be read is a 404: the response must not reveal anything about files outside of the root.
 */
export function openInside(
  root: string,
  names: readonly string[],
  dotfiles: boolean,
  followSymlinks = false,
  largestCached = 0,
): InsideFile | Directory | HttpFailure {
  if (!names.every((name) => isPlain(name, dotfiles))) return NOT_FOUND;
  const path = join(root, ...names);
  // With `followSymlinks` a file may lie outside of the root, as if the path were the caller's own.
  const within = followSymlinks ? undefined : root;
  const cached = cachedFile(path, largestCached, within);
  if (cached) return { ...cached, names };
  const found = openFile(path);
  if (found.kind === "failure") return found;
  try {
    const hot = found.kind === "file" && found.size <= largestCached && isHot(path);
    const known = found.kind === "file" && !followSymlinks && !hot ? lastSeen(root, path, found) : undefined;
    const told = known ?? pathOf(found.fd);
    const real = told ?? pathOfSame(found.fd, path);
    if (real !== undefined && (known !== undefined || followSymlinks || isInside(real, root))) {
      if (found.kind === "file") {
        if (known === undefined && told !== undefined && !followSymlinks) saw(root, path, found, real);
        const kept = hot ? keepFile(path, { ...found, real }, largestCached, within) : undefined;
        return { ...(kept ?? found), real, names };
      }
      fs.closeSync(found.fd);
      return { kind: "directory", path };
    }
  } catch (error) {
    fs.closeSync(found.fd);
    return failure(error);
  }
  fs.closeSync(found.fd);
  return NOT_FOUND;
}

/** Whether a name denotes an entry directly inside its directory (no `..`, no separator) and is not hidden. */
export function isPlain(name: string, dotfiles: boolean): boolean {
  if (name === "" || name === "." || name === "..") return false;
  if (/[/\\\0]/.test(name)) return false;
  return dotfiles || !name.startsWith(".") || name === ".well-known";
}

/** Whether a path without symlinks is `root` or below it. */
function isInside(real: string, root: string): boolean {
  return isBelow(real, realRoot(root)) || isBelow(real, realRoot(root, true));
}

function isBelow(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** The real path of each root. Bounded, because an application may derive roots from its users' names. */
const realRoots = new RecentMap<string, string>(1000);

/**
 * The real path of a root, from the cache unless `anew`. It is resolved anew if a file does not lie below it, because
 * a root that is a symlink may have been changed to point elsewhere (a new release).
 */
function realRoot(root: string, anew = false): string {
  let real = anew ? undefined : realRoots.get(root);
  if (real === undefined) realRoots.set(root, real = fs.realpathSync.native(resolve(root)));
  return real;
}

/** The real path of an open descriptor; undefined if the system does not reveal it. */
function pathOf(fd: number): string | undefined {
  const c = libc();
  if (typeof c !== "string") return c.path(fd);
  // Deno allows reading /proc only with --allow-all, and would prompt otherwise.
  if (process.platform !== "linux" || isDeno) return undefined;
  return fs.readlinkSync(`/proc/self/fd/${fd}`);
}

/** The real path of `path`, if it is still the file that `fd` refers to. */
function pathOfSame(fd: number, path: string): string | undefined {
  const real = fs.realpathSync.native(path);
  const opened = fs.fstatSync(fd, { bigint: true });
  const seen = fs.lstatSync(real, { bigint: true });
  // Deno rounds inode numbers above 2^53, where neighbours compare equal: for them the change time (ctime) must match
  // too.
  const exact = exactFileId(opened.dev, opened.ino) !== undefined;
  const same = isSameFile(opened, seen) && (exact || opened.ctimeNs === seen.ctimeNs);
  return same && fs.realpathSync.native(path) === real ? real : undefined;
}
