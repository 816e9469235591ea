/**
 * The package as its users have it: what is published, installed from a registry, compiled against, bundled and run.
 * Deno does what it takes for both runtimes, so these tests exist there only.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { join } from "@std/path";
import { findBun } from "./find_bun.ts";
import { test } from "./harness.ts";
import { compile, declarations, install, RESOLUTIONS } from "./package/consumer.ts";
import { run, runWell } from "./package/process.ts";
import { denoEnv, directoryFor, MANIFEST, publicRegistry, published, ROOT } from "./package/published.ts";
import { missing, Server } from "./site.ts";

const only = "deno";
const deno = process.execPath;
const CLI = `jsr:${MANIFEST.name}/cli`;

const noNode = missing("node") ?? missing("npm");

/** What `consumers/run.ts` prints: `via` is how the bytes went through the socket. */
function assertRan(stdout: string, via: "sendfile" | "copy", off?: string): void {
  const { native, ...ways } = JSON.parse(stdout);
  assertEquals(ways, {
    ...(off === undefined ? {} : { off }),
    socket: `same bytes by ${via}`,
    handler: "same bytes",
    node: "same bytes",
  });
  assertEquals(native > 0, via === "sendfile");
}

test(
  "package: deno publish warns of nothing, and publishes no test, stand-in, benchmark or key",
  async () => {
    const { output: { stdout, stderr }, files } = await published();
    assert(!/warn|error/i.test(stdout + stderr), stdout + stderr);
    assertStringIncludes(stdout + stderr, `Successfully published ${MANIFEST.name}@${MANIFEST.version}`);
    for (
      const path of ["deno.json", "README.md", "LICENSE", "mod.ts", "cli.ts", "http/mod.ts", "ffi/linux.ts"]
    ) {
      assert(files.includes(path), `${path} is not published`);
    }
    const alien = files.filter((path) =>
      !/^(?:LICENSE|deno\.json|[\w/]+\.(?:ts|md))$/.test(path) ||
      /(?:^|\/)(?:tests?|bench|node_modules)\//.test(path)
    );
    assertEquals(alien, []);
    for (const path of files) {
      const text = fs.readFileSync(join(ROOT, path), "utf8");
      assert(!text.includes("PRIVATE KEY"), `${path} holds a key`);
    }
  },
  { only },
);

test(
  "package: no module that is published imports by a name that only this repository's import map has",
  async () => {
    const { directory, files } = await published();
    for (const path of files.filter((path) => path.endsWith(".ts") && !path.startsWith("examples/"))) {
      const text = fs.readFileSync(join(directory, path), "utf8").replace(/^ \* .*$/gm, "");
      for (const [, name] of text.matchAll(/(?:\bfrom |\bimport |@ts-types=)"([^"]+)"/g)) {
        assert(/^(?:\.{1,2}\/|node:|npm:|jsr:)/.test(name), `${path} imports ${name}`);
      }
    }
  },
  { only },
);

test("package: deno doc --lint has nothing to say of any export", async () => {
  const paths = Object.values(MANIFEST.exports);
  const { code, stdout, stderr } = await run([deno, "doc", "--lint", ...paths], { cwd: ROOT });
  assertEquals([code, (stdout + stderr).trim()], [0, `Checked ${paths.length} files`]);
}, { only });

test(
  "package: declarations name no class of Deno's and no type that only the web's library has",
  async () => {
    const project = await install();
    const texts = declarations(project);
    assert(
      texts.has("mod.d.ts") && texts.has("http/mod.d.ts") && texts.has("http/node.d.ts"),
      [...texts.keys()].join(),
    );
    for (const [path, text] of texts) {
      const name =
        /\bDeno\.|\bBun\.|\b(?:HeadersInit|BodyInit|RequestInit|ResponseInit|AlgorithmIdentifier)\b/.exec(
          text,
        );
      assertEquals(name?.[0], undefined, `in ${path}`);
    }
    for (const resolution of RESOLUTIONS) {
      await compile(project, { lib: ["es2022"], types: [], files: ["alone.ts"] }, resolution);
    }
  },
  { only, skip: noNode },
);

const NODE = { lib: ["esnext"], types: ["node"], files: ["calls.ts", "run.ts"] };
const BUN = { lib: ["esnext"], types: ["bun"], files: ["calls.ts", "calls_bun.ts", "run.ts"] };

for (const resolution of RESOLUTIONS) {
  test(`package: a program for Node.js compiles, and wrong calls do not (${resolution[1]})`, async () => {
    await compile(await install("@types/node"), NODE, resolution);
  }, { only, skip: noNode });

  test(`package: a program for Bun compiles, and wrong calls do not (${resolution[1]})`, async () => {
    await compile(await install("@types/bun"), BUN, resolution);
  }, { only, skip: noNode });
}

test("package: a program for Node.js copies, and its clients get the file's bytes", async () => {
  const project = await install("@types/node");
  await compile(project, { ...NODE, files: ["run.ts"] }, RESOLUTIONS[0], "out");
  const { stdout } = await runWell(["node", "out/run.js"], { cwd: project });
  assertRan(stdout, "copy", "this runtime has no FFI");
}, { only, skip: noNode });

test(
  "package: a program for Bun sends the file by sendfile, also bundled and compiled, without node_modules",
  async () => {
    const bun = findBun();
    const project = await install("@types/bun");
    const options = { cwd: project };
    assertRan((await runWell([bun, "run.ts"], options)).stdout, "sendfile");
    await runWell([bun, "build", "run.ts", "--target=bun", "--outfile=bundle.js"], options);
    await runWell([bun, "build", "--compile", "run.ts", "--outfile=program"], options);
    const alone = { cwd: directoryFor("alone") };
    for (const name of ["bundle.js", "program"]) fs.cpSync(join(project, name), join(alone.cwd, name));
    assertRan((await runWell([bun, "bundle.js"], alone)).stdout, "sendfile");
    assertRan((await runWell(["./program"], alone)).stdout, "sendfile");
  },
  { only, skip: noNode },
);

test(
  "package: deno add takes it from the registry; a program type-checks and sends the file by sendfile",
  async () => {
    const registry = await publicRegistry();
    try {
      const project = directoryFor("deno");
      const options = { cwd: project, env: denoEnv(registry) };
      fs.writeFileSync(join(project, "deno.json"), "{}");
      await runWell([deno, "add", `jsr:${MANIFEST.name}`], options);
      const { imports } = JSON.parse(fs.readFileSync(join(project, "deno.json"), "utf8"));
      assertEquals(imports, { [MANIFEST.name]: `jsr:${MANIFEST.name}@^${MANIFEST.version}` });
      const names = ["alone.ts", "calls.ts", "calls_deno.ts", "run.ts"];
      for (const name of names) {
        fs.copyFileSync(
          join(ROOT, "tests/package/consumers", name),
          join(project, name),
        );
      }
      await runWell([deno, "check", "--all", ...names], options);
      assertRan((await runWell([deno, "run", "-A", "--no-check", "run.ts"], options)).stdout, "sendfile");
      assertEquals(registry.missing, []);
    } finally {
      await registry.close();
    }
  },
  { only },
);

test("package: deno run jsr:…/cli serves a directory by sendfile", async () => {
  const registry = await publicRegistry();
  const project = directoryFor("site");
  const content = "x".repeat(100_000);
  fs.writeFileSync(join(project, "file.txt"), content);
  const command = [deno, "run", "-A", CLI, "--port=0", "--host=127.0.0.1", project];
  const server = new Server({ command, env: denoEnv(registry) });
  try {
    await server.listening();
    assertEquals(server.lines.at(2), "zero-copy: on");
    const response = await fetch(`http://127.0.0.1:${server.port}/file.txt`);
    assertEquals(await response.text(), content);
    await server.line(/file\.txt.*sendfile/);
  } finally {
    await server.stop();
    await registry.close();
  }
}, { only });

const noDenort = process.env.DENORT_BIN === undefined
  ? "deno compile needs denort, which no package has: DENORT_BIN says where it is"
  : undefined;

test("package: deno compile makes a program that sends the file by sendfile", async () => {
  const registry = await publicRegistry();
  try {
    const project = directoryFor("compiled");
    const options = { cwd: project, env: denoEnv(registry) };
    fs.writeFileSync(join(project, "deno.json"), "{}");
    await runWell([deno, "add", `jsr:${MANIFEST.name}`], options);
    fs.copyFileSync(join(ROOT, "tests/package/consumers/run.ts"), join(project, "run.ts"));
    await runWell([deno, "compile", "-A", "--output=program", "run.ts"], options);
    assertRan((await runWell(["./program"], options)).stdout, "sendfile");
  } finally {
    await registry.close();
  }
}, { only, skip: noDenort });
