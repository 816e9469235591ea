/** The package as its users have it, ready to be run by any version of any runtime. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { join, resolve } from "@std/path";
import { runWell } from "../package/process.ts";
import { directoryFor, MANIFEST, npmForm, published } from "../package/published.ts";
import { findBun } from "../support/find_bun.ts";
import { CACHE, commandOf, type Version } from "./versions.ts";

/** A project that has the package. */
export interface Project {
  readonly directory: string;
  /** The command line and the probe, each with the arguments before it. */
  command(version: Version, module: "cli" | "probe", flags?: readonly string[]): string[];
  /** What the runtimes need in their environment. */
  readonly env: Record<string, string>;
}

/**
 * Makes the project: Deno gets the modules that JSR has, by an import map, and Bun and Node.js get what npm has, in
 * node_modules.
 */
export async function makeProject(): Promise<Project> {
  const directory = directoryFor("platforms");
  const { directory: modules } = await published();
  fs.writeFileSync(join(directory, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const install = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", await npmForm()];
  await runWell(install, { cwd: directory });
  const probe = resolve(import.meta.dirname!, "probe.ts");
  const bundle = ["build", "--target=node", "--packages=external", probe, "--outfile=probe.js"];
  await runWell([findBun(), ...bundle], { cwd: directory });

  const config = join(directory, "jsr.json");
  const imports = Object.entries(MANIFEST.exports)
    .map(([name, path]) => [join(MANIFEST.name, name), join(modules, path)]);
  fs.writeFileSync(
    config,
    JSON.stringify({ nodeModulesDir: "none", imports: Object.fromEntries(imports) }),
  );
  return {
    directory,
    // Deno before 2.8 does not look where the system keeps its certificates, if that is asked for by a proxy.
    env: { DENO_TLS_CA_STORE: process.env.DENO_TLS_CA_STORE ?? "mozilla,system", DENO_NO_UPDATE_CHECK: "1" },
    command(version, module, flags = ["-A"]) {
      const program = commandOf(version);
      if (version.runtime !== "deno") {
        const path = module === "cli" ? join("node_modules", MANIFEST.name, "cli.js") : "probe.js";
        return [...program, path];
      }
      const path = module === "cli" ? join(modules, "cli.ts") : "probe.js";
      return [...program, "run", "--quiet", `--config=${config}`, ...flags, path];
    },
  };
}

/** Deno's cache for one version: another may write it in another form. */
export function denoDir({ runtime, version }: Version): Record<string, string> {
  return runtime === "deno" ? { DENO_DIR: join(CACHE, `cache-${version}`) } : {};
}

/** Why something is not tried: a program is not installed. */
export function missing(program: string): string | undefined {
  return spawnSync(program, ["--version"]).error ? `no ${program}` : undefined;
}
