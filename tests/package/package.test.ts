/**
 * The package as its users have it: what is published, installed from a registry, compiled against, bundled and run.
 * Deno does what it takes for both runtimes, so these tests exist there only.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { join } from "@std/path";
import { findBun } from "../support/find_bun.ts";
import { test } from "../support/harness.ts";
import { compile, declarations, install, RESOLUTIONS } from "./consumer.ts";
import { run, runWell } from "./process.ts";
import { denoEnv, directoryFor, MANIFEST, publicRegistry, published, ROOT } from "./published.ts";
import { VERSION } from "../../version.ts";
import { missing, Server } from "../support/site.ts";

/** Any of them may be the first, which publishes, packs and installs for the others. */
const options = { only: "deno", timeout: 240_000 } as const;
const deno = process.execPath;
const CLI = `jsr:${MANIFEST.name}/cli`;

/** In a project of npm's. */
const INSTALLED_CLI = join("node_modules", MANIFEST.name, "cli.js");

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

test("package: deno.json and package.json agree, and the program's name is not that of a stranger's package", () => {
  const { name, version, exports, bin } = JSON.parse(fs.readFileSync(join(ROOT, "package.json"), "utf8"));
  assertEquals([name, version, exports], [MANIFEST.name, MANIFEST.version, MANIFEST.exports]);
  assertEquals(VERSION, version);
  assertEquals(bin, { "zerocopy-sendfile": MANIFEST.exports["./cli"] }); // `sendfile` on npm is another one's
});

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
      !/^(?:LICENSE|deno\.json|[\w/-]+\.(?:ts|md))$/.test(path) ||
      /(?:^|\/)(?:tests?|bench|node_modules)\//.test(path)
    );
    assertEquals(alien, []);
    for (const path of files) {
      const text = fs.readFileSync(join(ROOT, path), "utf8");
      assert(!text.includes("PRIVATE KEY"), `${path} holds a key`);
    }
  },
  options,
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
  options,
);

test("package: deno doc --lint has nothing to say of any export", async () => {
  const paths = Object.values(MANIFEST.exports);
  const { code, stdout, stderr } = await run([deno, "doc", "--lint", ...paths], { cwd: ROOT });
  assertEquals([code, (stdout + stderr).trim()], [0, `Checked ${paths.length} files`]);
}, options);

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
  { ...options, skip: noNode },
);

const NODE = { lib: ["esnext"], types: ["node"], files: ["calls.ts", "run.ts"] };
const BUN = { lib: ["esnext"], types: ["bun"], files: ["calls.ts", "calls_bun.ts", "run.ts"] };

for (const resolution of RESOLUTIONS) {
  test(`package: a program for Node.js compiles, and wrong calls do not (${resolution[1]})`, async () => {
    await compile(await install("@types/node"), NODE, resolution);
  }, { ...options, skip: noNode });

  test(`package: a program for Bun compiles, and wrong calls do not (${resolution[1]})`, async () => {
    await compile(await install("@types/bun"), BUN, resolution);
  }, { ...options, skip: noNode });
}

test("package: a program for Node.js copies, and its clients get the file's bytes", async () => {
  const project = await install("@types/node");
  await compile(project, { ...NODE, files: ["run.ts"] }, RESOLUTIONS[0], "out");
  const { stdout } = await runWell(["node", "out/run.js"], { cwd: project });
  assertRan(stdout, "copy", "this runtime has no FFI");
}, { ...options, skip: noNode });

test(
  "package: a program for Bun sends the file by sendfile, also bundled and compiled, without node_modules",
  async () => {
    const bun = findBun();
    const project = await install("@types/bun");
    const inside = { cwd: project };
    assertRan((await runWell([bun, "run.ts"], inside)).stdout, "sendfile");
    await runWell([bun, "build", "run.ts", "--target=bun", "--outfile=bundle.js"], inside);
    await runWell([bun, "build", "--compile", "run.ts", "--outfile=program"], inside);
    const alone = { cwd: directoryFor("alone") };
    for (const name of ["bundle.js", "program"]) fs.cpSync(join(project, name), join(alone.cwd, name));
    assertRan((await runWell([bun, "bundle.js"], alone)).stdout, "sendfile");
    assertRan((await runWell(["./program"], alone)).stdout, "sendfile");
  },
  { ...options, skip: noNode },
);

test(
  "package: deno add takes it from the registry; a program type-checks and sends the file by sendfile",
  async () => {
    const registry = await publicRegistry();
    try {
      const project = directoryFor("deno");
      const inside = { cwd: project, env: denoEnv(registry) };
      fs.writeFileSync(join(project, "deno.json"), "{}");
      await runWell([deno, "add", `jsr:${MANIFEST.name}`], inside);
      const { imports } = JSON.parse(fs.readFileSync(join(project, "deno.json"), "utf8"));
      assertEquals(imports, { [MANIFEST.name]: `jsr:${MANIFEST.name}@^${MANIFEST.version}` });
      const names = ["alone.ts", "calls.ts", "calls_deno.ts", "run.ts"];
      for (const name of names) {
        fs.copyFileSync(
          join(ROOT, "tests/package/consumers", name),
          join(project, name),
        );
      }
      await runWell([deno, "check", "--all", ...names], inside);
      assertRan((await runWell([deno, "run", "-A", "--no-check", "run.ts"], inside)).stdout, "sendfile");
      assertEquals(registry.missing, []);
    } finally {
      await registry.close();
    }
  },
  options,
);

/** Whether the static server that `command` starts sends the bytes of a file by sendfile. */
async function assertServes(command: string[], env?: Record<string, string>): Promise<void> {
  const site = directoryFor("site");
  const content = "x".repeat(100_000);
  fs.writeFileSync(join(site, "file.txt"), content);
  const server = new Server({ command: [...command, "--port=0", "--host=127.0.0.1", site], env });
  try {
    await server.listening();
    assertEquals(server.lines.at(2), "zero-copy: on");
    const response = await fetch(`http://127.0.0.1:${server.port}/file.txt`);
    assertEquals(await response.text(), content);
    await server.line(/file\.txt.*sendfile/);
  } finally {
    await server.stop();
  }
}

test("package: deno run jsr:…/cli serves a directory by sendfile", async () => {
  const registry = await publicRegistry();
  try {
    await assertServes([deno, "run", "-A", CLI], denoEnv(registry));
  } finally {
    await registry.close();
  }
}, options);

test(
  "package: cli.js serves a directory on Bun, and so does a compiled program that calls its main",
  async () => {
    const bun = findBun();
    const project = await install("@types/bun");
    await assertServes([bun, join(project, INSTALLED_CLI)]);
    const program = join(directoryFor("server"), "server");
    await runWell([bun, "build", "--compile", "server.ts", `--outfile=${program}`], { cwd: project });
    await assertServes([program]);
  },
  { ...options, skip: noNode },
);

test(
  "package: on Node.js cli.js knows whether it is the program, and says that it cannot serve",
  async () => {
    const project = await install("@types/node");
    const inside = { cwd: project };
    fs.symlinkSync(INSTALLED_CLI, join(project, "bin"));
    for (const path of [INSTALLED_CLI, "bin"]) {
      assertEquals((await runWell(["node", path, "--version"], inside)).stdout, `${MANIFEST.version}\n`);
    }
    const { code, stdout, stderr } = await run(["node", INSTALLED_CLI, "."], inside);
    const words = "error: the static server needs Deno or Bun; Node.js has serveStatic of ./node\n";
    assertEquals([code, stdout, stderr], [1, "", words]);
    const doctor = await run(["node", INSTALLED_CLI, "doctor"], inside);
    assertEquals([doctor.code, doctor.stderr], [1, ""]);
    assertStringIncludes(doctor.stdout, "-> run on Deno or Bun");
    assert(
      /^node:http +copy \(this runtime has no FFI\): 4194304 bytes sent, the same arrived$/m.test(
        doctor.stdout,
      ),
    );
    const imported = [
      "node",
      "--input-type=module",
      "-e",
      `import "${MANIFEST.name}/cli"; console.log("imported")`,
    ];
    assertEquals((await runWell(imported, inside)).stdout, "imported\n");
  },
  { ...options, skip: noNode },
);

const noDenort = process.env.DENORT_BIN === undefined
  ? "deno compile needs denort, which no package has: DENORT_BIN says where it is"
  : undefined;

test("package: deno compile makes a program that sends the file by sendfile", async () => {
  const registry = await publicRegistry();
  try {
    const project = directoryFor("compiled");
    const inside = { cwd: project, env: denoEnv(registry) };
    fs.writeFileSync(join(project, "deno.json"), "{}");
    await runWell([deno, "add", `jsr:${MANIFEST.name}`], inside);
    fs.copyFileSync(join(ROOT, "tests/package/consumers/run.ts"), join(project, "run.ts"));
    await runWell([deno, "compile", "-A", "--output=program", "run.ts"], inside);
    assertRan((await runWell(["./program"], inside)).stdout, "sendfile");
  } finally {
    await registry.close();
  }
}, { ...options, skip: noDenort });
