/** This package as it is published, on registries of its own: JSR's and npm's protocols, on loopback. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "@std/path";

const root = resolve(import.meta.dirname!, "../..");

interface Manifest {
  name: string;
  version: string;
  exports: string | Record<string, string>;
  imports?: Record<string, string>;
}

function read<T>(path: string): T {
  return JSON.parse(fs.readFileSync(path, "utf8"));
}

const manifest = read<Manifest>(join(root, "deno.json"));

/** The packages on JSR, with their directories. */
const onJsr: Record<string, string> = { [manifest.name]: root, "@std/path": join(root, "tests/std/path") };

/** The packages on npm. */
const onNpm = ["mime-types", "mime-db", "@types/mime-types"];

/** The modules below `directory` that belong to the package. */
function modulesOf(directory: string): string[] {
  const inner = directory === root ? ["node_modules", "tests", "bench", "examples"] : [];
  return fs.readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      if (inner.includes(entry.name) || entry.name.startsWith(".")) return [];
      return modulesOf(path);
    }
    return entry.name.endsWith(".ts") ? [path] : [];
  });
}

/** A module as `deno publish` sends it: what the import map says stands in its place. */
function published(path: string): string {
  return fs.readFileSync(path, "utf8").replace(
    /(\bfrom |@ts-types=)"([^"]+)"/g,
    (whole, before, name) => manifest.imports?.[name] ? `${before}"${manifest.imports[name]}"` : whole,
  );
}

/** The modules and the metadata of a package on JSR, by their paths. */
function jsrPackage(name: string, directory: string): [path: string, content: string][] {
  const { version, exports } = read<Manifest>(join(directory, "deno.json"));
  const [scope, short] = name.slice(1).split("/");
  const modules = modulesOf(directory).map((path) =>
    [`/${relative(directory, path).replaceAll("\\", "/")}`, published(path)] as const
  );
  const files = modules.map(([path, text]) => [path, {
    size: new TextEncoder().encode(text).length,
    checksum: `sha256-${createHash("sha256").update(text).digest("hex")}`,
  }]);
  return [
    [
      `/${name}/meta.json`,
      JSON.stringify({ scope, name: short, latest: version, versions: { [version]: {} } }),
    ],
    [
      `/${name}/${version}_meta.json`,
      JSON.stringify({
        manifest: Object.fromEntries(files),
        exports: typeof exports === "string" ? { ".": exports } : exports,
      }),
    ],
    ...modules.map(([path, text]) => [`/${name}/${version}${path}`, text] as [string, string]),
  ];
}

/** A package of node_modules, packed. */
function pack(name: string): Uint8Array {
  const base = fs.mkdtempSync(join(tmpdir(), "pack-"));
  try {
    fs.cpSync(join(root, "node_modules", name), join(base, "package"), {
      recursive: true,
      dereference: true,
    });
    const { stdout, stderr, status } = spawnSync("tar", ["-czf", "-", "package"], {
      cwd: base,
      maxBuffer: 2 ** 26,
    });
    if (status !== 0) throw new Error(`tar: ${stderr}`);
    return stdout;
  } finally {
    fs.rmSync(base, { recursive: true });
  }
}

function npmPackage(base: string, name: string): [path: string, content: string | Uint8Array][] {
  const own = read<Manifest>(join(root, "node_modules", name, "package.json"));
  const packed = pack(name);
  const tarball = `/npm/${name}/-/${name}-${own.version}.tgz`;
  const integrity = `sha512-${createHash("sha512").update(packed).digest("base64")}`;
  const versions = { [own.version]: { ...own, dist: { tarball: base + tarball, integrity } } };
  return [
    [`/npm/${name}`, JSON.stringify({ name, "dist-tags": { latest: own.version }, versions })],
    [tarball, packed],
  ];
}

/** Both registries, and the plain sources under `/raw/`. */
export class Registry {
  readonly #server: Server;
  readonly #files = new Map<string, string | Uint8Array>();
  /** Where what is loaded is kept, away from the user's. */
  readonly cache = fs.mkdtempSync(join(tmpdir(), "deno-"));
  base = "";

  private constructor() {
    this.#server = createServer((request, response) => {
      const path = decodeURIComponent(new URL(request.url!, this.base).pathname); // npm's @types%2fx
      const raw = path.startsWith("/raw/") ? join(root, path.slice("/raw".length)) : undefined;
      const content = raw === undefined
        ? this.#files.get(path)
        : fs.existsSync(raw)
        ? fs.readFileSync(raw)
        : undefined;
      response.writeHead(content === undefined ? 404 : 200, {
        "Content-Type": path.endsWith(".ts") ? "application/typescript" : "application/json",
      });
      response.end(content);
    });
  }

  static async start(): Promise<Registry> {
    const registry = new Registry();
    const server = registry.#server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const base = registry.base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const imports = {
      "@std/path": `${base}/raw/tests/std/path/mod.ts`,
      "mime-types": manifest.imports!["mime-types"],
    };
    const files = [
      ...Object.entries(onJsr).flatMap(([name, directory]) => jsrPackage(name, directory)),
      ...onNpm.flatMap((name) => npmPackage(base, name)),
      ["/import_map.json", JSON.stringify({ imports })] as const,
    ];
    for (const [path, content] of files) registry.#files.set(path, content);
    return registry;
  }

  /** What makes Deno ask here, and only here. */
  get env(): Record<string, string> {
    return { JSR_URL: `${this.base}/`, NPM_CONFIG_REGISTRY: `${this.base}/npm/`, DENO_DIR: this.cache };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    fs.rmSync(this.cache, { recursive: true });
  }
}
