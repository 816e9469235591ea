/** This package as it is published, in a directory of its own. */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { join, resolve } from "@std/path";
import { type Output, runWell } from "./process.ts";
import { filesIn, Registry } from "./registry.ts";

/** The package's source. */
export const ROOT = resolve(import.meta.dirname!, "../..");

/** Its name, version and entry points. */
export const MANIFEST: { name: string; version: string; exports: Record<string, string> } = JSON.parse(
  fs.readFileSync(join(ROOT, "deno.json"), "utf8"),
);

let directory: string | undefined;

/** Where all of it is kept, until the end of the process. */
function base(): string {
  if (directory === undefined) {
    const made = directory = fs.mkdtempSync(join(tmpdir(), "sendfile-package-"));
    process.on("exit", () => fs.rmSync(made, { recursive: true, force: true }));
  }
  return directory;
}

/** A new directory. */
export function directoryFor(purpose: string): string {
  return fs.mkdtempSync(join(base(), `${purpose}-`));
}

/** What makes Deno ask `registry`, and keep what it gets away from the user's. */
export function denoEnv(registry: Registry): Record<string, string> {
  return { JSR_URL: registry.url, DENO_DIR: join(base(), "deno") };
}

/** What was published, and what `deno publish` has said. */
export interface Published {
  readonly output: Output;
  /** The files, as they came. */
  readonly directory: string;
  readonly files: readonly string[];
}

let publishing: Promise<Published> | undefined;

/** The package, published by `deno publish` to a stand-in of the registry; once in a process. */
export function published(): Promise<Published> {
  return publishing ??= publish();
}

async function publish(): Promise<Published> {
  const registry = new Registry(directoryFor("published"));
  await registry.listen();
  try {
    const command = [process.execPath, "publish", "--token=none", "--no-provenance", "--allow-dirty"];
    const output = await runWell(command, { cwd: ROOT, env: denoEnv(registry) });
    const { name, version } = MANIFEST;
    const directory = registry.directoryOf(name, version);
    return { output, directory, files: filesIn(directory) };
  } finally {
    await registry.close();
  }
}

/** A registry that has the package. Whoever gets it closes it. */
export async function publicRegistry(): Promise<Registry> {
  const { directory } = await published();
  const registry = new Registry(directoryFor("registry"));
  registry.add(MANIFEST.name, MANIFEST.version, directory);
  await registry.listen();
  return registry;
}

let packing: Promise<string> | undefined;

/**
 * The path of the package as npm has it: `deno pack` makes JavaScript and declarations of what was published by the
 * same means as JSR does; once in a process.
 */
export function npmForm(): Promise<string> {
  return packing ??= pack();
}

async function pack(): Promise<string> {
  const { directory } = await published();
  const source = directoryFor("pack");
  fs.cpSync(directory, source, { recursive: true });
  // The registry reads nothing else of it; what the import map says stands in the modules by now.
  const { name, version, exports } = MANIFEST;
  fs.writeFileSync(join(source, "deno.json"), JSON.stringify({ name, version, exports, license: "MIT" }));
  const path = join(directoryFor("npm"), "package.tgz");
  const env = { DENO_DIR: join(base(), "deno") };
  await runWell([process.execPath, "pack", "--no-source-maps", "-o", path], { cwd: source, env });
  return path;
}
