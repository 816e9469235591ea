/** apt-get on a Debian repository that the static server serves. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { gzipSync } from "node:zlib";
import { test } from "../support/harness.ts";
import { MIB, type Server, serving, type Site, until } from "../support/site.ts";
import {
  addOld,
  answered,
  assertGot,
  assertMatches,
  lacking,
  MODIFIED,
  output,
  run,
  urlOf,
} from "./programs.ts";

/** The packages, and the size of what is in each. */
const PACKAGES: [string, number][] = [["p1", 10], ["p2", 2 * MIB], ["p3", 70_000], ["p4", 0]];

const NAMES = PACKAGES.map(([name]) => name);
const DEBS = NAMES.map(debOf);

function debOf(name: string): string {
  return `${name}_1.0_all.deb`;
}

/** How a Debian repository is laid out. */
interface Layout {
  /** As sources.list names it. */
  suite: string;
  release: string;
  index: string;
}

const LAYOUTS: Record<string, Layout> = {
  flat: { suite: "./", release: "debian", index: "debian" },
  pool: {
    suite: "stable main",
    release: "debian/dists/stable",
    index: "debian/dists/stable/main/binary-amd64",
  },
};

/** Builds a repository in `debian` of the site. */
async function addRepository(site: Site, { release, index }: Layout): Promise<void> {
  for (const [name, size] of PACKAGES) await addPackage(site, name, size);
  const packages = await output(site.path("debian"), "apt-ftparchive", ["packages", "pool"]);
  addOld(site, `${index}/Packages`, packages);
  addOld(site, `${index}/Packages.gz`, gzipSync(packages));
  addOld(site, `${release}/Release`, await output(site.path(release), "apt-ftparchive", ["release", "."]));
}

async function addPackage(site: Site, name: string, size: number): Promise<void> {
  const tree = join(site.base, name);
  fs.mkdirSync(join(tree, "DEBIAN"), { recursive: true, mode: 0o755 });
  const fields = [`Package: ${name}`, "Version: 1.0", "Architecture: all", "Maintainer: x <x@example.org>"];
  fs.writeFileSync(join(tree, "DEBIAN/control"), [...fields, `Description: ${name}`, ""].join("\n"));
  fs.writeFileSync(join(tree, "data"), randomBytes(size));
  const deb = debOf(name);
  await output(site.base, "dpkg-deb", ["-Znone", "--root-owner-group", "-b", tree, deb]);
  addOld(site, `debian/pool/${deb}`, fs.readFileSync(join(site.base, deb)));
}

/** Runs apt-get, away from this system's configuration and state, and gives what it writes. */
function aptOf(site: Site, server: Server, { suite }: Layout): (...args: string[]) => Promise<string> {
  const directory = join(site.base, "apt");
  for (const name of ["lists/partial", "cache/archives/partial", "log"]) {
    fs.mkdirSync(join(directory, name), { recursive: true });
  }
  fs.writeFileSync(join(directory, "status"), "");
  fs.writeFileSync(
    join(directory, "sources.list"),
    `deb [trusted=yes] ${urlOf(server, "/debian")} ${suite}\n`,
  );
  const options = {
    "APT::Sandbox::User": "root",
    "APT::Architecture": "amd64",
    "Acquire::Languages": "none",
    "Acquire::Retries": "0",
    "Acquire::http::Pipeline-Depth": "10",
    "Acquire::http::Proxy": "false",
    "Debug::NoLocking": "true",
    "Dir::Cache": join(directory, "cache"),
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::parts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Dir::Etc::sourcelist": join(directory, "sources.list"),
    "Dir::Etc::sourceparts": "-",
    "Dir::Log": join(directory, "log"),
    "Dir::State": directory,
    "Dir::State::lists": join(directory, "lists"),
    "Dir::State::status": join(directory, "status"),
  };
  const lines = Object.entries(options).map(([key, value]) => `${key} "${value}";\n`);
  const config = join(directory, "apt.conf");
  fs.writeFileSync(config, lines.join(""));
  return async (...args) => {
    const { stdout, stderr, code } = await run(directory, "apt-get", ["-q", "-y", ...args], {
      APT_CONFIG: config,
    });
    assertEquals(code, 0, `apt-get ${args.join(" ")}: exit code ${code}\n${stderr}${stdout}`);
    return `${stdout}${stderr}`;
  };
}

/** That `directory` holds all packages, as the site has them. */
function assertPackages(directory: string, site: Site): void {
  for (const deb of DEBS) assertGot(join(directory, deb), site, `/debian/pool/${deb}`);
}

/** The requests of the log, in order: the last names of their paths, and the statuses. */
function requests({ lines }: Server): string[] {
  return lines.flatMap((line) => {
    const [, name, status] = / GET \S*\/(\S+) (\d+)/.exec(line) ?? [];
    return name === undefined ? [] : [`${name} ${status}`];
  });
}

/** That `body` leads to these requests. */
async function assertRequests(
  server: Server,
  expected: string[],
  body: () => Promise<unknown>,
): Promise<void> {
  const before = requests(server).length;
  await body();
  await until(() => requests(server).length >= before + expected.length, `${expected.length} more requests`);
  assertEquals(requests(server).slice(before), expected);
}

const noApt = lacking("apt-get", "apt-ftparchive", "dpkg-deb");

for (const [kind, layout] of Object.entries(LAYOUTS)) {
  test(
    `apt-get updates from a ${kind} repository, and downloads its packages, pipelined`,
    () =>
      serving(async (server, site) => {
        await addRepository(site, layout);
        const apt = aptOf(site, server, layout);
        const first = ["InRelease 404", "Release 200", "Release.gpg 404", "Packages.gz 200"];
        await assertRequests(server, first, () => apt("update"));
        await assertRequests(server, ["InRelease 404", "Release 304", "Release.gpg 404"], async () => {
          assertMatches(await apt("update"), /^Hit:\d+ .* Release$/m);
        });
        await assertRequests(server, DEBS.map((deb) => `${deb} 200`), async () => {
          const text = await apt("-o", "Debug::Acquire::http=true", "download", ...NAMES);
          const order = [...text.matchAll(/^(GET|Answer) /gm)].map(([, what]) => what);
          assertMatches(order.join(" "), /GET GET/);
        });
        assertPackages(join(site.base, "apt"), site);
      }),
    { skip: noApt },
  );
}

test("apt-get resumes a package of which it has a part", () =>
  serving(async (server, site) => {
    await addRepository(site, LAYOUTS.pool);
    const apt = aptOf(site, server, LAYOUTS.pool);
    await apt("update");
    const archives = join(site.base, "apt/cache/archives");
    const part = join(archives, "partial", DEBS[1]);
    const target = `/debian/pool/${DEBS[1]}`;
    const content = site.files.get(target)!;
    fs.writeFileSync(part, content.subarray(0, MIB));
    fs.utimesSync(part, MODIFIED, MODIFIED);
    await apt("install", "--download-only", ...NAMES);
    assertPackages(archives, site);
    assertEquals(await answered(server, target, 206), { status: 206, bytes: content.length - MIB });
  }), { skip: noApt });
