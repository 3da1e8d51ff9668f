import type { Stats } from "node:fs";
import { lstat, mkdir, readdir, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { MountError } from "./mount-error.ts";
import { findMount } from "./mount-table.ts";

/** Makes sure that a filesystem can be mounted there: creates the directory where its parent exists, and refuses what would surprise. Returns
 * the path as the kernel's mount table will show it. */
export async function prepareMountpoint(path: string): Promise<string> {
  const mountpoint = await checkMountpoint(path);
  try {
    await mkdir(mountpoint);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EEXIST") throw new MountError(`the mountpoint ${mountpoint} can't be created (${code}); create it, or choose another`);
  }
  return mountpoint;
}

/** As `prepareMountpoint`, but changes nothing. */
export async function checkMountpoint(path: string): Promise<string> {
  const absolute = resolve(path);
  let parent: string;
  try {
    parent = await realpath(dirname(absolute));
  } catch (error) {
    throw new MountError(`the directory ${dirname(absolute)} for the mountpoint ${absolute} ${reason(error)}; create it first`);
  }
  if (!(await lstat(parent)).isDirectory()) throw new MountError(`${parent} is not a directory; choose a mountpoint in one`);
  let mountpoint = join(parent, basename(absolute));
  refuseMounted(mountpoint);
  let status = await statusOf(mountpoint);
  if (status?.isSymbolicLink()) {
    mountpoint = await realpath(mountpoint).catch(() => {
      throw new MountError(`the mountpoint ${absolute} is a symbolic link that leads nowhere; choose another`);
    });
    refuseMounted(mountpoint);
    status = await statusOf(mountpoint);
  }
  if (status === undefined) return mountpoint;
  if (!status.isDirectory()) throw new MountError(`the mountpoint ${mountpoint} is not a directory; choose another`);
  let names: string[];
  try {
    names = await readdir(mountpoint);
  } catch (error) {
    throw new MountError(`the mountpoint ${mountpoint} ${reason(error)}; choose another`);
  }
  if (names.length > 0)
    throw new MountError(`the mountpoint ${mountpoint} is not empty, and a mount would hide what is in it; choose another`);
  return mountpoint;
}

/** Undefined where there is nothing. */
async function statusOf(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new MountError(`the mountpoint ${path} ${reason(error)}; choose another`);
  }
}

function refuseMounted(mountpoint: string): void {
  const mounted = findMount(mountpoint);
  if (mounted === undefined) return;
  throw new MountError(`${mounted.source} (${mounted.type}) is already mounted at ${mountpoint}; unmount it first: umount ${mountpoint}`);
}

function reason(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "does not exist";
  if (code === "ENOTDIR") return "is not a directory";
  if (code === "EACCES") return "may not be entered";
  return `can't be used (${code})`;
}
