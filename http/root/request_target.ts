import { join, resolve, sep } from "node:path";
import * as fs from "node:fs";
import process from "node:process";
import { libc } from "../../ffi/load.ts";
import { exactFileId, isSameFile } from "../../ffi/file_id.ts";
import { BAD_REQUEST, failure, type HttpFailure, NOT_FOUND, type OpenFile, openFile } from "./open_file.ts";
import { RecentMap } from "../../recent_map.ts";
import { lastSeen, saw } from "./real_path_cache.ts";

/** A request target, taken apart. */
export interface Target {
  readonly kind: "target";
  /** Its path as the client sent it, with `urlRoot`: what a redirect is relative to. */
  readonly path: string;
  /** The names below `urlRoot`, decoded once, each on its own: no encoded separator makes two names of one. */
  readonly names: readonly string[];
  /** Whether it ends in a slash, as the path of a directory does. */
  readonly slash: boolean;
  /** `?` and what follows, or nothing. */
  readonly query: string;
}

/** What the absolute form has before its path (RFC 9112, 3.2.2; RFC 3986, 3; `http+unix:` is Deno's). */
const AUTHORITY = /^[a-z][a-z0-9+.-]*:\/\/(?:[\w.~!$&'()*+,;=:%-]*@)?[\w.~!$&'()*+,;=:%[\]-]*(?=[/?]|$)/i;

const PATH = /^([^?#]*)(\?[^#]*)?/;

/** Takes a request's target (or URL) apart. `urlRoot`: decoded names that it must start with, and that are taken off. */
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

/** One name of a path; undefined where it is malformed or not UTF-8, or holds NUL. */
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
 * THIS IS THE SECURITY BOUNDARY of all that serves a directory: whatever a client sends, no byte of a file outside of
 * `root`, of a dotfile (`.well-known` excepted, unless `dotfiles`) or of anything but a regular file gets past it, and
 * nothing below `root` is opened in another way. A name that could climb is refused and not resolved; then the path is
 * opened, and the descriptor that came of it, the one that is sent, must lie below the real path of `root`: so it does
 * not matter which symlink was swapped when.
 *
 * Where the system does not tell a descriptor's path (see `pathOf`) it is found by the path instead, before and
 * after; then who can write below `root` could still win a race.
 *
 * The very file that was seen there less than a second ago is not looked up again (seen.ts).
 *
 * `followSymlinks` gives up the last of it, for roots that are made of links: then symlinks lead anywhere, names alone
 * still cannot.
 *
 * What may not be read is not found: the answer tells nothing about what is outside.
 */
export function openInside(
  root: string,
  names: readonly string[],
  dotfiles: boolean,
  followSymlinks = false,
): InsideFile | Directory | HttpFailure {
  if (!names.every((name) => isPlain(name, dotfiles))) return NOT_FOUND;
  const path = join(root, ...names);
  const found = openFile(path);
  if (found.kind === "failure") return found;
  try {
    // What was seen below a root whose links are followed may be anywhere.
    const known = found.kind === "file" && !followSymlinks ? lastSeen(root, path, found) : undefined;
    const told = known ?? pathOf(found.fd);
    const real = told ?? pathOfSame(found.fd, path);
    if (real !== undefined && (known !== undefined || followSymlinks || isInside(real, root))) {
      if (found.kind === "file") {
        if (known === undefined && told !== undefined && !followSymlinks) saw(root, path, found, real);
        return { ...found, real, names };
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

/** Whether a name stands for something directly inside its directory, and is to be seen. */
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

/** An application may make roots of its users' names. */
const realRoots = new RecentMap<string, string>(1000);

/**
 * The real path of a root, as it was when it was last asked for anew: that is done where something does not lie below
 * it, as a root that is a symlink may have been pointed elsewhere (a new release).
 */
function realRoot(root: string, anew = false): string {
  let real = anew ? undefined : realRoots.get(root);
  if (real === undefined) realRoots.set(root, real = fs.realpathSync.native(resolve(root)));
  return real;
}

/** The real path of an open descriptor; undefined where the system does not tell. */
function pathOf(fd: number): string | undefined {
  const c = libc();
  if (typeof c !== "string") return c.path(fd);
  // Deno gives /proc to nobody with less than --allow-all, and would prompt.
  if (process.platform !== "linux" || "Deno" in globalThis) return undefined;
  return fs.readlinkSync(`/proc/self/fd/${fd}`);
}

/** The real path of `path`, where it is still what `fd` was opened as. */
function pathOfSame(fd: number, path: string): string | undefined {
  const real = fs.realpathSync.native(path);
  const opened = fs.fstatSync(fd, { bigint: true });
  const seen = fs.lstatSync(real, { bigint: true });
  // Deno rounds inode numbers above 2^53: there the time of the last change must tell neighbours apart.
  const exact = exactFileId(opened.dev, opened.ino) !== undefined;
  const same = isSameFile(opened, seen) && (exact || opened.ctimeNs === seen.ctimeNs);
  return same && fs.realpathSync.native(path) === real ? real : undefined;
}
