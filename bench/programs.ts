/** The programs that servers need and a machine may lack. */
import { attempt, bun, local, type Place, run } from "./harness.ts";
import type { Program, Requirement } from "./servers.ts";

/** A program at one of `paths`, which prints its version with `option`. */
function program(name: string, paths: readonly string[], option: string): Requirement {
  return {
    name,
    async find() {
      for (const path of paths) {
        const asked = await attempt([path, option]);
        if (asked?.success) return { path, version: asked.text.split("\n")[0] };
      }
    },
  };
}

export const nginx = program("nginx", ["nginx", "/usr/sbin/nginx"], "-v");
export const caddy = program("caddy", ["caddy"], "version");
export const go = program("go", ["go", "/usr/local/go/bin/go"], "version");
export const python = program("python3", ["python3"], "--version");
export const bunProgram = program("bun", [bun()], "--version");
const node = program("node", ["node"], "--version");

/** Node.js with sirv, from node_modules here or from NODE_PATH. */
export const sirv: Requirement = {
  name: "node with sirv (npm install --no-save sirv)",
  async find(): Promise<Program | undefined> {
    const found = await node.find();
    if (!found) return undefined;
    const asked = await attempt([
      found.path,
      "-p",
      `require("module").createRequire("${local("x")}").resolve("sirv")`,
    ]);
    if (!asked?.success) return undefined;
    return { path: asked.text, version: `node ${found.version}` };
  },
};

/** Compiles the server in Go and returns its path. */
export async function compileGo({ programs }: Place, path: string): Promise<string> {
  const output = `${programs}/go_server`;
  await run([path, "build", "-o", output, local("go_server.go")]);
  return output;
}
