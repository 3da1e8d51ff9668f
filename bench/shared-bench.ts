import { writeFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { Cluster } from "../test/support/cluster.ts";
import { type ClusterMachine, MachineCluster } from "../test/support/machine-cluster.ts";
import { makeRealTree } from "../test/support/real-tree.ts";
import { ok } from "../test/support/run.ts";
import { compile } from "../test/support/tool.ts";
import { Workspace } from "../test/support/workspace.ts";
import { type Loop, progress } from "./bench.ts";
import type { BenchOptions } from "./options.ts";
import { median } from "./report.ts";

const MACHINES = 5;
const MOUNTS = 4;
const DEADLINE_MS = 3_600_000;
const MIB = 1024 * 1024;
const REPORT_MS = 3_000;

/** A ratio of two figures of the same run, each the median over the rounds. */
interface Ratio {
  readonly workload: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly baseline: readonly number[];
  readonly goal: number;
}

/** Several mounts at once, on machines of their own, against one of them alone; and one mount of five machines against one of one machine. */
export async function measureShared(options: BenchOptions): Promise<void> {
  const load = await compile(join(import.meta.dirname, "load.c"), ["-lpthread"]);
  const workspace = new Workspace(options.parent);
  try {
    const loop = async (...args: (string | number)[]) => JSON.parse(await ok(load, args.map(String), { timeoutMs: DEADLINE_MS })) as Loop;
    const cluster = await MachineCluster.start(workspace, MACHINES);
    const mounts = cluster.members.slice(0, MOUNTS);
    for (const member of mounts) await member.mount();
    const ratios: Ratio[] = [];
    for (const phase of [halves, oneDirectory]) ratios.push(...(await phase(options, mounts, loop)));
    const { ratio, messages } = await untar(options, workspace, mounts[0] as ClusterMachine);
    ratios.push(ratio);
    await cluster.down();
    process.stdout.write(`${table(ratios)}\n`);
    process.stdout.write(`messages an operation of the untar: ${messages.map((each) => each.toFixed(4)).join(", ")} (goal: under 0.05)\n`);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ ratios, messages }, null, 2)}\n`);
  } finally {
    await workspace.close();
  }
}

type LoadLoop = (...args: (string | number)[]) => Promise<Loop>;

const rateOf = ({ done, seconds }: Loop) => done / seconds;

/** Two mounts write the halves of one file at the same time, each against the same with the other still, and both against two mounts that write a file each:
 * what one machine that plays several can do at once limits those alike. */
async function halves(options: BenchOptions, mounts: readonly ClusterMachine[], loop: LoadLoop): Promise<Ratio[]> {
  const mib = Math.round(256 / options.divisor);
  const [one, other] = mounts as [ClusterMachine, ClusterMachine];
  const alone: number[] = [];
  const together: number[][] = [[], []];
  const [shared, apart]: [number[], number[]] = [[], []];
  const asked: number[] = [];
  for (let round = 0; round < options.rounds; round++) {
    const name = `halves-${round}`;
    await writeFile(one.path(name), "");
    alone.push(rateOf(await loop("half", one.path(name), mib, 0)) / MIB);
    const before = await tokensAsked([one, other]);
    const both = await Promise.all([loop("half", one.path(name), mib, 0), loop("half", other.path(name), mib, mib)]);
    asked.push((await tokensAsked([one, other])) - before);
    for (const [place, each] of both.entries()) together[place]?.push(rateOf(each) / MIB);
    const files = [`${name}-one`, `${name}-other`] as const;
    for (const file of files) await writeFile(one.path(file), "");
    const each = await Promise.all([loop("half", one.path(files[0]), mib, 0), loop("half", other.path(files[1]), mib, mib)]);
    shared.push(sum(both.map(rateOf)) / MIB);
    apart.push(sum(each.map(rateOf)) / MIB);
    progress(
      `halves of a file: ${together.map((values) => values.at(-1)?.toFixed(0)).join(" and ")} MiB/s, alone ${alone.at(-1)?.toFixed(0)}, ` +
        `a file each ${each.map((loop) => (rateOf(loop) / MIB).toFixed(0)).join(" and ")}, ${asked.at(-1)} tokens asked for`,
    );
    for (const file of [name, ...files]) await rm(one.path(file));
  }
  const halves = together.map((values, place) => ({
    workload: `half ${place + 1} of a file, two mounts at once : one alone`,
    unit: "MiB/s",
    values,
    baseline: alone,
    goal: 0.7,
  }));
  return [
    ...halves,
    { workload: "halves of a file, two mounts at once : a file each", unit: "MiB/s", values: shared, baseline: apart, goal: 0.9 },
  ];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** How often these mounts have asked for tokens, as far as they have told: they do several times a second. */
async function tokensAsked(machines: readonly ClusterMachine[]): Promise<number> {
  await setTimeout(REPORT_MS);
  const all = await Promise.all(machines.map(counters));
  return sum(all.map((each) => (each["messages.acquire"] ?? 0) + (each["messages.acquireRange"] ?? 0)));
}

/** Four mounts make files in one directory at the same time, against one. */
async function oneDirectory(options: BenchOptions, mounts: readonly ClusterMachine[], loop: LoadLoop): Promise<Ratio[]> {
  const files = Math.round(10_000 / options.divisor);
  const [first] = mounts as [ClusterMachine];
  const alone: number[] = [];
  const together: number[] = [];
  for (let round = 0; round < options.rounds; round++) {
    await mkdir(first.path(`directory-${round}`));
    alone.push(rateOf(await loop("touch", first.path(`directory-${round}`), "alone", files)));
    await mkdir(first.path(`crowd-${round}`));
    const started = performance.now();
    await Promise.all(mounts.map((mount, place) => loop("touch", mount.path(`crowd-${round}`), `mount${place}`, files / mounts.length)));
    together.push((files / (performance.now() - started)) * 1_000);
    progress(`creates in one directory: ${together.at(-1)?.toFixed(0)}/s by ${mounts.length} mounts, ${alone.at(-1)?.toFixed(0)}/s by one`);
  }
  return [{ workload: "creates in one directory, four mounts : one", unit: "files/s", values: together, baseline: alone, goal: 0.5 }];
}

/** An archive unpacked on one of five machines, against a cluster of one machine; and the messages that its mount sent an operation. */
async function untar(options: BenchOptions, workspace: Workspace, machine: ClusterMachine): Promise<{ ratio: Ratio; messages: number[] }> {
  const tree = workspace.directory("tree");
  makeRealTree(tree, { files: Math.round(10_000 / options.divisor), bytes: Math.round((100 * MIB) / options.divisor) });
  const archive = workspace.file("tree.tar");
  await ok("tar", ["cf", archive, "-C", tree, "."], { timeoutMs: DEADLINE_MS });
  const single = await Cluster.start(workspace, { nodes: MACHINES, name: "one-machine" });
  const seconds: number[] = [];
  const baseline: number[] = [];
  const messages: number[] = [];
  const unpack = async (target: string, sync: () => Promise<void>) => {
    await mkdir(target);
    const started = performance.now();
    await ok("tar", ["xf", archive, "-C", target], { timeoutMs: DEADLINE_MS });
    await sync();
    return (performance.now() - started) / 1_000;
  };
  for (let round = 0; round < options.rounds; round++) {
    baseline.push(1 / (await unpack(single.path(`untar-${round}`), () => single.sync())));
    const before = await counters(machine);
    seconds.push(1 / (await unpack(machine.path(`untar-${round}`), () => machine.sync())));
    const after = await counters(machine);
    const since = (name: string) => (after[name] ?? Number.NaN) - (before[name] ?? Number.NaN);
    messages.push(since("messages") / since("operations"));
    progress(`untar: ${(1 / (seconds.at(-1) ?? 0)).toFixed(1)} s, on one machine ${(1 / (baseline.at(-1) ?? 0)).toFixed(1)} s`);
  }
  await single.down();
  const workload = "untar, a mount of five machines : of one machine";
  return { ratio: { workload, unit: "1/s", values: seconds, baseline, goal: 0.9 }, messages };
}

async function counters(machine: ClusterMachine): Promise<Readonly<Record<string, number>>> {
  const { mounts } = (await machine.status()) as unknown as {
    mounts: { mountpoint: string; counters: Readonly<Record<string, number>> }[];
  };
  return mounts.find(({ mountpoint }) => mountpoint === machine.mountpoint)?.counters ?? {};
}

function table(ratios: readonly Ratio[]): string {
  const rows = ratios.map(({ workload, unit, values, baseline, goal }) => {
    const ratio = median(values) / median(baseline);
    const shown = (each: readonly number[]) => each.map((value) => value.toPrecision(3)).join(", ");
    return `| ${workload} | ${unit} | ${shown(values)} | ${shown(baseline)} | ${ratio.toFixed(2)} | ${goal} | ${ratio >= goal ? "met" : "**missed**"} |\n`;
  });
  return `| workload | unit | measured | baseline | ratio | goal | |\n|${" --- |".repeat(7)}\n${rows.join("")}`;
}
