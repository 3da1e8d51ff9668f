import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { Cluster, dropCaches } from "../test/support/cluster.ts";
import { ok } from "../test/support/run.ts";
import { until } from "../test/support/until.ts";
import { Workspace } from "../test/support/workspace.ts";
import { progress } from "./bench.ts";
import type { BenchOptions } from "./options.ts";
import { ProcessorClock } from "./processor-time.ts";

const NODES = 6;
const GROUP = 3;
const MEGABYTES = 3_000;
const FILE_BYTES = 8_000_000;
/** What the foreground reads and writes at once, and how often: a load that leaves the machine something. */
const LOAD_BYTES = 1_000_000;
const LOAD_EVERY_MS = 50;
const LOAD_FILES = 40;
const DISK_MIB = 512;
const DEADLINE_MS = 3_600_000;
const COMMAND_MS = 1_800_000;
const SHAPE_MS = 60_000;
const STALL_MS = 1_000;
const WIDER_MS = 5_000;
const RATIO = 1 / 3;

interface Reconfiguration {
  readonly what: string;
  readonly seconds: number;
  /** Of segments, without parity. */
  readonly megabytes: number;
  readonly megabytesPerSecond: number;
  /** What the cluster's processes had written to disks meanwhile, the foreground's bytes included. */
  readonly writtenPerSecond: number;
  readonly ofDisk: number;
  /** Until the map had the new version; undefined where that was not asked. */
  readonly newVersionMs: number | undefined;
  readonly longestStallMs: number | undefined;
  readonly foreground: number | undefined;
  readonly processorSeconds: number;
}

/** A server is added, killed for good and replaced, each under load, and replaced once more with nothing beside: against the disk's sequential speed in the same run. */
export async function measureRebuild(options: BenchOptions): Promise<void> {
  const workspace = new Workspace(options.parent);
  try {
    const disk = await diskSpeed(workspace);
    progress(`the disk writes ${disk.toFixed(0)} MB/s`);
    const cluster = await Cluster.start(workspace, { nodes: NODES, more: ["--group-size", String(GROUP)] });
    const files = Math.ceil((MEGABYTES * 1e6) / FILE_BYTES / options.divisor);
    for (let file = 0; file < files; file++) await fs.writeFile(cluster.path(`file-${file}`), randomBytes(FILE_BYTES));
    await cluster.sync();
    const rows: Reconfiguration[] = [];
    const run = async (what: string, args: readonly string[], loaded: boolean, killed?: string) => {
      await dropCaches();
      if (killed !== undefined) await cluster.killNode(killed);
      const row = await reconfigure(cluster, { what, args, disk, files: loaded ? files : 0 });
      progress(`${what}: ${row.megabytes.toFixed(0)} MB in ${row.seconds.toFixed(1)} s, ${row.megabytesPerSecond.toFixed(0)} MB/s`);
      rows.push(row);
    };
    await run("add-server, under load", ["add-server", "main", "node4"], true);
    await run("killed and replaced, under load", ["replace-server", "main", "node3", "node5"], true, "node3");
    await run("killed and replaced", ["replace-server", "main", "node2", "node6"], false, "node2");
    const fsck = await cluster.command(["fsck", "--dir", cluster.directory], COMMAND_MS);
    const again = await diskSpeed(workspace);
    await cluster.down();
    process.stdout.write(
      `${table(rows)}\nThe disk writes ${disk.toFixed(0)} MB/s before, ${again.toFixed(0)} after; fsck ends with ${fsck.code}.\n`,
    );
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ disk, again, rows, fsck: fsck.code }, null, 2)}\n`);
  } finally {
    await workspace.close();
  }
}

/** MB/s, past the page cache. */
async function diskSpeed(workspace: Workspace): Promise<number> {
  const file = workspace.file("disk-speed");
  const started = performance.now();
  await ok("dd", ["if=/dev/zero", `of=${file}`, "bs=1M", `count=${DISK_MIB}`, "oflag=direct", "conv=fsync"], { timeoutMs: DEADLINE_MS });
  const seconds = (performance.now() - started) / 1_000;
  await fs.rm(file);
  return (DISK_MIB * 1.048576) / seconds;
}

/** `files`: how many the foreground reads; 0 is no foreground. */
async function reconfigure(
  cluster: Cluster,
  { what, args, disk, files }: { what: string; args: readonly string[]; disk: number; files: number },
): Promise<Reconfiguration> {
  const load = new Foreground(cluster, files);
  const written = writtenBytes(cluster);
  const clock = await ProcessorClock.start(cluster);
  const started = performance.now();
  const command = cluster.command(["group", ...args, "--dir", cluster.directory, "--json"], COMMAND_MS);
  const loaded = files > 0 ? load.run() : undefined;
  const arriving = args.at(-1) as string;
  const newVersionMs = await until("the new version", SHAPE_MS, async () => {
    const [group] = (await cluster.status()).groups;
    return group?.servers.includes(arriving) && performance.now() - started;
  });
  const { code, stdout, stderr } = await command;
  const seconds = (performance.now() - started) / 1_000;
  load.end();
  await loaded;
  if (code !== 0) throw new Error(`${args.join(" ")} failed (${code}): ${stderr}`);
  const megabytes = (JSON.parse(stdout) as { readonly bytes: number }).bytes / 1e6;
  return {
    what,
    seconds,
    megabytes,
    megabytesPerSecond: megabytes / seconds,
    writtenPerSecond: (writtenBytes(cluster) - written) / 1e6 / seconds,
    ofDisk: megabytes / seconds / disk,
    newVersionMs,
    longestStallMs: loaded === undefined ? undefined : load.longestMs,
    foreground: loaded === undefined ? undefined : load.operations / seconds,
    processorSeconds: Object.values(clock.read()).reduce((sum, each) => sum + each, 0),
  };
}

/** What the cluster's processes had written to a disk since they started. */
function writtenBytes(cluster: Cluster): number {
  return cluster.pids().reduce((sum, pid) => {
    try {
      return sum + Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? 0);
    } catch {
      return sum;
    }
  }, 0);
}

/** A reader and a writer, who count how long the slowest call took; whatever fails is thrown by `run`. */
class Foreground {
  longestMs = 0;
  operations = 0;
  readonly #cluster: Cluster;
  readonly #files: number;
  #isOver = false;

  constructor(cluster: Cluster, files: number) {
    this.#cluster = cluster;
    this.#files = files;
  }

  async run(): Promise<void> {
    const bytes = randomBytes(LOAD_BYTES);
    const read = Buffer.alloc(LOAD_BYTES);
    await Promise.all([
      this.#loop(async (turn) => {
        const handle = await fs.open(this.#cluster.path(`load-${turn % LOAD_FILES}`), "w");
        await handle.write(bytes);
        await handle.sync();
        await handle.close();
      }),
      this.#loop(async (turn) => {
        const handle = await fs.open(this.#cluster.path(`file-${(turn * 7) % this.#files}`));
        await handle.read(read, 0, LOAD_BYTES, ((turn * 3) % Math.floor(FILE_BYTES / LOAD_BYTES)) * LOAD_BYTES);
        await handle.close();
      }),
    ]);
  }

  end(): void {
    this.#isOver = true;
  }

  async #loop(turn: (turn: number) => Promise<void>): Promise<void> {
    for (let count = 0; !this.#isOver; count++) {
      const started = performance.now();
      await turn(count);
      const took = performance.now() - started;
      this.longestMs = Math.max(this.longestMs, took);
      this.operations++;
      await setTimeout(Math.max(0, LOAD_EVERY_MS - took));
    }
  }
}

function table(rows: readonly Reconfiguration[]): string {
  const head = [
    "| | MB moved | s | MB/s | of the disk (goal: 0.33) | written, MB/s | new version, ms (goal: 5,000) | longest stall, ms (goal: 1,000) | foreground, operations/s | CPU, s | |",
    `|${" --- |".repeat(11)}`,
  ];
  const shown = (value: number | undefined, digits = 0) => value?.toFixed(digits) ?? "";
  const lines = rows.map((row) => {
    const isMet = row.ofDisk >= RATIO && (row.newVersionMs ?? 0) <= WIDER_MS && (row.longestStallMs ?? 0) <= STALL_MS;
    const cells = [
      row.what,
      shown(row.megabytes),
      shown(row.seconds, 1),
      shown(row.megabytesPerSecond),
      shown(row.ofDisk, 2),
      shown(row.writtenPerSecond),
      shown(row.newVersionMs),
      shown(row.longestStallMs),
      shown(row.foreground, 1),
      shown(row.processorSeconds, 1),
      isMet ? "met" : "**missed**",
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return `${[...head, ...lines].join("\n")}\n`;
}
