import { tmpdir } from "node:os";
import { parseArgs } from "node:util";

export const PHASES = ["write", "read", "small", "random", "append", "million"] as const;
export type Phase = (typeof PHASES)[number];

export interface BenchOptions {
  /** Where the cluster and the local files lie side by side. */
  readonly parent: string;
  /** What sizes are divided by. */
  readonly divisor: number;
  readonly rounds: number;
  readonly phases: readonly Phase[];
  /** A file for all figures as JSON. */
  readonly json: string | undefined;
  readonly nodes: number;
  readonly engine: "addon" | "node" | undefined;
  /** Several mounts on several machines, instead of the phases. */
  readonly shared: boolean;
  /** The model of what cleaning costs, instead of the phases. */
  readonly cleaningCost: boolean;
  /** A nearly full cluster that is overwritten, instead of the phases. */
  readonly cleaner: boolean;
  /** Meanwhile, whoever leads the cleaning is killed so often. */
  readonly killEveryS: number | undefined;
  /** Much of small files removed, instead of the phases. */
  readonly delete: boolean;
  /** How much of them, or of what is moved then. */
  readonly gib: number | undefined;
  /** Servers added, killed and replaced, instead of the phases. */
  readonly rebuild: boolean;
  /** Each node has a disk of its own then, of which so much is read and written in a second. */
  readonly diskMegabytesPerSecond: number | undefined;
  /** A manager that is killed and one that hangs beneath many files, instead of the phases. */
  readonly failover: boolean;
  /** That are there then. */
  readonly files: number;
}

export const USAGE = `Usage: npm run bench -- [--quick] [--million] [--only write,read,small,random,append,million]
                       [--rounds 3] [--dir DIR] [--nodes 3] [--fuse-engine addon|node] [--json FILE] [--shared]
                       [--cleaner [--kill-every S]] [--cleaning-cost] [--delete [--gib 10]]
                       [--rebuild [--gib G] [--disk-speed MB]] [--failover [--files 1000000]]
  --quick     a tenth of the sizes, one round
  --million   a million files as well (100,000 with --quick)
  --shared    several mounts at once over five machines (network namespaces), in place of the phases
  --cleaner   a nearly full cluster (on loop devices) that is overwritten at random, in place of the phases;
              with --kill-every two machines more do nothing but clean, and whoever leads is killed every S seconds, and started again
  --delete    so many GiB of small files (on loop devices) removed: when their space is back, in place of the phases
  --cleaning-cost  a model of what cleaning costs by how full the disk is, in place of the phases; draws docs/cleaning-cost.svg
  --rebuild   a server added, one killed and replaced, and how fast what they store is moved, 3 GB of it or --gib, in place of the
              phases; with --disk-speed each node has a disk of its own (a loop device), limited to so many MB/s
  --failover  the machine that manages that many files is killed, and hangs, beneath two mounts that work; in place of the phases
  --dir       on which disk: a directory is made there and removed in the end
`;

/** Undefined where help was asked for; throws with a line for the user where the usage is wrong. */
export function parseOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: "boolean" },
      quick: { type: "boolean" },
      million: { type: "boolean" },
      only: { type: "string" },
      rounds: { type: "string" },
      dir: { type: "string" },
      nodes: { type: "string" },
      "fuse-engine": { type: "string" },
      json: { type: "string" },
      shared: { type: "boolean" },
      "cleaning-cost": { type: "boolean" },
      cleaner: { type: "boolean" },
      "kill-every": { type: "string" },
      delete: { type: "boolean" },
      gib: { type: "string" },
      rebuild: { type: "boolean" },
      "disk-speed": { type: "string" },
      failover: { type: "boolean" },
      files: { type: "string" },
    },
  });
  if (values.help) return undefined;
  const quick = values.quick ?? false;
  const engine = values["fuse-engine"];
  if (engine !== undefined && engine !== "addon" && engine !== "node") throw new Error(`--fuse-engine ${engine}: addon or node`);
  return {
    parent: values.dir ?? tmpdir(),
    divisor: quick ? 10 : 1,
    rounds: positive("--rounds", values.rounds ?? (quick ? "1" : "3")),
    phases:
      values.only === undefined ? PHASES.filter((phase) => phase !== "million" || values.million) : values.only.split(",").map(phaseNamed),
    json: values.json,
    nodes: positive("--nodes", values.nodes ?? "3"),
    engine,
    shared: values.shared ?? false,
    cleaningCost: values["cleaning-cost"] ?? false,
    cleaner: values.cleaner ?? false,
    killEveryS: values["kill-every"] === undefined ? undefined : positive("--kill-every", values["kill-every"]),
    delete: values.delete ?? false,
    gib: values.gib === undefined ? undefined : positive("--gib", values.gib),
    rebuild: values.rebuild ?? false,
    diskMegabytesPerSecond: values["disk-speed"] === undefined ? undefined : positive("--disk-speed", values["disk-speed"]),
    failover: values.failover ?? false,
    files: positive("--files", values.files ?? (quick ? "100000" : "1000000")),
  };
}

function phaseNamed(name: string): Phase {
  const phase = PHASES.find((known) => known === name);
  if (phase === undefined) throw new Error(`--only ${name}: one of ${PHASES.join(", ")}`);
  return phase;
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${option} ${text}: a whole number from 1`);
  return value;
}
