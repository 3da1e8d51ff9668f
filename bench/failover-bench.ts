import { writeFileSync } from "node:fs";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { loadavg } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { type ClusterMachine, MachineCluster } from "../test/support/machine-cluster.ts";
import { makeFiles } from "../test/support/real-tree.ts";
import { ok } from "../test/support/run.ts";
import { compile } from "../test/support/tool.ts";
import { touchUntil } from "../test/support/touch.ts";
import { until } from "../test/support/until.ts";
import { residentBytes, signal, Workspace } from "../test/support/workspace.ts";
import { type Loop, progress } from "./bench.ts";
import type { BenchOptions } from "./options.ts";

const DEADLINE_MS = 3_600_000;
const FILES_A_FOLDER = 1_000;
/** Files that are touched, and the slots there are. */
const PROBED = 64;
const SLOTS = 64;
const TREE_FILES = 1_500;
/** How long there is work before the manager fails, and after its slots are open elsewhere. */
const BEFORE_MS = 5_000;
const AFTER_MS = 3_000;
const GOAL_MS = 5_000;
const MOVE_GOAL_MS = 1_000;
/** What nodes say of a takeover. */
const TOLD =
  /managers that don't answer|the end of a log|slots are open|slots went to|can't be (decided|read)|lease ran out|left out|says nothing/;

interface Machines {
  readonly cluster: MachineCluster;
  readonly first: ClusterMachine;
  readonly second: ClusterMachine;
  /** The one that fails. */
  readonly third: ClusterMachine;
  /** Of `load.c`. */
  readonly load: string;
  readonly archive: string;
}

/** The figures of one failure. */
interface Failure {
  readonly how: "SIGKILL" | "SIGSTOP";
  /** Of the longest call at each of the mounts that live. */
  readonly longestMs: readonly number[];
  /** From the failure until the map had its slots with others. */
  readonly givenUpMs: number;
  readonly loadAverage: number;
}

/** Three machines that all manage, store and keep; the third one's manager has the files. It is killed, and then hangs, while it is written to, and while the two other mounts
 * unpack an archive and touch files of it: the longest that a touch took, and where the time went. */
export async function measureFailover(options: BenchOptions): Promise<void> {
  const load = await compile(join(import.meta.dirname, "load.c"), ["-lpthread"]);
  const workspace = new Workspace(options.parent);
  try {
    const cluster = await MachineCluster.start(workspace, 3);
    for (const member of cluster.members) await member.mount();
    const [first, second, third] = cluster.members as [ClusterMachine, ClusterMachine, ClusterMachine];
    await spread(first);
    await mkdir(third.path("there"));
    const folders = Math.ceil(options.files / FILES_A_FOLDER);
    const create = ["create", third.path("there"), `${folders}`, `${options.files}`, "0"];
    const made = JSON.parse(await ok(load, create, { timeoutMs: DEADLINE_MS })) as Loop;
    progress(`${options.files} files made, ${(made.done / made.seconds).toFixed(0)}/s; ${memory(cluster.members)}`);
    const source = workspace.directory("tree");
    makeFiles(source, { files: TREE_FILES, bytes: 0 });
    const archive = workspace.file("tree.tar");
    await ok("tar", ["cf", archive, "-C", source, "."]);
    const machines = { cluster, first, second, third, load, archive };
    const failures: Failure[] = [];
    const movesMs: number[] = [];
    for (let round = 0; round < options.rounds; round++) {
      movesMs.push(await moves(machines));
      for (const how of ["SIGKILL", "SIGSTOP"] as const) failures.push(await fails(machines, how, `${how}-${round}`));
    }
    process.stdout.write(`${table(options.files, failures, movesMs)}\n`);
    if (options.json !== undefined)
      writeFileSync(options.json, `${JSON.stringify({ files: options.files, failures, movesMs }, null, 2)}\n`);
    await cluster.down();
  } finally {
    await workspace.close();
  }
}

async function fails(machines: Machines, how: Failure["how"], name: string): Promise<Failure> {
  const { cluster, first, second, third, load, archive } = machines;
  const files = await probed(third, `${name}-probed`);
  for (const part of ["tree", "made"]) await mkdir(third.path(`${name}-${part}`));
  let over = false;
  const isOver = () => over;
  const untars = [first, second].map((machine) => unpackUntil(isOver, archive, machine.path(`${name}-tree`, machine.machine.name)));
  const making = makeUntil(isOver, load, third.path(`${name}-made`));
  const probes = [first, second].map((machine) => touchUntil(machine, files, isOver));
  await setTimeout(BEFORE_MS);
  const loadAverage = loadavg()[0] as number;
  const failedMs = performance.now();
  const failedAt = Date.now();
  const { nodePid } = third;
  signal(nodePid, how);
  await until("its slots to be with others", DEADLINE_MS, async () => (await slotsOf(first, third)).length === 0);
  const givenUpMs = performance.now() - failedMs;
  await setTimeout(AFTER_MS);
  over = true;
  const longestMs = await Promise.all(probes);
  await Promise.all([...untars, making]);
  const failure = { how, longestMs, givenUpMs, loadAverage };
  progress(
    `${how}, load ${loadAverage.toFixed(1)}: the longest call took ${shown(longestMs)} ms at the two mounts; ${memory([first, second])}`,
  );
  for (const member of [first, second])
    for (const line of member.log().split("\n")) {
      const seconds = (Date.parse(line.split(" ")[0] as string) - failedAt) / 1_000;
      if (seconds >= 0 && TOLD.test(line)) progress(`  ${seconds.toFixed(2)} s ${member.machine.name}:${line.slice(line.indexOf(" "))}`);
    }
  if (how === "SIGKILL") third.startNode();
  else signal(nodePid, "SIGCONT");
  await third.answering();
  await cluster.healthy();
  await until("nothing to be moved any more", DEADLINE_MS, async () => {
    const { rebuild } = JSON.parse(await first.must(["status", "--dir", first.directory, "--json"])) as { rebuild: unknown[] };
    return rebuild.length === 0;
  });
  await spread(first);
  return failure;
}

/** Files in directories of their own, most of them in slots of the machine. */
async function probed(machine: ClusterMachine, name: string): Promise<string[]> {
  const files = Array.from({ length: PROBED }, (_, number) => join(name, `${number}`, "file"));
  for (const file of files) {
    await mkdir(dirname(machine.path(file)), { recursive: true });
    await writeFile(machine.path(file), file);
  }
  const slots = await slotsOf(machine, machine);
  const inos = await Promise.all(files.map(async (file) => (await stat(machine.path(file))).ino));
  const concerned = inos.filter((ino) => slots.includes(ino % SLOTS)).length;
  if (concerned < PROBED / 2) throw new Error(`only ${concerned} of ${PROBED} files are in slots of ${machine.machine.name}`);
  return files;
}

async function unpackUntil(isOver: () => boolean, archive: string, target: string): Promise<void> {
  for (let round = 0; !isOver(); round++) {
    const directory = join(target, `${round}`);
    await mkdir(directory, { recursive: true });
    await ok("tar", ["xf", archive, "-C", directory], { timeoutMs: DEADLINE_MS });
  }
}

async function makeUntil(isOver: () => boolean, load: string, target: string): Promise<void> {
  for (let round = 0; !isOver(); round++) await ok(load, ["touch", target, `${round}`, "2000"], { timeoutMs: DEADLINE_MS });
}

/** A slot of the third machine goes to the first, and back, while its files are touched. Answers the longest that a touch took. */
async function moves({ first, second, third }: Machines): Promise<number> {
  const files = await probed(third, `moved-${Date.now()}`);
  let over = false;
  const probing = touchUntil(second, files, () => over);
  const [slot] = await slotsOf(first, third);
  for (const to of [first, third]) await first.must(["manager", "move", `${slot}`, to.machine.name, "--dir", first.directory]);
  over = true;
  const longestMs = await probing;
  progress(`slot ${slot} moved: the longest call took ${shown([longestMs])} ms`);
  return longestMs;
}

async function slotsOf(asked: ClusterMachine, { machine }: ClusterMachine): Promise<readonly number[]> {
  const answer = await asked.must(["manager", "list", "--dir", asked.directory, "--json"]);
  const { managers } = JSON.parse(answer) as { managers: { name: string; slotList: number[] }[] };
  return managers.find(({ name }) => name === machine.name)?.slotList ?? [];
}

async function spread(asked: ClusterMachine): Promise<void> {
  await until("each machine to manage its share", DEADLINE_MS, async () => {
    const answer = await asked.must(["manager", "list", "--dir", asked.directory, "--json"]);
    const { managers } = JSON.parse(answer) as { managers: { slotList: number[] }[] };
    return managers.length === 3 && managers.every(({ slotList }) => slotList.length > 20);
  });
}

function memory(members: readonly ClusterMachine[]): string {
  const each = members.map(({ machine, nodePid }) => `${machine.name} ${Math.round(residentBytes(nodePid) / 1e6)}`);
  return `memory of the nodes, MB: ${each.join(", ")}`;
}

function shown(milliseconds: readonly number[]): string {
  return milliseconds.map(Math.round).join(" and ");
}

function table(files: number, failures: readonly Failure[], movesMs: readonly number[]): string {
  const row = (what: string, values: readonly number[], goal: number, loads: string) =>
    `| ${what} | ${values.map(Math.round).join(", ")} | ${goal} | ${Math.max(...values) < goal ? "met" : "**missed**"} | ${loads} |\n`;
  const ofFailures = (["SIGKILL", "SIGSTOP"] as const).map((how) => {
    const those = failures.filter((failure) => failure.how === how);
    const loads = those.map(({ loadAverage }) => loadAverage.toFixed(1)).join(", ");
    return row(
      `${how} of the machine that manages ${files.toLocaleString("en")} files`,
      those.map(({ longestMs }) => Math.max(...longestMs)),
      GOAL_MS,
      loads,
    );
  });
  const rows = [...ofFailures, row("`dazzle manager move` of a slot, and back", movesMs, MOVE_GOAL_MS, "")];
  return `| longest call of a round | ms | goal | | load |\n|${" --- |".repeat(5)}\n${rows.join("")}`;
}
