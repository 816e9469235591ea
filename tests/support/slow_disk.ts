/**
 * A disk that is slow for the processes that are put on it, by the block I/O controller of cgroups (v1 or v2). What
 * others read from the same disk is as fast as ever.
 */
import { join } from "@std/path";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";

const V1 = "/sys/fs/cgroup/blkio";
const V2 = "/sys/fs/cgroup";

/** A folder whose files are slow to read where they are not in memory. */
export class SlowDisk {
  readonly dir: string = fs.mkdtempSync(join(tmpdir(), "slow-disk-"));
  readonly #group: string;
  readonly #root: string;
  /** The groups that the processes came from. */
  readonly #before = new Map<number, string>();

  /** Throws where {@link whyNoSlowDisk} has a reason. */
  constructor(bytesPerSecond: number) {
    const isV1 = hasV1();
    this.#root = isV1 ? V1 : V2;
    this.#group = fs.mkdtempSync(join(this.#root, "sendfile-"));
    const disk = diskOf(this.dir)!;
    if (isV1) {
      fs.writeFileSync(join(this.#group, "blkio.throttle.read_bps_device"), `${disk} ${bytesPerSecond}`);
    } else {
      fs.writeFileSync(join(V2, "cgroup.subtree_control"), "+io");
      fs.writeFileSync(join(this.#group, "io.max"), `${disk} rbps=${bytesPerSecond}`);
    }
  }

  /** From now on the disk is slow for this process. */
  slowDown(pid: number): void {
    const line = this.#root === V1 ? /^\d+:(?:\S*,)?blkio(?:,\S*)?:(.*)$/m : /^0::(.*)$/m;
    this.#before.set(pid, line.exec(fs.readFileSync(`/proc/${pid}/cgroup`, "utf8"))![1]);
    fs.writeFileSync(join(this.#group, "cgroup.procs"), String(pid));
  }

  /** Writes a file that is not in memory, and gives its path. */
  add(name: string, content: Uint8Array): string {
    const path = join(this.dir, name);
    const fd = fs.openSync(path, "w");
    try {
      fs.writeFileSync(fd, content);
      fs.fsyncSync(fd); // pages that are not on the disk yet stay in memory
    } finally {
      fs.closeSync(fd);
    }
    forget(path);
    return path;
  }

  /** Processes that have not ended go back to where they came from. */
  [Symbol.dispose](): void {
    for (
      const pid of fs.readFileSync(join(this.#group, "cgroup.procs"), "utf8").split("\n").filter(Boolean)
    ) {
      fs.writeFileSync(join(this.#root, this.#before.get(Number(pid)) ?? "", "cgroup.procs"), pid);
    }
    fs.rmSync(this.dir, { recursive: true });
    fs.rmdirSync(this.#group);
  }
}

/** Takes a file's pages out of memory: by dd, as POSIX_FADV_DONTNEED for a whole file. */
export function forget(path: string): void {
  const { status, stderr } = spawnSync("dd", [`if=${path}`, "iflag=nocache", "count=0", "status=none"]);
  if (status !== 0) throw new Error(`dd: ${stderr}`);
}

/** Why there can be no {@link SlowDisk} here; undefined where there can. */
export function whyNoSlowDisk(): string | undefined {
  if (process.platform !== "linux") return "no cgroups";
  if (process.getuid!() !== 0) return "not root";
  if (spawnSync("dd", ["--version"]).error) return "no dd";
  if (diskOf(tmpdir()) === undefined) return `no disk of its own under ${tmpdir()}`;
  const isV1 = hasV1();
  const controllers = join(V2, "cgroup.controllers");
  const isV2 = fs.existsSync(controllers) && / ?\bio\b/.test(fs.readFileSync(controllers, "utf8"));
  if (!isV1 && !isV2) return "no block I/O controller of cgroups";
  try {
    fs.rmdirSync(fs.mkdtempSync(join(isV1 ? V1 : V2, "sendfile-")));
    return undefined;
  } catch {
    return "cgroups cannot be made here";
  }
}

function hasV1(): boolean {
  // Absent from the root group where the kernel has no throttling.
  return fs.existsSync(join(V1, "blkio.throttle.read_bps_device"));
}

/** `major:minor` of the disk under a path; undefined where it is on none, as in tmpfs and overlayfs. */
function diskOf(path: string): string | undefined {
  const dev = fs.statSync(path, { bigint: true }).dev;
  // makedev of glibc
  const major = (dev >> 8n) & 0xfffn | (dev >> 32n) & 0xfffff000n;
  const minor = dev & 0xffn | (dev >> 12n) & 0xffffff00n;
  const device = `/sys/dev/block/${major}:${minor}`;
  if (!fs.existsSync(device)) return undefined;
  // A partition has no limit of its own.
  const whole = fs.existsSync(`${device}/partition`) ? `${device}/../dev` : `${device}/dev`;
  return fs.readFileSync(whole, "utf8").trim();
}
