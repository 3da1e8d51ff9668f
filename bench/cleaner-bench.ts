import { writeFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { SeededRandom } from "@dazzle/sim";
import { dropCaches, type Status } from "../test/support/cluster.ts";
import { type Cleaned, cleanerRow, LeaderKills } from "../test/support/leader-kills.ts";
import { LoopDisk } from "../test/support/loop-disk.ts";
import { type ClusterMachine, MachineCluster } from "../test/support/machine-cluster.ts";
import { until } from "../test/support/until.ts";
import { Workspace } from "../test/support/workspace.ts";
import { progress } from "./bench.ts";
import { OverwrittenFiles, UPDATE_BYTES } from "./cleaning/overwritten-files.ts";
import type { BenchOptions } from "./options.ts";
import { ProcessorClock } from "./processor-time.ts";

const SEED = 1;
const MIB = 1024 * 1024;
/** Of each of three nodes: 8 GiB with one parity in three. */
const DISK_BYTES = 4096 * MIB;
const QUICK_DISK_BYTES = 1024 * MIB;
/** Machines that only clean, where whoever leads is killed: another one leads meanwhile. */
const CLEANERS = 2;
const FILLS = [0.4, 0.85] as const;
/** Updates write so many times the free space of the fuller disk. */
const TIMES_FREE = 10;
const FSCK_TIMEOUT_MS = 600_000;
const STATUS_DEADLINE_MS = 60_000;

interface Load {
  readonly full: number;
  readonly megabytes: number;
  readonly megabytesPerSecond: number;
  readonly longestStallMs: number;
  readonly refused: number;
  readonly segmentsCleaned: number;
  readonly megabytesMoved: number;
  /** All that was written and all that was moved, twice, as it is read and written, for each byte that was written (Rosenblum and Ousterhout 1992). */
  readonly writeCost: number;
  /** CPU seconds by process. */
  readonly processorTime: Readonly<Record<string, number>>;
}

/** Files overwritten in part at random, hot and cold, on a cluster of small disks: 85% full against 40% full, in the same run. Throws where a byte is wrong in the end, or fsck
 * finds something. With `killEveryS` cleaners are machines of their own: whoever leads them is killed so often, and no storage server is. */
export async function measureCleaner(options: BenchOptions): Promise<void> {
  const workspace = new Workspace(options.parent);
  try {
    const { killEveryS } = options;
    const cluster = await startCluster(workspace, options);
    const { first } = cluster;
    await first.mount();
    const { bsize, bavail } = await fs.statfs(first.mountpoint);
    const capacityBytes = bsize * bavail;
    const files = new OverwrittenFiles(first.mountpoint, new SeededRandom(SEED));
    const loads: Load[] = [];
    const kills = killEveryS === undefined ? null : new LeaderKills(cluster, 1_000 * killEveryS);
    const cleaned = () => (kills === null ? cleanerRow(cluster) : kills.cleaned());
    for (const full of FILLS) {
      await files.grow(full * capacityBytes);
      await first.sync();
      progress(`${files.count} files of 1 MiB: ${100 * full}% of the ${(capacityBytes / MIB).toFixed(0)} MiB that there are for files`);
      loads.push(await measureLoad({ cluster, files, full, bytes: TIMES_FREE * (1 - FILLS[1]) * capacityBytes, cleaned }));
    }
    await kills?.end();
    await first.unmount();
    await dropCaches();
    await first.mount();
    await files.check();
    const { code, stdout, stderr } = await first.dazzle(["fsck", "--data", "--dir", first.directory], FSCK_TIMEOUT_MS);
    if (code !== 0) throw new Error(`fsck found something:\n${stdout}${stderr}`);
    await cluster.down();
    process.stdout.write(`${table(loads, kills)}\n`);
    const [roomy, full] = loads as [Load, Load];
    const ratio = full.megabytesPerSecond / roomy.megabytesPerSecond;
    process.stdout.write(`${(100 * ratio).toFixed(0)}% of the speed (goal: 75%). Every byte is right, and fsck is clean.\n`);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ loads, ratio, kills: kills?.kills ?? 0 }, null, 2)}\n`);
  } finally {
    await workspace.close();
  }
}

/** Machines that store and manage, each on a disk of its own. They clean as well, but where cleaners are to be killed: then two more machines do nothing else. */
async function startCluster(workspace: Workspace, { nodes, divisor, killEveryS }: BenchOptions): Promise<MachineCluster> {
  const roles = killEveryS === undefined ? [] : ["--roles", "storage,manager,keeper,client"];
  const prepare = async ({ directory, machine }: ClusterMachine, number: number) => {
    if (number > nodes) return ["--roles", "cleaner"];
    await LoopDisk.create(workspace, machine.name, directory, divisor === 1 ? DISK_BYTES : QUICK_DISK_BYTES);
    return roles;
  };
  const cluster = await MachineCluster.start(workspace, nodes, { prepare });
  if (killEveryS !== undefined) for (let cleaner = 1; cleaner <= CLEANERS; cleaner++) await cluster.join();
  return cluster;
}

interface Overwriting {
  readonly cluster: MachineCluster;
  readonly files: OverwrittenFiles;
  readonly full: number;
  readonly bytes: number;
  readonly cleaned: () => Promise<Cleaned>;
}

/** Overwrites so many bytes, and waits until they are durable. */
async function measureLoad({ cluster, files, full, bytes, cleaned }: Overwriting): Promise<Load> {
  const before = { ...(await cleaned()), stored: await storedByCleaners(cluster) };
  const clock = await ProcessorClock.start(cluster);
  const startMs = performance.now();
  const { longestStallMs, refused } = await files.update(Math.round(bytes / UPDATE_BYTES));
  await cluster.first.sync();
  const seconds = (performance.now() - startMs) / 1_000;
  const processorTime = clock.read();
  const written = (await storedByCleaners(cluster)) - before.stored;
  const after = await cleaned();
  // A leader that is killed has not counted all: but what is read for each byte written it has.
  const readForEach = (after.bytesRead - before.bytesRead) / Math.max(1, after.bytesWritten - before.bytesWritten);
  progress(`${(bytes / 1e6).toFixed(0)} MB overwritten in ${seconds.toFixed(0)} s`);
  return {
    ...{ full, longestStallMs, refused, processorTime, megabytes: bytes / 1e6, megabytesPerSecond: bytes / 1e6 / seconds },
    segmentsCleaned: after.segmentsCleaned - before.segmentsCleaned,
    megabytesMoved: written / 1e6,
    writeCost: (bytes + readForEach * written + written) / bytes,
  };
}

/** Bytes of payloads in cleaners' logs, as the storage servers count them: none of these is killed. */
async function storedByCleaners(cluster: MachineCluster): Promise<number> {
  return until("every storage server to tell what it stored", STATUS_DEADLINE_MS, async () => {
    const { members, written } = (await cluster.status()) as Status & { readonly written: { readonly byCleaners: number } };
    return members.every(({ roles, state }) => !roles.includes("storage") || state === "up") && written.byCleaners;
  });
}

function table(loads: readonly Load[], kills: LeaderKills | null): string {
  const columns = [
    "full",
    "overwritten, MB",
    "MB/s",
    "longest stall, ms (goal: 1,000)",
    "ENOSPC (goal: 0)",
    "segments cleaned",
    "MB moved",
  ];
  const head = [...columns, "write cost (goal: 2.5)", "CPU, s"];
  const rows = loads.map((load) => [
    ...[`${100 * load.full}%`, load.megabytes.toFixed(0), load.megabytesPerSecond.toFixed(1), load.longestStallMs.toFixed(0), load.refused],
    ...[load.segmentsCleaned, load.megabytesMoved.toFixed(0), load.writeCost.toFixed(2)],
    Object.entries(load.processorTime)
      .map(([name, seconds]) => `${name} ${seconds.toFixed(0)}`)
      .join(", "),
  ]);
  const lines = [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |\n`).join("");
  if (kills === null) return lines;
  return `${lines}
Whoever led the cleaning was killed ${kills.kills} times. Segments cleaned and CPU time are lower bounds: what a leader had under way, and its CPU time, are gone with it.
`;
}
