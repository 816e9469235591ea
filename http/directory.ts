import { quality } from "./rfc9110/quality.ts";
import {
  planFailure,
  planFile,
  planMethod,
  planRedirect,
  type RequestHead,
  type ResponsePlan,
} from "./file_response.ts";
import { closeFile, FORBIDDEN, type HttpFailure, NOT_FOUND, type OpenFile } from "./root/open_file.ts";
import { planListing } from "./listing.ts";
import { locationOf } from "./location.ts";
import { warnOfMissingRoot } from "./root/missing_root.ts";
import { largestCached, type ResolvedDirectoryOptions } from "./options.ts";
import { type Directory, type InsideFile, isPlain, openInside, type Target } from "./root/request_target.ts";

/** The response plan for a request below `root`. */
export function planDirectory(
  requestHead: RequestHead,
  resolved: ResolvedDirectoryOptions,
  root: string,
  target: Target | HttpFailure,
): ResponsePlan | Promise<ResponsePlan> {
  const other = planMethod(requestHead, resolved);
  if (other) return other;
  if (target.kind === "failure") return planFailure(requestHead, resolved, target);
  const { names, slash } = target;
  let found = openNamed(root, names, resolved, slash);
  const redirect = redirectFrom(requestHead, resolved, target, found);
  if (redirect) {
    if (found.kind === "file") closeFile(found);
    return redirect;
  }
  if (found.kind === "file" && slash) {
    closeFile(found);
    found = NOT_FOUND;
  }
  if (found.kind === "directory") {
    const index = slash ? openIndex(root, names, resolved) : undefined;
    if (!index && slash && resolved.listing) return planListing(requestHead, resolved, root, target, found);
    found = index ?? NOT_FOUND;
  }
  if (found.kind === "failure" && found.status === 404) {
    warnOfMissingRoot(root);
    if (resolved.deny && isHidden(names)) found = FORBIDDEN;
    else if (resolved.spa && isPage(requestHead, names)) found = asFile(open(root, resolved.spa, resolved));
  }
  if (found.kind === "failure") return planFailure(requestHead, resolved, found);
  const file = found;
  return planFile(requestHead, resolved, file, (ending) => openSibling(root, file, ending, resolved));
}

/**
 * The redirect for a path that is not in its canonical form: a directory without a final slash, a file with one,
 * doubled slashes. A file's path with a final slash counts as missing, so that another handler may take it.
 */
function redirectFrom(
  requestHead: RequestHead,
  resolved: ResolvedDirectoryOptions,
  target: Target,
  { kind }: InsideFile | Directory | HttpFailure,
): ResponsePlan | undefined {
  const { names, path } = target;
  const doubled = path.includes("//");
  const slash = kind === "directory";
  if (kind === "failure" || !resolved.redirect || (!doubled && slash === target.slash)) return undefined;
  if (names.length === 0 && kind === "file") return undefined; // the root is a file
  const plan = planRedirect(requestHead, resolved, locationOf(target, slash));
  return { ...plan, missing: kind === "file" && target.slash };
}

function open(
  root: string,
  names: readonly string[],
  resolved: ResolvedDirectoryOptions,
): InsideFile | Directory | HttpFailure {
  const { dotfiles, followSymlinks } = resolved;
  return openInside(root, names, dotfiles, followSymlinks, largestCached(resolved));
}

function isHidden(names: readonly string[]): boolean {
  return names.every((name) => isPlain(name, true)) && !names.every((name) => isPlain(name, false));
}

/**
 * Opens the file or directory that the names lead to. If there is none, tries the endings of `extensions`, unless the
 * path ends in a slash, which a file's path does not.
 */
function openNamed(
  root: string,
  names: readonly string[],
  resolved: ResolvedDirectoryOptions,
  slash: boolean,
): InsideFile | Directory | HttpFailure {
  const found = open(root, names, resolved);
  if (found.kind !== "failure" || found.status !== 404 || slash || names.length === 0) return found;
  for (const extension of resolved.extensions) {
    if (names.at(-1)!.endsWith(`.${extension}`)) continue; // about.html is not about.html.html
    const other = asFile(open(root, withEnding(names, `.${extension}`), resolved));
    if (other.kind === "file") return other;
  }
  return found;
}

function openIndex(
  root: string,
  names: readonly string[],
  resolved: ResolvedDirectoryOptions,
): InsideFile | undefined {
  for (const name of resolved.index) {
    const found = asFile(open(root, [...names, name], resolved));
    if (found.kind === "file") return found;
  }
  return undefined;
}

function openSibling(
  root: string,
  file: InsideFile,
  ending: string,
  resolved: ResolvedDirectoryOptions,
): OpenFile | undefined {
  const found = asFile(open(root, withEnding(file.names, ending), resolved));
  return found.kind === "file" ? found : undefined;
}

function asFile(found: InsideFile | Directory | HttpFailure): InsideFile | HttpFailure {
  return found.kind === "directory" ? NOT_FOUND : found;
}

function withEnding(names: readonly string[], ending: string): string[] {
  return [...names.slice(0, -1), names.at(-1) + ending];
}

/**
 * Whether a missing path is a route of a single-page application: its last name has no dot, and the client accepts
 * HTML.
 */
function isPage({ field }: RequestHead, names: readonly string[]): boolean {
  if (names.at(-1)?.includes(".")) return false;
  const accept = field("accept");
  return !accept || (quality(accept, "text/html", ["text/*", "*/*"]) ?? 0) > 0;
}
