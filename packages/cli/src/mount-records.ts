import { readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { abortAndUnmount, findMount } from "@dazzle/fuse";
import { realProcesses } from "@dazzle/runtime";
import { runDirectory } from "./cluster-directory.ts";
import { readJson, writeJson } from "./files.ts";
import { failure } from "./output.ts";

const FILE_SYSTEM_TYPE = "fuse.dazzle";

/** DIR/run/mount-PID.json: a mount of this machine, for its node's watch, for `status`, `sync` and `unmount`. */
export interface MountRecord {
  readonly process: string;
  readonly pid: number;
  /** As the kernel's table shows it. */
  readonly mountpoint: string;
  /** The number below /sys/fs/fuse/connections; 0 while it is being mounted. */
  readonly connection: number;
  readonly member: number;
  /** Where the mount's process answers `status` and `syncMount`; null before it is ready, and while it ends. */
  readonly socket: string | null;
}

/** What the mount table shows as the source, so that a mountpoint tells its cluster. */
export const sourceOf = (directory: string) => `dazzle:${directory}`;

const recordPath = (directory: string, pid: number) => join(runDirectory(directory), `mount-${pid}.json`);
export const mountSocket = (directory: string, pid: number) => join(runDirectory(directory), `mount-${pid}.socket`);
/** Where other mounts of this machine ask for what it has in memory. */
export const peerSocket = (directory: string, pid: number) => join(runDirectory(directory), `mount-${pid}-peers.socket`);

export async function writeRecord(directory: string, record: MountRecord): Promise<void> {
  await writeJson(recordPath(directory, record.pid), record);
}

export async function removeRecord(directory: string, pid: number): Promise<void> {
  await rm(recordPath(directory, pid), { force: true });
  await rm(mountSocket(directory, pid), { force: true });
  await rm(peerSocket(directory, pid), { force: true });
}

export async function readRecords(directory: string): Promise<readonly MountRecord[]> {
  const names = await readdir(runDirectory(directory)).catch(() => []);
  const records: MountRecord[] = [];
  for (const name of names.sort()) {
    if (!/^mount-\d+\.json$/.test(name)) continue;
    const record = await readJson(join(runDirectory(directory), name));
    if (record !== undefined) records.push(record as unknown as MountRecord);
  }
  return records;
}

/** Takes the mount of a process that is gone out of the tree. True when nothing of it is left. */
export async function clearMount(directory: string, record: MountRecord): Promise<boolean> {
  const row = findMount(record.mountpoint);
  const isTheirs = record.connection > 0 ? row?.connection === record.connection : row?.source === sourceOf(directory);
  if (row?.type === FILE_SYSTEM_TYPE && isTheirs && !(await abortAndUnmount(record.mountpoint, row.connection))) return false;
  await removeRecord(directory, record.pid);
  return true;
}

/** Clears every mount whose process is gone. */
export async function clearDeadMounts(directory: string): Promise<void> {
  for (const record of await readRecords(directory)) if (realProcesses.isGone(record.process)) await clearMount(directory, record);
}

/** The cluster's directory and the record of what is mounted at `mountpoint`; found by the mount table where `directory` is not given. */
export async function findRecord(
  mountpoint: string,
  directory: string | undefined,
): Promise<{ readonly directory: string; readonly record: MountRecord }> {
  const path = resolve(mountpoint);
  const row = findMount(path);
  const told = row?.type === FILE_SYSTEM_TYPE && row.source.startsWith("dazzle:") ? row.source.slice("dazzle:".length) : undefined;
  const at = directory ?? told;
  if (at === undefined)
    throw failure(row === undefined ? `no mount of dazzle is at ${path}` : `${path} is not a mount of dazzle, but of ${row.type}`);
  const record = (await readRecords(at)).find((one) => one.mountpoint === path);
  if (record === undefined) throw failure(`no mount of the cluster in ${at} is at ${path}`);
  return { directory: at, record };
}
