import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { Cluster, dropCaches } from "../test/support/cluster.ts";
import { LoopDisk } from "../test/support/loop-disk.ts";
import { ok } from "../test/support/run.ts";
import { until } from "../test/support/until.ts";
import { Workspace } from "../test/support/workspace.ts";
import { progress } from "./bench.ts";
import type { BenchOptions } from "./options.ts";
import { ProcessorClock } from "./processor-time.ts";

const NODES = 6;
const GROUP = 3;
const BYTES = 3e9;
const GIB = 1024 ** 3;
const FILE_BYTES = 8_000_000;
/** What the foreground reads and writes at once, and how often: a load that leaves the machine something. */
const LOAD_BYTES = 1_000_000;
const LOAD_EVERY_MS = 50;
const LOAD_FILES = 40;
/** What each of the processes writes and reads that the disks are measured with, and how many there are: as many as servers of the group. */
const RAW_MIB = 256;
const RAW_PROCESSES = GROUP + 1;
/** A disk that is limited holds twice what is stored, and so much. */
const SPARE_BYTES = 4 * GIB;
/** What is faster by so much is not limited. */
const LIMIT_SLACK = 1.5;
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
  /** What the cluster's processes read from disks and had written to them meanwhile, the foreground's bytes included. */
  readonly readPerSecond: number;
  readonly writtenPerSecond: number;
  /** Of what the raw processes write together. */
  readonly ofDisk: number;
  /** Until the map had the new version; undefined where that was not asked. */
  readonly newVersionMs: number | undefined;
  readonly longestStallMs: number | undefined;
  readonly foreground: number | undefined;
  readonly processorSeconds: number;
}

/** A server is added, killed for good and replaced, each under load, and replaced once more with nothing beside: against what as many processes write to the same disks in the same run. */
export async function measureRebuild(options: BenchOptions): Promise<void> {
  const workspace = new Workspace(options.parent);
  try {
    const bytes = options.gib === undefined ? BYTES / options.divisor : options.gib * GIB;
    const cluster = new Cluster(workspace, { nodes: NODES, more: ["--group-size", String(GROUP)] });
    const folders = await disksOf(workspace, cluster, bytes, options.diskMegabytesPerSecond);
    const disk = await rawSpeed(workspace, folders);
    progress(rawText(disk));
    if (disk.write > LIMIT_SLACK * folders.length * (options.diskMegabytesPerSecond ?? Infinity))
      throw new Error(`disks that are limited to ${options.diskMegabytesPerSecond} MB/s each are faster: is this the root cgroup?`);
    await cluster.up();
    const files = Math.ceil(bytes / FILE_BYTES);
    for (let file = 0; file < files; file++) await fs.writeFile(cluster.path(`file-${file}`), randomBytes(FILE_BYTES));
    await cluster.sync();
    const rows: Reconfiguration[] = [];
    const run = async (what: string, args: readonly string[], loaded: boolean, killed?: string) => {
      await dropCaches();
      if (killed !== undefined) await cluster.killNode(killed);
      const row = await reconfigure(cluster, { what, args, disk: disk.write, files: loaded ? files : 0 });
      progress(`${what}: ${row.megabytes.toFixed(0)} MB in ${row.seconds.toFixed(1)} s, ${row.megabytesPerSecond.toFixed(0)} MB/s`);
      rows.push(row);
    };
    await run("add-server, under load", ["add-server", "main", "node4"], true);
    await run("killed and replaced, under load", ["replace-server", "main", "node3", "node5"], true, "node3");
    await run("killed and replaced", ["replace-server", "main", "node2", "node6"], false, "node2");
    const fsck = await cluster.command(["fsck", "--dir", cluster.directory], COMMAND_MS);
    if (fsck.code !== 0) progress(`fsck ends with ${fsck.code}:\n${fsck.stdout}${fsck.stderr}`);
    const again = await rawSpeed(workspace, folders);
    await cluster.down();
    const setting =
      options.diskMegabytesPerSecond === undefined
        ? "All nodes share one disk"
        : `Each node has a disk of its own, limited to ${options.diskMegabytesPerSecond} MB/s of reads and as much of writes; ${RAW_PROCESSES} of these are measured, by a process each`;
    process.stdout.write(`${table(rows)}\n${setting}. Before, ${rawText(disk)}; after, ${rawText(again)}. fsck ends with ${fsck.code}.\n`);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ disk, again, rows, fsck: fsck.code }, null, 2)}\n`);
  } finally {
    await workspace.close();
  }
}

/** MB/s of all processes together. */
interface RawSpeed {
  readonly write: number;
  readonly read: number;
}

/** Where the processes write that the disks are measured with: on the disks of as many nodes, where each node has its own. */
async function disksOf(
  workspace: Workspace,
  cluster: Cluster,
  bytes: number,
  megabytesPerSecond: number | undefined,
): Promise<readonly string[]> {
  if (megabytesPerSecond === undefined) return Array.from({ length: RAW_PROCESSES }, () => workspace.path);
  const folders: string[] = [];
  for (let node = 1; node <= NODES; node++) {
    const folder = cluster.nodeDirectory(`node${node}`);
    await LoopDisk.create(workspace, `node${node}`, folder, 2 * bytes + SPARE_BYTES, { bytesPerSecond: megabytesPerSecond * 1e6 });
    folders.push(folder);
  }
  return folders.slice(0, RAW_PROCESSES);
}

/** As many processes as the group has servers write a file each of bytes that don't compress, sync it, and read it back: in turn, all at once, past the page cache. */
async function rawSpeed(workspace: Workspace, folders: readonly string[]): Promise<RawSpeed> {
  const source = workspace.file("raw-source");
  await fs.writeFile(source, randomBytes(RAW_MIB * 1_048_576));
  const files = folders.map((folder, at) => join(folder, `raw-${at}`));
  const all = async (args: (file: string) => readonly string[]) => {
    const started = performance.now();
    await Promise.all(files.map((file) => ok("dd", [...args(file), "bs=1M"], { timeoutMs: DEADLINE_MS })));
    return (files.length * RAW_MIB * 1.048576) / ((performance.now() - started) / 1_000);
  };
  const write = await all((file) => [`if=${source}`, `of=${file}`, "oflag=direct", "conv=fsync"]);
  const read = await all((file) => [`if=${file}`, "of=/dev/null", "iflag=direct"]);
  for (const file of [source, ...files]) await fs.rm(file);
  return { write, read };
}

/** `files`: how many the foreground reads; 0 is no foreground. */
async function reconfigure(
  cluster: Cluster,
  { what, args, disk, files }: { what: string; args: readonly string[]; disk: number; files: number },
): Promise<Reconfiguration> {
  const load = new Foreground(cluster, files);
  const before = await diskBytes(cluster);
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
  const after = await diskBytes(cluster);
  const megabytes = (JSON.parse(stdout) as { readonly bytes: number }).bytes / 1e6;
  return {
    what,
    seconds,
    megabytes,
    megabytesPerSecond: megabytes / seconds,
    readPerSecond: (after.read - before.read) / 1e6 / seconds,
    writtenPerSecond: (after.written - before.written) / 1e6 / seconds,
    ofDisk: megabytes / seconds / disk,
    newVersionMs,
    longestStallMs: loaded === undefined ? undefined : load.longestMs,
    foreground: loaded === undefined ? undefined : load.operations / seconds,
    processorSeconds: Object.values(clock.read()).reduce((sum, each) => sum + each, 0),
  };
}

/** What the cluster's processes have read from disks, and had written to them, since they started. */
async function diskBytes(cluster: Cluster): Promise<{ readonly read: number; readonly written: number }> {
  const { members, mounts } = await cluster.status();
  let read = 0;
  let written = 0;
  // Not of `up`, to which the kernel adds what its children had once they have ended.
  for (const { pid } of [...members, ...mounts])
    try {
      const told = readFileSync(`/proc/${pid}/io`, "latin1");
      read += Number(/^read_bytes: (\d+)$/m.exec(told)?.[1] ?? 0);
      written += Number(/^write_bytes: (\d+)$/m.exec(told)?.[1] ?? 0);
    } catch {
      // It has ended.
    }
  return { read, written };
}

function rawText({ write, read }: RawSpeed): string {
  return `${RAW_PROCESSES} processes at once write ${write.toFixed(0)} MB/s and read ${read.toFixed(0)} MB/s together`;
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
    "| | MB moved | s | MB/s | of the disks (goal: 0.33) | read, MB/s | written, MB/s | new version, ms (goal: 5,000) | longest stall, ms (goal: 1,000) | foreground, operations/s | CPU, s | CPU, s a GB | |",
    `|${" --- |".repeat(13)}`,
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
      shown(row.readPerSecond),
      shown(row.writtenPerSecond),
      shown(row.newVersionMs),
      shown(row.longestStallMs),
      shown(row.foreground, 1),
      shown(row.processorSeconds, 1),
      shown((1e3 * row.processorSeconds) / row.megabytes, 1),
      isMet ? "met" : "**missed**",
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return `${[...head, ...lines].join("\n")}\n`;
}
