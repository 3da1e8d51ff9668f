import { existsSync, writeFileSync } from "node:fs";

const CONTROLLER = "/sys/fs/cgroup/blkio";

/** The controller's list of what is limited: lines of MAJOR:MINOR and bytes a second. */
export function limitsOf(way: "read" | "write"): string {
  return `${CONTROLLER}/blkio.throttle.${way}_bps_device`;
}

/** Throws where the kernel limits no disk's speed. */
export function requireDiskSpeed(): void {
  if (!existsSync(limitsOf("write")))
    throw new Error(`limiting the speed of a disk takes the blkio controller of cgroup v1 at ${CONTROLLER}`);
}

/** What the processes of the root cgroup read from a block device (MAJOR:MINOR), and write to it, in a second; 0: as much as they can. It stays with the number, also when another device has it. */
export function limitSpeed(device: string, bytesPerSecond: number): void {
  for (const way of ["read", "write"] as const) writeFileSync(limitsOf(way), `${device} ${bytesPerSecond}\n`);
}
