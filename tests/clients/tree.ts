/** A directory whose listing programs read. */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { MIB, type Site } from "../support/site.ts";
import { addOld, MODIFIED } from "./programs.ts";

/** Names that a listing could get wrong, as HTML or as a URL. */
export const ODD = [
  `<b>&"'.txt`,
  "%41.txt",
  "ü ñ.txt",
  "#?.txt",
  "&lt;.txt",
  "javascript:alert(1).txt",
  '" onmouseover="alert(1)" x=".txt',
  "+ ;=@$,!*().txt",
  "日本🎉.txt",
];

/** Adds what is to be listed, all of it old. */
export function addTree(site: Site): void {
  for (const name of ["file10.txt", "file2.txt", "dir10/x.txt", "dir2/x.txt", "a & b/ü.txt", ...ODD]) {
    addOld(site, `tree/${name}`, randomBytes(100));
  }
  addOld(site, "tree/kib.bin", randomBytes(1536));
  addOld(site, "tree/large.bin", randomBytes(3 * MIB));
  fs.mkdirSync(site.path("tree/empty"));
  for (const name of ["dir10", "dir2", "a & b", "empty"]) {
    fs.utimesSync(site.path(`tree/${name}`), MODIFIED, MODIFIED);
  }
}

/** The names in that directory. */
export function treeNames(site: Site): string[] {
  return fs.readdirSync(site.path("tree"));
}
