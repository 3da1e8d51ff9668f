import { readFileSync, writeFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { SeededRandom } from "@dazzle/sim";
import { Cluster, dropCaches } from "../test/support/cluster.ts";
import { LoopDisk } from "../test/support/loop-disk.ts";
import { until } from "../test/support/until.ts";
import { Workspace } from "../test/support/workspace.ts";
import { progress } from "./bench.ts";
import type { BenchOptions } from "./options.ts";

const SEED = 1;
const GIB = 1024 ** 3;
const DEFAULT_GIB = 10;
const FILE_BYTES = 64 * 1024;
const FILES_A_DIRECTORY = 1_000;
const WRITERS = 8;
/** One in so many is synced: so there are segments of a few files beside full ones. */
const SYNCED = 16;
/** So much of what the files took is back: the rest is the shards' own record of it all, which goes with the next checkpoints. */
const BACK = 0.98;
const BACK_DEADLINE_MS = 15 * 60_000;
/** Of the cluster's log, where something fails. */
const LOG_BYTES = 40_000;

interface Space {
  readonly mountBytes: number;
  readonly diskBytes: number;
}

/** Small files, many of them in small segments, all removed again: how long it takes until the space is back, and what is read for it. */
export async function measureDeletion(options: BenchOptions): Promise<void> {
  const workspace = new Workspace(options.parent);
  let logged = () => "";
  try {
    const cluster = new Cluster(workspace, { nodes: options.nodes });
    logged = () => cluster.log();
    const bytes = (options.gib ?? DEFAULT_GIB / options.divisor) * GIB;
    const disks: LoopDisk[] = [];
    const stripes = Math.max(1, options.nodes - 1);
    for (let node = 1; node <= options.nodes; node++)
      disks.push(
        await LoopDisk.create(
          workspace,
          `node${node}`,
          cluster.nodeDirectory(`node${node}`),
          Math.round((1.5 * bytes) / stripes) + 2 * GIB,
        ),
      );
    await cluster.up();
    const space = async (): Promise<Space> => {
      const { bsize, blocks, bfree } = await fs.statfs(cluster.mountpoint);
      const used = await Promise.all(disks.map((disk) => disk.usedBytes()));
      return { mountBytes: bsize * (blocks - bfree), diskBytes: used.reduce((sum, each) => sum + each, 0) };
    };
    const empty = await space();
    const files = Math.ceil(bytes / FILE_BYTES);
    await fill(cluster, files);
    const full = await space();
    progress(`${files} files of 64 KiB are ${megabytes(full.diskBytes - empty.diskBytes)} MB on the disks`);
    await dropCaches();
    const read = new DiskReads(cluster.pids());
    const beganMs = performance.now();
    const seconds = () => (performance.now() - beganMs) / 1_000;
    for (const name of await fs.readdir(cluster.mountpoint)) await fs.rm(cluster.path(name), { recursive: true });
    await cluster.sync();
    const removedS = seconds();
    progress(`removed in ${removedS.toFixed(1)} s`);
    const back = { mount: Number.NaN, disk: Number.NaN };
    await until("the space to be back", BACK_DEADLINE_MS, async () => {
      const now = await space();
      const isBack = (of: keyof Space) => full[of] - now[of] >= BACK * (full[of] - empty[of]);
      if (Number.isNaN(back.mount) && isBack("mountBytes")) back.mount = seconds();
      if (Number.isNaN(back.disk) && isBack("diskBytes")) back.disk = seconds();
      return back.mount > 0 && back.disk > 0;
    });
    const row = {
      ...{ files, megabytes: megabytes(bytes), removedS },
      ...{ mountAfterS: back.mount - removedS, disksAfterS: back.disk - removedS, megabytesRead: megabytes(read.bytes()) },
    };
    await cluster.down();
    process.stdout.write(`| files | MB | removed and synced in, s | statfs has it after, s (goal: 60) | the disks, s (goal: 60) | read, MB |
| --- | --- | --- | --- | --- | --- |
| ${files} | ${row.megabytes} | ${removedS.toFixed(1)} | ${row.mountAfterS.toFixed(1)} | ${row.disksAfterS.toFixed(1)} | ${row.megabytesRead} |
`);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(row, null, 2)}\n`);
  } catch (error) {
    process.stderr.write(logged().slice(-LOG_BYTES));
    throw error;
  } finally {
    await workspace.close();
  }
}

/** Several writers at once, as group commit is meant for. */
async function fill(cluster: Cluster, files: number): Promise<void> {
  const content = Buffer.from(new SeededRandom(SEED).bytes(FILE_BYTES));
  let next = 0;
  const write = async () => {
    for (let index = next++; index < files; index = next++) {
      const directory = cluster.path(`directory-${Math.floor(index / FILES_A_DIRECTORY)}`);
      await fs.mkdir(directory, { recursive: true });
      content.writeUInt32LE(index);
      await fs.writeFile(`${directory}/${index}`, content, { flush: index % SYNCED === 0 });
      if (index % 10_000 === 0) progress(`${index} of ${files} files`);
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
  await cluster.sync();
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1e6);
}

/** What processes fetch from disks, as the kernel counts it: nothing that a cache answers. */
class DiskReads {
  readonly #before: ReadonlyMap<number, number>;

  constructor(pids: readonly number[]) {
    this.#before = new Map(pids.map((pid) => [pid, readBytes(pid)]));
  }

  bytes(): number {
    return [...this.#before].reduce((sum, [pid, before]) => sum + readBytes(pid) - before, 0);
  }
}

function readBytes(pid: number): number {
  return Number(/^read_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? 0);
}
