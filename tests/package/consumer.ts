/** Projects that have installed the package, as users make them. */
import * as fs from "node:fs";
import { join } from "@std/path";
import { runWell } from "./process.ts";
import { directoryFor, npmForm, ROOT } from "./published.ts";

const versions: Record<string, string> = JSON.parse(
  fs.readFileSync(join(ROOT, "package.json"), "utf8"),
).devDependencies;

/** What a project compiles with. */
export interface Compiler {
  readonly lib: readonly string[];
  readonly types: readonly string[];
  /** Files of `consumers/`. */
  readonly files: readonly string[];
}

/** The two ways of finding modules that packages are used with, as `module` and `moduleResolution`. */
export const RESOLUTIONS = [["nodenext", "nodenext"], ["preserve", "bundler"]] as const;

const projects = new Map<string | undefined, Promise<string>>();

/**
 * A project with the package, what it needs to compile (`types`: one more package), and the files of `consumers/`; one
 * for each `types` in a process.
 */
export function install(types?: string): Promise<string> {
  let project = projects.get(types);
  if (!project) projects.set(types, project = create(types === undefined ? [] : [types]));
  return project;
}

async function create(types: string[]): Promise<string> {
  const project = directoryFor("project");
  fs.writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const packages = ["typescript", ...types].map((name) => `${name}@${versions[name]}`);
  const command = [
    "npm",
    "install",
    "--prefer-offline",
    "--no-audit",
    "--no-fund",
    await npmForm(),
    ...packages,
  ];
  await runWell(command, { cwd: project });
  const consumers = join(ROOT, "tests/package/consumers");
  for (const name of fs.readdirSync(consumers)) fs.copyFileSync(join(consumers, name), join(project, name));
  return project;
}

/** Compiles with all checks, also of declarations; rejects with what the compiler says. `out`: where to emit. */
export async function compile(
  project: string,
  { lib, types, files }: Compiler,
  [module, moduleResolution]: (typeof RESOLUTIONS)[number],
  out?: string,
): Promise<void> {
  const compilerOptions = {
    strict: true,
    skipLibCheck: false,
    noUncheckedIndexedAccess: true,
    target: "es2022",
    lib,
    types,
    module,
    moduleResolution,
    moduleDetection: "force",
    ...(out === undefined ? { noEmit: true } : { outDir: out }),
  };
  fs.writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  await runWell(["node", join("node_modules", "typescript", "bin", "tsc")], { cwd: project });
}

/** The declarations that came with the package, without their comments. */
export function declarations(project: string): Map<string, string> {
  const directory = join(project, "node_modules/@zerocopy/sendfile");
  const paths = (fs.readdirSync(directory, { recursive: true }) as string[])
    .filter((path) => path.endsWith(".d.ts"));
  return new Map(paths.map((path) => {
    const text = fs.readFileSync(join(directory, path), "utf8");
    return [path, text.replace(/\/\*[^]*?\*\/|\/\/.*/g, "")];
  }));
}
