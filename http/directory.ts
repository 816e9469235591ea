import * as fs from "node:fs";
import { quality } from "./rfc9110/quality.ts";
import {
  type Answer,
  answerFile,
  answerMethod,
  answerRedirect,
  answerRefusal,
  type Asked,
} from "./file_response.ts";
import { FORBIDDEN, NOT_FOUND, type OpenFile, type Refusal } from "./root/open_file.ts";
import { answerListing } from "./listing.ts";
import { locationOf } from "./location.ts";
import { warnOfMissingRoot } from "./root/missing_root.ts";
import type { DirectoryRules } from "./options.ts";
import { type Directory, type InsideFile, isPlain, openInside, type Target } from "./root/request_target.ts";

/** The answer to a request for something below `root`. */
export function answerDirectory(
  asked: Asked,
  rules: DirectoryRules,
  root: string,
  target: Target | Refusal,
): Answer | Promise<Answer> {
  const other = answerMethod(asked, rules);
  if (other) return other;
  if (target.kind === "refusal") return answerRefusal(asked, rules, target);
  const { names, slash } = target;
  let found = openNamed(root, names, rules, slash);
  const redirect = redirectFrom(asked, rules, target, found);
  if (redirect) {
    if (found.kind === "file") fs.closeSync(found.fd);
    return redirect;
  }
  if (found.kind === "file" && slash) {
    fs.closeSync(found.fd);
    found = NOT_FOUND;
  }
  if (found.kind === "directory") {
    const index = slash ? openIndex(root, names, rules) : undefined;
    if (!index && slash && rules.listing) return answerListing(asked, rules, root, target, found);
    found = index ?? NOT_FOUND;
  }
  if (found.kind === "refusal" && found.status === 404) {
    warnOfMissingRoot(root);
    if (rules.deny && isHidden(names)) found = FORBIDDEN;
    else if (rules.spa && isPage(asked, names)) found = asFile(open(root, rules.spa, rules));
  }
  if (found.kind === "refusal") return answerRefusal(asked, rules, found);
  const file = found;
  return answerFile(asked, rules, file, (ending) => openSibling(root, file, ending, rules));
}

/**
 * The answer to a path that is spelled in another way than what it leads to: a directory without the slash at its end,
 * a file with one, doubled slashes. Another handler may have the path of a file with a slash as it is.
 */
function redirectFrom(
  asked: Asked,
  rules: DirectoryRules,
  target: Target,
  { kind }: InsideFile | Directory | Refusal,
): Answer | undefined {
  const { names, path } = target;
  const doubled = path.includes("//");
  const slash = kind === "directory";
  if (kind === "refusal" || !rules.redirect || (!doubled && slash === target.slash)) return undefined;
  if (names.length === 0 && kind === "file") return undefined; // the root is a file
  const answer = answerRedirect(asked, rules, locationOf(target, slash));
  return { ...answer, missing: kind === "file" && target.slash };
}

function open(
  root: string,
  names: readonly string[],
  { dotfiles, followSymlinks }: DirectoryRules,
): InsideFile | Directory | Refusal {
  return openInside(root, names, dotfiles, followSymlinks);
}

function isHidden(names: readonly string[]): boolean {
  return names.every((name) => isPlain(name, true)) && !names.every((name) => isPlain(name, false));
}

/** What the names lead to, or else with an ending of `extensions`. A file's path does not end in a slash. */
function openNamed(
  root: string,
  names: readonly string[],
  rules: DirectoryRules,
  slash: boolean,
): InsideFile | Directory | Refusal {
  const found = open(root, names, rules);
  if (found.kind !== "refusal" || found.status !== 404 || slash || names.length === 0) return found;
  for (const extension of rules.extensions) {
    if (names.at(-1)!.endsWith(`.${extension}`)) continue; // about.html is not about.html.html
    const other = asFile(open(root, withEnding(names, `.${extension}`), rules));
    if (other.kind === "file") return other;
  }
  return found;
}

function openIndex(root: string, names: readonly string[], rules: DirectoryRules): InsideFile | undefined {
  for (const name of rules.index) {
    const found = asFile(open(root, [...names, name], rules));
    if (found.kind === "file") return found;
  }
  return undefined;
}

function openSibling(
  root: string,
  file: InsideFile,
  ending: string,
  rules: DirectoryRules,
): OpenFile | undefined {
  const found = asFile(open(root, withEnding(file.names, ending), rules));
  return found.kind === "file" ? found : undefined;
}

function asFile(found: InsideFile | Directory | Refusal): InsideFile | Refusal {
  return found.kind === "directory" ? NOT_FOUND : found;
}

function withEnding(names: readonly string[], ending: string): string[] {
  return [...names.slice(0, -1), names.at(-1) + ending];
}

/** Whether a missing path is one of an application's own: no dot in its last name, and HTML is taken for it. */
function isPage({ field }: Asked, names: readonly string[]): boolean {
  if (names.at(-1)?.includes(".")) return false;
  const accept = field("accept");
  return !accept || (quality(accept, "text/html", ["text/*", "*/*"]) ?? 0) > 0;
}
