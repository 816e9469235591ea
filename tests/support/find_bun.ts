import * as fs from "node:fs";
import process from "node:process";
import { fromFileUrl, join } from "@std/path";

const modules = fromFileUrl(new URL("../../node_modules", import.meta.url));

/** Bun as npm installed it, also where the install scripts that put it into place did not run; or the PATH's. */
export function findBun(): string {
  const candidates = [join(modules, "bun", "bin", "bun.exe")];
  const scope = join(modules, "@oven");
  for (const name of fs.existsSync(scope) ? fs.readdirSync(scope) : []) {
    if (name === `bun-${process.platform}-${process.arch === "arm64" ? "aarch64" : process.arch}`) {
      candidates.unshift(join(scope, name, "bin", "bun"));
    }
  }
  return candidates.find((path) => fs.existsSync(path)) ?? "bun";
}
