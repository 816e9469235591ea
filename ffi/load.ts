import process from "node:process";
import { isBun, isBunBefore, isDeno, isGranted } from "../runtime.ts";
import { bunLoader } from "./bun.ts";
import { darwin } from "./darwin.ts";
import { denoLoader } from "./deno.ts";
import { freebsd } from "./freebsd.ts";
import { commonBlocking, commonSymbols, Libc } from "./libc.ts";
import type { Loader } from "./library.ts";
import { linux } from "./linux.ts";
import type { System } from "./system.ts";
import { NO_ABI, NO_FFI, NO_SENDFILE_ON, OFF_ON_MACOS, OLD_BUN, OLD_DENO, TURNED_OFF } from "../reasons.ts";

/** The environment variable that turns the native path off (`0`) or, on macOS, on (`1`). */
export const SWITCH = "ZEROCOPY_SENDFILE";

/** Reads an environment variable, if that is possible without a prompt. */
export function environment(name: string): string | undefined {
  // Without permission the variable counts as not set: reading it would prompt.
  return isGranted({ name: "env", variable: name }) ? process.env[name] : undefined;
}

function hostSystem(): System | string {
  const { platform, arch } = process;
  if (arch !== "x64" && arch !== "arm64") return `${NO_ABI}${platform} on ${arch}`;
  switch (platform) {
    case "linux":
    case "android":
      return linux(arch);
    case "darwin":
      // oven-sh/bun#33728: XNU can sleep uninterruptibly in sendfile, even on a nonblocking socket.
      if (environment(SWITCH) === "1") return darwin(arch);
      return `${OFF_ON_MACOS}${SWITCH}=1 is set`;
    case "freebsd":
      return freebsd();
    default:
      return NO_SENDFILE_ON + platform;
  }
}

function hostLoader(): Loader | string {
  if (isDeno) {
    // Before 2.8 node:fs returns resource numbers, which the kernel would take for other descriptors.
    const [major, minor] = Deno.version.deno.split(".").map(Number);
    return major > 2 || (major === 2 && minor >= 8) ? denoLoader : OLD_DENO;
  }
  if (!isBun) return NO_FFI;
  return isBunBefore("1.3.3") ? OLD_BUN : bunLoader; // its sockets tell no descriptor
}

/** Loads `system` through the FFI of the runtime, or returns the reason why it cannot. */
export function loadLibc(system: System, libraries = system.libraries): Libc | string {
  const loader = hostLoader();
  if (typeof loader === "string") return loader;
  const symbols = { ...commonSymbols, ...system.symbols };
  const library = loader.load(libraries, symbols, { ...commonBlocking, ...system.blocking });
  return typeof library === "string" ? library : new Libc(library, system);
}

function load(): Libc | string {
  const value = environment(SWITCH);
  if (value === "0" || value === "off") return `${TURNED_OFF}${SWITCH}=${value}`;
  const system = hostSystem();
  return typeof system === "string" ? system : loadLibc(system);
}

let loaded: Libc | string | undefined;

/** The C library, loaded on first use; or the reason why it is not available. The result is cached. */
export function libc(): Libc | string {
  return loaded ??= load();
}

/** For tests: sets another C library or a reason; undefined restores the host's own on the next use. */
export function replaceLibc(replacement: Libc | string | undefined): void {
  loaded = replacement;
}
