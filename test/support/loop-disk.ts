import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { limitSpeed, requireDiskSpeed } from "./disk-speed.ts";
import { requirePrograms } from "./programs.ts";
import { ok, run } from "./run.ts";
import { tool } from "./tool.ts";
import { until } from "./until.ts";
import type { Workspace } from "./workspace.ts";

const UNMOUNT_DEADLINE_MS = 60_000;

export interface LoopDiskOptions {
  /** What can be read from it in a second, and written to it. */
  readonly bytesPerSecond?: number;
}

/** A disk of its own for a directory: an ext4 in a file, on a loop device. The workspace's janitor takes the limit of its speed back and unmounts it whatever happens. */
export class LoopDisk {
  readonly mountpoint: string;
  readonly #image: string;
  readonly #options: LoopDiskOptions;

  private constructor(mountpoint: string, image: string, options: LoopDiskOptions) {
    this.mountpoint = mountpoint;
    this.#image = image;
    this.#options = options;
  }

  static async create(
    workspace: Workspace,
    name: string,
    mountpoint: string,
    bytes: number,
    options: LoopDiskOptions = {},
  ): Promise<LoopDisk> {
    requirePrograms("mkfs.ext4", "mount", "losetup");
    if (options.bytesPerSecond !== undefined) requireDiskSpeed();
    const image = workspace.file(`${name}.ext4`);
    mkdirSync(mountpoint, { recursive: true });
    await ok("truncate", ["-s", String(bytes), image]);
    await ok("mkfs.ext4", ["-q", "-m", "0", image]);
    const disk = new LoopDisk(mountpoint, image, options);
    await disk.mount();
    rmdirSync(join(mountpoint, "lost+found"));
    return disk;
  }

  async mount(): Promise<void> {
    // The kernel would write the empty index nodes in the background, with what the disk can do.
    await ok("mount", ["-o", "loop,noinit_itable", this.#image, this.mountpoint]);
    await this.#limit(this.#options.bytesPerSecond);
  }

  async #limit(bytesPerSecond: number | undefined): Promise<void> {
    if (bytesPerSecond === undefined) return;
    const device = (await ok("losetup", ["--associated", this.#image, "--noheadings", "--output", "MAJ:MIN"])).trim();
    limitSpeed(device, bytesPerSecond);
  }

  /** Until nothing has the filesystem mounted any more. A copy of the mount, in the mount namespace of a process that began meanwhile, would
   * keep it, and mounting again would find it as it is. Not by a lazy unmount: what still has a file open would keep it as well. */
  async unmount(): Promise<void> {
    if (this.#options.bytesPerSecond !== undefined) await this.#limit(0);
    await until(`unmounting ${this.mountpoint}`, UNMOUNT_DEADLINE_MS, async () => (await run("umount", [this.mountpoint])).code === 0);
    const released = async () => (await ok("losetup", ["--associated", this.#image])) === "";
    await until(`the loop device of ${this.#image} to be free`, UNMOUNT_DEADLINE_MS, released);
  }

  /** From now on every write and sync waits until `thaw`. */
  async freeze(): Promise<void> {
    await ok("fsfreeze", ["--freeze", this.mountpoint]);
  }

  async thaw(): Promise<void> {
    await ok("fsfreeze", ["--unfreeze", this.mountpoint]);
  }

  /** Bytes in use, as the disk itself tells them. */
  async usedBytes(): Promise<number> {
    const [, used] = (await ok("df", ["-B1", "--output=used", this.mountpoint])).trim().split("\n");
    return Number(used);
  }
}

/** Cuts the power: nothing that the disks have not written by now is written any more, and the processes are gone. */
export async function cutPower(disks: readonly LoopDisk[], pids: readonly number[]): Promise<void> {
  await ok(await tool(), ["cut", ...pids.map(String), "--", ...disks.map((disk) => disk.mountpoint)]);
}

/** The power is back: every disk replays its journal. */
export async function restorePower(disks: readonly LoopDisk[]): Promise<void> {
  for (const disk of disks) {
    await disk.unmount();
    await disk.mount();
  }
}
