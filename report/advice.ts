import * as fs from "node:fs";
import process from "node:process";
import { SWITCH } from "../ffi/load.ts";
import { linux } from "../ffi/linux.ts";
import { isDeno, isGranted } from "../runtime.ts";
import {
  LIBC_NOT_LOADED,
  NO_ABI,
  NO_FFI,
  NO_PERMISSION,
  NO_SENDFILE,
  NO_SENDFILE_ON,
  OFF_ON_MACOS,
  OLD_BUN,
  OLD_DENO,
  TLS,
  TURNED_OFF,
  UNIX_SOCKET,
} from "../reasons.ts";

/** Advice by the beginning of the reason why sendfile(2) is not used. */
const ADVICE: readonly (readonly [reason: string, advice: () => string])[] = [
  [NO_PERMISSION, () => `add ${ffiFlag()}`],
  [TURNED_OFF + SWITCH, () => `take ${SWITCH} out of the environment`],
  [OFF_ON_MACOS, () => `set ${SWITCH}=1, but see oven-sh/bun#33728 before that`],
  [OLD_DENO, () => "deno upgrade"],
  [OLD_BUN, () => "bun upgrade"],
  [NO_FFI, () => "run on Deno or Bun"],
  [NO_SENDFILE, () => "allow sendfile(2) in this container's or service's seccomp filter"],
  [LIBC_NOT_LOADED, () => "use a glibc, musl or BSD system, or report this one to us"],
  [NO_ABI, () => "use x86-64 or arm64, or report this machine to us"],
  [NO_SENDFILE_ON, () => "use Linux, or FreeBSD"],
  [TLS, () => "terminate TLS in a proxy in front of this process"],
  [UNIX_SOCKET, () => "listen on TCP, or use node:net"],
];

/** Reasons that are caused by the kind of socket, not by how this process was started. */
const INHERENT = [TLS, UNIX_SOCKET];

/** Whether the reason holds for all sockets of the kind, on every machine. */
export function isInherent(reason: string): boolean {
  return INHERENT.includes(reason);
}

/** What to change so that sendfile(2) is used; undefined if we know nothing that would help. */
export function adviceFor(reason: string): string | undefined {
  return ADVICE.find(([start]) => reason.startsWith(start))?.[1]();
}

/**
 * The narrowest flag of Deno that turns sendfile(2) on. It names the C library's path if we may check that the file
 * exists.
 */
function ffiFlag(): string {
  const path = libraryPath();
  return path === undefined ? "--allow-ffi" : `--allow-ffi=${path}`;
}

function libraryPath(): string | undefined {
  const { platform, arch } = process;
  if (!isDeno || platform !== "linux" || (arch !== "x64" && arch !== "arm64")) return undefined;
  return linux(arch).libraries.find((path) =>
    path.startsWith("/") && isGranted({ name: "read", path }) &&
    fs.existsSync(path)
  );
}
