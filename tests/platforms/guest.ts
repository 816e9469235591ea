/**
 * Runs the tests of cold files, and the doctor, below Debian's kernel in a guest of qemu: Linux 6.1 lacks cachestat(2).
 * The processor is emulated, so the disk is made ten times slower than elsewhere.
 *
 *     deno task platforms:guest [deno|bun] [TEXT]
 *
 * `TEXT`: only tests whose names contain it.
 *
 * Needs apt-get, dpkg-deb, qemu-system-x86_64, busybox (static), cpio, mke2fs and dd. Takes up to 15 minutes for each
 * runtime. The kernel is downloaded into the cache and not installed. Ends with the guest's exit code.
 */
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { dirname } from "node:path";
import { join, resolve } from "@std/path";
import { findBun } from "../support/find_bun.ts";
import { CACHE } from "./versions.ts";

const ROOT = resolve(import.meta.dirname!, "../..");

/** Modules of Debian's kernel for a disk with ext4, each after those that it needs. */
const MODULES = [
  "virtio_ring",
  "virtio",
  "virtio_pci_legacy_dev",
  "virtio_pci_modern_dev",
  "virtio_pci",
  "virtio_blk",
  "crc16",
  "crc32c_generic",
  "mbcache",
  "jbd2",
  "ext4",
];

/** Seconds for all of it. */
const LIMIT = 1800;

const COLD = "./tests/files/cold_files.test.ts";

/** Each command of the guest prints what it does; the last line says how they ended. */
const COMMANDS = {
  deno: [
    "deno run -A --no-check --node-modules-dir=none cli.ts doctor",
    `deno test -A --no-check --node-modules-dir=none --filter="TEXT" ${COLD}`,
  ],
  bun: ["bun cli.ts doctor", `bun test -t "TEXT" ${COLD}`],
} as const;

const INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc none /proc; $b mount -t sysfs none /sys; $b mount -t devtmpfs none /dev
for module in ${MODULES.join(" ")}; do $b insmod /modules/$module.ko; done
$b mount -t ext4 /dev/vda /root || $b poweroff -f
$b mount -t proc none /root/proc; $b mount -t sysfs none /root/sys; $b mount -t devtmpfs none /root/dev
$b mount -t cgroup2 none /root/sys/fs/cgroup
$b ip link set lo up
$b cp /run.sh /root/run.sh
$b chroot /root /usr/bin/busybox sh /run.sh
$b sync
$b poweroff -f
`;

function scriptOf(runtimes: readonly (keyof typeof COMMANDS)[], text: string): string {
  const commands = runtimes.flatMap((runtime) => COMMANDS[runtime])
    .map((command) => command.replace("TEXT", text))
    .map((command) => `echo '== ${command}'; ${command} 2>&1 || failed=1`);
  return [
    "export PATH=/usr/local/bin:/usr/bin HOME=/root DENO_DIR=/root/deno NO_COLOR=1 SENDFILE_SLOWER_DISK=10",
    "failed=0; cd /work; busybox uname -r",
    ...commands,
    'echo "guest: exit $failed"',
    "",
  ].join("\n");
}

function run(
  program: string,
  args: string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    ...options,
    env: { ...process.env, ...options.env },
    encoding: "utf8",
  });
  if (error || status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout;
}

/** The folder of Debian's newest kernel, unpacked. */
function kernel(): string {
  const [, name] = /Depends: (linux-image-\S+)/.exec(run("apt-cache", ["depends", "linux-image-amd64"]))!;
  const directory = join(CACHE, name);
  if (fs.existsSync(directory)) return directory;
  fs.mkdirSync(CACHE, { recursive: true });
  const half = fs.mkdtempSync(join(CACHE, "half-"));
  run("apt-get", ["download", name], { cwd: half });
  run("dpkg-deb", ["-x", ...fs.readdirSync(half), "kernel"], { cwd: half });
  fs.renameSync(join(half, "kernel"), directory);
  fs.rmSync(half, { recursive: true });
  return directory;
}

function fileBelow(directory: string, name: string | RegExp): string {
  const paths = fs.readdirSync(directory, { recursive: true, encoding: "utf8" });
  const path = paths.find((path) => typeof name === "string" ? path.endsWith(`/${name}`) : name.test(path));
  if (path === undefined) throw new Error(`no ${name} below ${directory}`);
  return join(directory, path);
}

/** Copies what a link leads to. */
function copy(from: string, to: string): void {
  fs.mkdirSync(dirname(to), { recursive: true });
  fs.cpSync(fs.realpathSync(from), to, { recursive: true, dereference: true });
}

/** A program, and the libraries that it needs. */
function copyProgram(root: string, from: string, to: string): void {
  copy(from, join(root, to));
  for (const [path] of run("ldd", [from]).matchAll(/\/\S+/g)) copy(path, join(root, path));
}

function initrd(base: string, kernel: string, script: string): string {
  const root = join(base, "initrd");
  for (const name of ["bin", "proc", "sys", "dev", "root", "modules"]) {
    fs.mkdirSync(join(root, name), { recursive: true });
  }
  copy("/usr/bin/busybox", join(root, "bin/busybox"));
  for (const name of MODULES) copy(fileBelow(kernel, `${name}.ko`), join(root, "modules", `${name}.ko`));
  fs.writeFileSync(join(root, "init"), INIT, { mode: 0o755 });
  fs.writeFileSync(join(root, "run.sh"), script);
  const path = join(base, "initrd.cpio");
  run("sh", ["-c", `find . | cpio -o -H newc --quiet > ${path}`], { cwd: root });
  return path;
}

/** A disk with this repository, Deno, Bun and what they need without a network. */
function disk(base: string): string {
  const root = join(base, "disk");
  for (const name of ["proc", "sys", "dev", "tmp"]) fs.mkdirSync(join(root, name), { recursive: true });
  for (const path of run("git", ["ls-files", "-z"], { cwd: ROOT }).split("\0").filter(Boolean)) {
    copy(join(ROOT, path), join(root, "work", path));
  }
  for (const name of ["mime-types", "mime-db", "@std/assert", "@std/path"]) {
    copy(join(ROOT, "node_modules", name), join(root, "work/node_modules", name));
  }
  copy("/usr/bin/busybox", join(root, "usr/bin/busybox"));
  copyProgram(root, process.execPath, "usr/local/bin/deno");
  copyProgram(root, run("which", [findBun()]).trim(), "usr/local/bin/bun");
  copyProgram(root, "/bin/dd", "usr/bin/dd");
  const cache = ["cache", "--node-modules-dir=none", "cli.ts", COLD];
  run(process.execPath, cache, { cwd: ROOT, env: { DENO_DIR: join(root, "root/deno") } });
  const path = join(base, "disk.img");
  run("truncate", ["-s", "1500M", path]);
  run("mke2fs", ["-q", "-t", "ext4", "-d", root, path]);
  fs.rmSync(root, { recursive: true });
  return path;
}

function boot(kernel: string, initrd: string, disk: string): Promise<string> {
  // Without nice the emulated processors would take all of the machine's.
  const child = spawn("nice", [
    ...["-n", "19", "timeout", "-s", "KILL", String(LIMIT)],
    ...["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"],
    ...["-nodefaults", "-serial", "stdio", "-display", "none", "-no-reboot"],
    ...["-kernel", fileBelow(kernel, /^boot\/vmlinuz-/), "-initrd", initrd],
    ...["-append", "console=ttyS0 quiet panic=1"],
    ...["-drive", `file=${disk},if=none,id=disk,format=raw,cache=none`],
    ...["-device", "virtio-blk-pci,drive=disk"],
  ], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (bytes) => {
    output += bytes;
    process.stdout.write(bytes);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve(output));
  });
}

const [asked, text = ""] = process.argv.slice(2);
if (asked !== undefined && asked !== "deno" && asked !== "bun") {
  throw new TypeError(`deno or bun, not ${asked}`);
}
const base = fs.mkdtempSync(join(tmpdir(), "guest-"));
try {
  const system = kernel();
  const script = scriptOf(asked === undefined ? ["deno", "bun"] : [asked], text);
  const output = await boot(system, initrd(base, system, script), disk(base));
  process.exitCode = /^guest: exit 0\r?$/m.test(output) ? 0 : 1;
} finally {
  fs.rmSync(base, { recursive: true });
}
