import * as fs from "node:fs";
import { quality } from "./accept.ts";
import { type Answer, answerFile, answerMethod, answerRefusal, answerText, type Asked } from "./answer.ts";
import { NOT_FOUND, type OpenFile, type Refusal } from "./file.ts";
import { answerListing } from "./listing.ts";
import type { DirectoryRules } from "./options.ts";
import { type Directory, type InsideFile, openInside, type Target } from "./paths.ts";

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
  let found = openNamed(root, names, slash, rules);
  if (found.kind === "directory") {
    if (!slash) return answerText(asked, rules, 301, { Location: withSlash(target) });
    const index = openIndex(root, names, rules);
    if (!index && rules.listing) return answerListing(asked, rules, root, target, found);
    found = index ?? NOT_FOUND;
  }
  if (found.kind === "refusal" && found.status === 404 && rules.spa && isPage(asked, names)) {
    found = asFile(openInside(root, rules.spa, rules.dotfiles));
  }
  if (found.kind === "refusal") return answerRefusal(asked, rules, found);
  const file = found;
  return answerFile(asked, rules, file, (ending) => openSibling(root, file, ending, rules));
}

/** What the names lead to, or else with an ending of `extensions`. A file's path does not end in a slash. */
function openNamed(
  root: string,
  names: readonly string[],
  slash: boolean,
  { dotfiles, extensions }: DirectoryRules,
): InsideFile | Directory | Refusal {
  const found = openInside(root, names, dotfiles);
  if (found.kind === "file" && slash) {
    fs.closeSync(found.fd);
    return NOT_FOUND;
  }
  if (found.kind !== "refusal" || found.status !== 404 || slash) return found;
  for (const extension of extensions) {
    const other = asFile(openInside(root, withEnding(names, `.${extension}`), dotfiles));
    if (other.kind === "file") return other;
  }
  return found;
}

function openIndex(root: string, names: readonly string[], rules: DirectoryRules): InsideFile | undefined {
  for (const name of rules.index) {
    const found = asFile(openInside(root, [...names, name], rules.dotfiles));
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
  const found = asFile(openInside(root, withEnding(file.names, ending), rules.dotfiles));
  return found.kind === "file" ? found : undefined;
}

function asFile(found: InsideFile | Directory | Refusal): InsideFile | Refusal {
  return found.kind === "directory" ? NOT_FOUND : found;
}

function withEnding(names: readonly string[], ending: string): string[] {
  return [...names.slice(0, -1), names.at(-1) + ending];
}

/** The path of the directory, without `.`; it starts with one slash, as two would be another host's URL. */
function withSlash({ path, query }: Target): string {
  const plain = path.replace(/\/(?:\.|%2e)(?=\/|$)/gi, "").replace(/^[/\\]+/, "/");
  return `${plain}/${query}`;
}

/** Whether a missing path is one of an application's own: no dot in its last name, and HTML is taken for it. */
function isPage({ field }: Asked, names: readonly string[]): boolean {
  if (names.at(-1)?.includes(".")) return false;
  const accept = field("accept");
  return !accept || (quality(accept, "text/html", ["text/*", "*/*"]) ?? 0) > 0;
}
