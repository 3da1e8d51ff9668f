import { writeFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { SeededRandom } from "@dazzle/sim";
import { Cluster } from "../test/support/cluster.ts";
import { LoopDisk } from "../test/support/loop-disk.ts";
import { Workspace } from "../test/support/workspace.ts";
import { progress } from "./bench.ts";
import type { BenchOptions } from "./options.ts";

const SEED = 1;
const DISK_BYTES = 900_000_000;
const FILE_BYTES = 1024 * 1024;
/** What one update overwrites, at a multiple of it. */
const UPDATE_BYTES = 64 * 1024;
const HOT_SHARE = 0.1;
const HOT_UPDATES = 0.9;
const FILLS = [0.4, 0.85] as const;
/** Updates write so many times the free space of the fuller disk. */
const TIMES_FREE = 10;

interface Load {
  readonly full: number;
  readonly megabytes: number;
  readonly megabytesPerSecond: number;
  readonly longestStallMs: number;
  readonly refused: number;
}

interface CleaningRow {
  readonly segmentsCleaned: number;
  readonly writeCost: number;
}

/** Files overwritten in part at random, hot and cold, on a cluster of small disks: 85% full against 40% full, in the same run. */
export async function measureCleaner(options: BenchOptions): Promise<void> {
  const workspace = new Workspace(options.parent);
  try {
    const cluster = new Cluster(workspace, { nodes: options.nodes });
    const diskBytes = Math.round(DISK_BYTES / (options.divisor === 1 ? 1 : 3));
    for (let node = 1; node <= options.nodes; node++)
      await LoopDisk.create(workspace, `node${node}`, cluster.nodeDirectory(`node${node}`), diskBytes);
    await cluster.up();
    const files = new Files(cluster);
    const loads: Load[] = [];
    for (const full of FILLS) {
      await files.fill(full);
      loads.push(await files.update(full, (TIMES_FREE * (1 - FILLS[1])) / options.divisor));
    }
    const { cleaner } = (await cluster.status()) as unknown as { readonly cleaner: { readonly groups: readonly CleaningRow[] } };
    const cleaning = cleaner.groups[0];
    await cluster.down();
    process.stdout.write(table(loads));
    const [roomy, full] = loads as [Load, Load];
    const ratio = full.megabytesPerSecond / roomy.megabytesPerSecond;
    process.stdout.write(`\n${(100 * ratio).toFixed(0)}% of the speed (goal: 75%)\n`);
    process.stdout.write(
      `${cleaning?.segmentsCleaned ?? 0} segments cleaned, write cost ${(cleaning?.writeCost ?? 1).toFixed(2)} (goal: 2.5)\n`,
    );
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ loads, ratio, cleaning }, null, 2)}\n`);
  } finally {
    await workspace.close();
  }
}

class Files {
  readonly #cluster: Cluster;
  readonly #random = new SeededRandom(SEED);
  #count = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  #path(index: number): string {
    return this.#cluster.path(`file-${index}`);
  }

  async #space(): Promise<{ readonly totalBytes: number; readonly freeShare: number }> {
    const { bsize, blocks, bavail } = await fs.statfs(this.#cluster.mountpoint);
    return { totalBytes: bsize * blocks, freeShare: bavail / blocks };
  }

  /** New files, until so much of the space is taken. */
  async fill(share: number): Promise<void> {
    while ((await this.#space()).freeShare > 1 - share) {
      for (let more = 0; more < 8; more++) await fs.writeFile(this.#path(this.#count++), this.#random.bytes(FILE_BYTES));
      await this.#cluster.sync();
    }
    progress(`${this.#count} files of 1 MiB: ${100 * share}% full`);
  }

  /** Overwrites as many bytes as this share of the disk, and waits until they are durable. */
  async update(full: number, share: number): Promise<Load> {
    const { totalBytes } = await this.#space();
    const updates = Math.round((share * totalBytes) / UPDATE_BYTES);
    const hot = Math.max(1, Math.round(this.#count * HOT_SHARE));
    const bytes = this.#random.bytes(UPDATE_BYTES);
    let longestStallMs = 0;
    let refused = 0;
    const startMs = performance.now();
    for (let done = 0; done < updates; done++) {
      const index = this.#random.chance(HOT_UPDATES) ? this.#random.below(hot) : this.#random.below(this.#count);
      const beganMs = performance.now();
      const handle = await fs.open(this.#path(index), "r+");
      try {
        await handle.write(bytes, 0, UPDATE_BYTES, UPDATE_BYTES * this.#random.below(FILE_BYTES / UPDATE_BYTES));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        refused++;
      } finally {
        await handle.close();
      }
      longestStallMs = Math.max(longestStallMs, performance.now() - beganMs);
    }
    await this.#cluster.sync();
    const seconds = (performance.now() - startMs) / 1_000;
    const megabytes = (updates * UPDATE_BYTES) / 1e6;
    progress(`${megabytes.toFixed(0)} MB overwritten in ${seconds.toFixed(0)} s`);
    return { full, megabytes, megabytesPerSecond: megabytes / seconds, longestStallMs, refused };
  }
}

function table(loads: readonly Load[]): string {
  const head = "| full | overwritten, MB | MB/s | longest stall, ms (goal: 1,000) | ENOSPC (goal: 0) |\n| --- | --- | --- | --- | --- |\n";
  const rows = loads.map(({ full, megabytes, megabytesPerSecond, longestStallMs, refused }) =>
    [`${100 * full}%`, megabytes.toFixed(0), megabytesPerSecond.toFixed(1), longestStallMs.toFixed(0), refused].join(" | "),
  );
  return head + rows.map((row) => `| ${row} |\n`).join("");
}
