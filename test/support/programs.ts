import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** The Debian package of each program that the tests call and that is not part of every system. */
const PACKAGES = {
  cc: "gcc",
  make: "make",
  git: "git",
  sqlite3: "sqlite3",
  fusermount3: "fuse3",
  "mkfs.ext4": "e2fsprogs",
  mount: "mount",
  losetup: "mount",
  unshare: "util-linux",
  setpriv: "util-linux",
  nsenter: "util-linux",
  ip: "iproute2",
  diff: "diffutils",
  npm: "npm",
} as const;

export type Program = keyof typeof PACKAGES;

const SEARCHED = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];

/** Throws an error that names the Debian packages of the programs that are missing. */
export function requirePrograms(...programs: Program[]): void {
  const missing = programs.filter((program) => !SEARCHED.some((folder) => isExecutable(join(folder, program))));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => PACKAGES[program]))].join(" ");
  throw new Error(`missing: ${missing.join(", ")}; install with: apt-get install ${packages} (npm run setup does it)`);
}

/** Mounting, loop devices and the kernel's ioctls want root. */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new Error("this test mounts filesystems: run it as root");
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
