/** The plan of the house: arrows point down. */
import { assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { join, relative } from "node:path";
import { fromFileUrl } from "@std/path";
import { test } from "./support/harness.ts";

const root = fromFileUrl(new URL("..", import.meta.url));

/** From the top down. A file imports from its own floor and from those below; the first pattern that fits is its own. */
const FLOORS: readonly (readonly [name: string, files: RegExp])[] = [
  ["public faces", /^(mod|cli|serve)\.ts$/],
  ["the command line", /^cli\//],
  ["the server, and the faces of http", /^server\/|^http\/(mod|node|node_options)\.ts$/],
  ["how a body leaves", /^http\/send\//],
  ["what is answered", /^http\/[^/]+$/],
  ["the security boundary", /^http\/root\//],
  ["pure rules", /^http\/rfc9110\//],
  ["the report", /^report\//],
  ["the choice between sendfile(2) and the copy", /^sendfile\.ts$/],
  ["the copy", /^fallback\//],
  ["one transfer", /^transfer\//],
  ["files and sockets", /^(files|sockets)\//],
  ["libc", /^ffi\//],
  ["what everybody uses", /^(errors|reasons|runtime|types|version|recent_map)\.ts$/],
];

function floorOf(file: string): number {
  return FLOORS.findIndex(([, files]) => files.test(file));
}

/** The source files, from the root of the repository. */
function sources(): string[] {
  const rooms = ["cli", "fallback", "ffi", "files", "http", "report", "server", "sockets", "transfer"];
  const inRooms = rooms.flatMap((room) =>
    fs.readdirSync(join(root, room), { recursive: true, encoding: "utf8" }).map((name) => join(room, name))
  );
  return [...fs.readdirSync(root), ...inRooms].filter((name) => name.endsWith(".ts"));
}

/** What a file imports of the project's own. */
function importsOf(file: string): string[] {
  const text = fs.readFileSync(join(root, file), "utf8").replace(/^ *(\*|\/\/).*$/gm, "");
  return [...text.matchAll(/\b(?:from|import\(?)\s*"(\.[^"]+)"/g)]
    .map(([, path]) => relative(root, join(root, file, "..", path)));
}

test("each source file has its floor", () => {
  assertEquals(sources().filter((file) => floorOf(file) < 0), []);
});

test("arrows point down: no file imports from a folder above its own", () => {
  const up = sources().flatMap((file) =>
    importsOf(file)
      .filter((imported) => floorOf(imported) < floorOf(file))
      .map((imported) => `${file} imports ${imported}`)
  );
  assertEquals(up, []);
});

test("the pure rules of RFC 9110 touch no file, socket or process", () => {
  const impure = sources().filter((file) => file.startsWith("http/rfc9110/"))
    .filter((file) =>
      /"node:(fs|net|http|process)|\b(Deno|Bun|process)\./.test(fs.readFileSync(join(root, file), "utf8"))
    );
  assertEquals(impure, []);
});

test("errno numbers and struct layouts are known to ffi/ alone", () => {
  const others = sources().filter((file) => !file.startsWith("ffi/"))
    .filter((file) => /\bdlopen\b|\.dlopen\(/.test(fs.readFileSync(join(root, file), "utf8")));
  assertEquals(others, []);
});

/** Lines that a file of tests may have: longer ones hold more than one idea. */
const LONGEST = 450;

test(`no file of tests has more than ${LONGEST} lines`, () => {
  const tests = fs.readdirSync(join(root, "tests"), { recursive: true, encoding: "utf8" });
  const long = tests.filter((name) => name.endsWith(".ts"))
    .filter((name) => fs.readFileSync(join(root, "tests", name), "utf8").split("\n").length > LONGEST);
  assertEquals(long, []);
});
