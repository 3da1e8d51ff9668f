import { parseArgs } from "node:util";
import { PARITY_MAX } from "@dazzle/core";
import type { ScenarioOptions } from "./scenario/outcome.ts";
import { OPERATIONS } from "./scenario/scenario.ts";

export const USAGE = `Runs clusters in simulation, each decided by a seed, and checks that nothing is lost.

  npm run sim -- [options]

  --seed N         the first seed (1)
  --seeds N        so many seeds, one after the other (1)
  --minutes M      seeds for so many minutes, and one at least; a line now and then tells how far it is
  --operations N   operations of a seed (${OPERATIONS})
  --mounts N       mounts, managers and keepers of the map; the seed decides where nothing is said
  --managers N
  --keepers N
  --parity M       servers that may be missing at once, 1 or 2; the seed decides where nothing is said
  --cleaners N     nodes that clean, of the last, from none; the seed decides where nothing is said
  --groups N       stripe groups, 1 or 2; the seed decides where nothing is said
  --spares N       nodes that come into a group and go, 0 or 1; the seed decides where nothing is said
  --data D         data fragments of the first group's stripes at most, 1 or 2, or 0 for as many as the parity leaves room for; the seed decides where nothing is said
  --faults LIST    something is done to the cluster at these steps alone, as 120,340; none: nothing ever goes wrong
  --verbose        every fault, operation and line that is logged
  --help           this text

The same seed and options give the same run: the checksum at the end of its line is equal. A seed that fails is shrunk for up to two minutes
(not with --verbose): the smallest command that still fails is printed. Ends with 1 where a seed failed, with 2 where an option is wrong.`;

/** That any cluster has. */
const NODES = 3;

export interface Command {
  readonly first: number;
  /** How many; at least one. */
  readonly seeds: number;
  /** Instead of `seeds`. */
  readonly minutes: number | undefined;
  readonly verbose: boolean;
  /** Of every seed. */
  readonly scenario: Omit<ScenarioOptions, "seed">;
}

/** What a person asked for wrongly. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** "help", or what to run. Throws `UsageError`. */
export function commandFrom(args: readonly string[]): Command | "help" {
  const values = parsed(args);
  if (values.help) return "help";
  const whole = (
    name: "seed" | "seeds" | "operations" | "mounts" | "managers" | "keepers" | "parity" | "groups" | "cleaners" | "spares" | "data",
    least: number,
    most = Number.MAX_SAFE_INTEGER,
  ) => {
    const text = values[name];
    if (text === undefined) return {};
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return { [name]: value };
    const range = most === Number.MAX_SAFE_INTEGER ? `a whole number, ${least} or more` : `${least} to ${most}`;
    throw new UsageError(`--${name} takes ${range}, not ${text}`);
  };
  const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
  if (minutes !== undefined && !(minutes > 0)) throw new UsageError(`--minutes takes a number above 0, not ${values.minutes}`);
  const { seed: first = 1 } = whole("seed", 0);
  const { seeds = 1 } = whole("seeds", 1);
  const shape = {
    ...whole("mounts", 1, MOUNTS_MAX),
    ...whole("managers", 1, NODES),
    ...whole("keepers", 1, NODES),
    ...whole("parity", 1, PARITY_MAX),
    ...whole("groups", 1, GROUPS_MAX),
    ...whole("cleaners", 0, NODES),
    ...whole("spares", 0, 1),
    ...whole("data", 0, DATA_MAX),
  };
  const faultSteps = values.faults === undefined ? {} : { faultSteps: steps(values.faults) };
  return { first, seeds, minutes, verbose: values.verbose ?? false, scenario: { ...whole("operations", 1), ...shape, ...faultSteps } };
}

const MOUNTS_MAX = 8;
const GROUPS_MAX = 2;
const DATA_MAX = 2;

function parsed(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = {
    seed: text,
    seeds: text,
    minutes: text,
    operations: text,
    mounts: text,
    managers: text,
    keepers: text,
    parity: text,
    groups: text,
    cleaners: text,
    spares: text,
    data: text,
    faults: text,
  };
  try {
    return parseArgs({ args: [...args], options: { ...options, verbose: flag, help: flag } }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function steps(text: string): number[] {
  if (text === "none") return [];
  const list = text.split(",");
  if (!list.every((step) => /^\d+$/.test(step))) throw new UsageError(`--faults takes steps, as 120,340, or none, not ${text}`);
  return list.map(Number);
}
