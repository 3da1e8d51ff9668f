import { writeFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { SeededRandom } from "@dazzle/sim";
import { Cluster } from "../test/support/cluster.ts";
import { LeaderKills } from "../test/support/leader-kills.ts";
import { LoopDisk } from "../test/support/loop-disk.ts";
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
const FILLS = [0.4, 0.85] as const;
/** Updates write so many times the free space of the fuller disk. */
const TIMES_FREE = 10;
const FSCK_TIMEOUT_MS = 600_000;

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

interface CleaningRow {
  readonly segmentsCleaned: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** Files overwritten in part at random, hot and cold, on a cluster of small disks: 85% full against 40% full, in the same run. Throws where a byte is wrong in the end, or fsck
 * finds something. With `killEveryS` what a leader that is killed had counted of its cleaning is lost with it. */
export async function measureCleaner(options: BenchOptions): Promise<void> {
  const workspace = new Workspace(options.parent);
  try {
    const cluster = new Cluster(workspace, { nodes: options.nodes });
    for (let node = 1; node <= options.nodes; node++)
      await LoopDisk.create(
        workspace,
        `node${node}`,
        cluster.nodeDirectory(`node${node}`),
        options.divisor === 1 ? DISK_BYTES : QUICK_DISK_BYTES,
      );
    await cluster.up();
    const { bsize, bavail } = await fs.statfs(cluster.mountpoint);
    const capacityBytes = bsize * bavail;
    const files = new OverwrittenFiles(cluster.mountpoint, new SeededRandom(SEED));
    const loads: Load[] = [];
    const kills = options.killEveryS === undefined ? null : new LeaderKills(cluster, 1_000 * options.killEveryS);
    for (const full of FILLS) {
      await files.grow(full * capacityBytes);
      await cluster.sync();
      progress(`${files.count} files of 1 MiB: ${100 * full}% of the ${(capacityBytes / MIB).toFixed(0)} MiB that there are for files`);
      loads.push(await measureLoad(cluster, files, full, TIMES_FREE * (1 - FILLS[1]) * capacityBytes));
    }
    await kills?.end();
    if (kills !== null) progress(`whoever led the cleaning was killed ${kills.kills} times`);
    await cluster.remountCold();
    await files.check();
    const { code, stdout, stderr } = await cluster.command(["fsck", "--data", "--dir", cluster.directory], FSCK_TIMEOUT_MS);
    if (code !== 0) throw new Error(`fsck found something:\n${stdout}${stderr}`);
    await cluster.down();
    process.stdout.write(`${table(loads)}\n`);
    const [roomy, full] = loads as [Load, Load];
    const ratio = full.megabytesPerSecond / roomy.megabytesPerSecond;
    process.stdout.write(`${(100 * ratio).toFixed(0)}% of the speed (goal: 75%). Every byte is right, and fsck is clean.\n`);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ loads, ratio }, null, 2)}\n`);
  } finally {
    await workspace.close();
  }
}

/** Overwrites so many bytes, and waits until they are durable. */
async function measureLoad(cluster: Cluster, files: OverwrittenFiles, full: number, bytes: number): Promise<Load> {
  const before = await cleaned(cluster);
  const clock = await ProcessorClock.start(cluster);
  const startMs = performance.now();
  const { longestStallMs, refused } = await files.update(Math.round(bytes / UPDATE_BYTES));
  await cluster.sync();
  const seconds = (performance.now() - startMs) / 1_000;
  const processorTime = clock.read();
  const after = await cleaned(cluster);
  const moved = { read: after.bytesRead - before.bytesRead, written: after.bytesWritten - before.bytesWritten };
  progress(`${(bytes / 1e6).toFixed(0)} MB overwritten in ${seconds.toFixed(0)} s`);
  return {
    ...{ full, longestStallMs, refused, processorTime, megabytes: bytes / 1e6, megabytesPerSecond: bytes / 1e6 / seconds },
    segmentsCleaned: after.segmentsCleaned - before.segmentsCleaned,
    megabytesMoved: moved.written / 1e6,
    writeCost: (bytes + moved.read + moved.written) / bytes,
  };
}

async function cleaned(cluster: Cluster): Promise<CleaningRow> {
  const { cleaner } = (await cluster.status()) as unknown as { readonly cleaner: { readonly groups: readonly CleaningRow[] } };
  return cleaner.groups[0] ?? { segmentsCleaned: 0, bytesRead: 0, bytesWritten: 0 };
}

function table(loads: readonly Load[]): string {
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
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |\n`).join("");
}
