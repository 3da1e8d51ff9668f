import { sleep } from "@dazzle/core";
import { pidOf, realClock, realProcesses } from "@dazzle/runtime";
import { type ClusterFile, type NodeRow, nodeDirectory, nodeLock } from "./cluster-directory.ts";
import { lockHolder } from "./lock.ts";
import { clearDeadMounts, readRecords } from "./mount-records.ts";

/** Longer than a mount gives itself to write what is not durable yet. */
const MOUNT_DEADLINE_MS = 45_000;
const NODE_DEADLINE_MS = 25_000;
const KILL_DEADLINE_MS = 5_000;
const POLL_MS = 50;

/** Resolves to whether the process is gone. */
export async function isGoneWithin(identity: string, deadlineMs: number): Promise<boolean> {
  const endMs = realClock.nowMs() + deadlineMs;
  while (!realProcesses.isGone(identity)) {
    if (realClock.nowMs() > endMs) return false;
    await sleep(realClock, POLL_MS);
  }
  return true;
}

/** Where the process is still there. */
export function signal(identity: string, name: NodeJS.Signals): void {
  const pid = pidOf(identity);
  if (pid === undefined || realProcesses.isGone(identity)) return;
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Asks a process to stop, and kills it after the deadline. Resolves to whether it ended by itself. */
async function stopProcess(identity: string, deadlineMs: number): Promise<boolean> {
  signal(identity, "SIGTERM");
  // A frozen process takes the signal only when it goes on.
  signal(identity, "SIGCONT");
  if (await isGoneWithin(identity, deadlineMs)) return true;
  signal(identity, "SIGKILL");
  await isGoneWithin(identity, KILL_DEADLINE_MS);
  return false;
}

/** `Processes.self` of the node that runs in its directory; undefined where none does. */
export function runningNode(directory: string, row: NodeRow): string | undefined {
  const holder = lockHolder(nodeLock(nodeDirectory(directory, row.name)));
  return holder === undefined || realProcesses.isGone(holder) ? undefined : holder;
}

/** Stops every process of the cluster on this machine, whoever started it: mounts first, then the manager, whose last words go to the storage
 * of the others. Resolves to how many there were, and whether all ended by themselves. */
export async function stopCluster(directory: string, cluster: ClusterFile): Promise<{ readonly stopped: number; readonly clean: boolean }> {
  const mounts = (await readRecords(directory)).map((record) => record.process).filter((identity) => !realProcesses.isGone(identity));
  const ends = await Promise.all(mounts.map((identity) => stopProcess(identity, MOUNT_DEADLINE_MS)));
  await clearDeadMounts(directory);
  const managers = cluster.nodes.filter(({ roles }) => roles.includes("manager"));
  for (const rows of [managers, cluster.nodes.filter((row) => !managers.includes(row))]) {
    const nodes = rows.flatMap((row) => runningNode(directory, row) ?? []);
    ends.push(...(await Promise.all(nodes.map((identity) => stopProcess(identity, NODE_DEADLINE_MS)))));
  }
  return { stopped: ends.length, clean: ends.every(Boolean) };
}
