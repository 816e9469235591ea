/** Downloaders that resume, and that put a file together from parts. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { test } from "../support/harness.ts";
import { assertSame } from "../support/http_client.ts";
import { LARGE, MIB, missing, serving, type Site, until } from "../support/site.ts";
import { answered, assertGot, curl, logged, output, SIZE, start, urlOf } from "./programs.ts";

const RESUMERS: [string, string[]][] = [
  ["curl", ["-q", "-sS", "-O", "-C", "-"]],
  ["wget", ["--no-config", "-nv", "-c"]],
];

for (const [command, args] of RESUMERS) {
  test(
    `${command} resumes a download that was cut off, and leaves a finished one alone`,
    () =>
      serving(async (server, site) => {
        const url = urlOf(server, LARGE);
        const path = join(site.base, LARGE);
        await cutOff(site, command, [...args, "--limit-rate", "2m", url], path);
        const { size } = fs.statSync(path);
        assert(size < SIZE, "nothing is left to resume");

        await output(site.base, command, [...args, url]);
        assertGot(path, site, LARGE);
        assertEquals(await answered(server, LARGE, 206), { status: 206, bytes: SIZE - size });

        await output(site.base, command, [...args, url]);
        assertGot(path, site, LARGE);
        await answered(server, LARGE, 416);
      }),
    { skip: missing(command) },
  );
}

/** Runs a command until the first of its download is at `path`, and kills it. */
async function cutOff({ base }: Site, command: string, args: string[], path: string): Promise<void> {
  const child = start(base, command, args);
  child.stdout.resume();
  child.stderr.resume();
  const closed = new Promise((resolve) => child.once("close", resolve));
  try {
    await until(() => fs.existsSync(path) && fs.statSync(path).size >= MIB, `the first MiB at ${path}`);
  } finally {
    child.kill("SIGKILL");
    await closed;
  }
}

test("aria2c puts a file together from four connections", () =>
  serving(async (server, site) => {
    // Without a limit, the first connection could have taken all of it before the others are there.
    const args = ["--no-conf", "--no-netrc", "-q", "-x4", "-s4", "-k1M", "--max-overall-download-limit=16M"];
    await output(site.base, "aria2c", [...args, urlOf(server, LARGE)]);
    assertGot(join(site.base, LARGE), site, LARGE);
    await until(() => logged(server, LARGE).length >= 4, "four requests in the log");
    const ranges = logged(server, LARGE).filter(({ status }) => status === 206);
    assert(ranges.length >= 3, server.lines.join("\n")); // the first connection asks for the whole
  }), { skip: missing("aria2c") });

test("four curls at once fetch a quarter each", () =>
  serving(async (server, site) => {
    const quarter = SIZE / 4;
    const ranges = [0, 1, 2].map((i) => `${i * quarter}-${(i + 1) * quarter - 1}`);
    ranges.push(`-${quarter}`);
    const paths = ranges.map((_, i) => join(site.base, `part${i}`));
    const codes = await Promise.all(
      ranges.map((range, i) =>
        curl(site, "-r", range, "-o", paths[i], "-w", "%{http_code}", urlOf(server, LARGE))
      ),
    );
    assertEquals(codes, ["206", "206", "206", "206"]);
    assertSame(
      Buffer.concat(paths.map((path) => fs.readFileSync(path))),
      site.files.get(LARGE)!,
      "the parts",
    );
    await until(() => logged(server, LARGE).length === 4, "four requests in the log");
    assertEquals(logged(server, LARGE), ranges.map(() => ({ status: 206, bytes: quarter })));
  }), { skip: missing("curl") });
