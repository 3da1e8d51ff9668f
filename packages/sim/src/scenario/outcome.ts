import type { Disguise } from "../cluster.ts";
import type { LogLine, World } from "../world.ts";
import type { Shape } from "./shape.ts";

const LOG_LINES_SHOWN = 25;

/** What is left out the seed decides. */
export interface ScenarioOptions extends Partial<Shape> {
  readonly seed: number;
  readonly operations?: number;
  /** The steps at which something may be done to the cluster; all where nothing is said. */
  readonly faultSteps?: readonly number[];
  /** For planted bugs. */
  readonly disguise?: Disguise;
  /** Gets a line for everything that was done to the cluster. */
  readonly onTrace?: (line: string) => void;
  readonly onLog?: (line: LogLine) => void;
  /** Gets every operation that changes something, as it begins. */
  readonly onOperation?: (line: string) => void;
}

export interface ScenarioResult {
  readonly seed: number;
  readonly operations: number;
  readonly shape: Shape;
  /** How often each crash, disturbance and fault happened, and what mounts counted. */
  readonly counts: ReadonlyMap<string, number>;
  readonly fingerprint: number;
  readonly virtualMs: number;
}

/** How far a scenario came that failed. */
export interface Reached {
  readonly step: number;
  readonly operations: number;
  /** Steps at which something was done to the cluster. */
  readonly faultSteps: readonly number[];
  readonly shape: Shape;
}

/** A seed that shows a bug: what was done to the cluster up to then, and how to see it again. */
export class ScenarioError extends Error {
  override name = "ScenarioError";
  readonly seed: number;
  readonly reached: Reached;

  constructor(seed: number, reached: Reached, message: string, cause: unknown) {
    super(message, { cause });
    this.seed = seed;
    this.reached = reached;
  }
}

/** The command that runs the scenario again. */
export function commandOf({
  seed,
  operations,
  mounts,
  managers,
  keepers,
  parity,
  groups,
  cleaners,
  spares,
  data,
  faultSteps,
}: ScenarioOptions): string {
  const parts = [`npm run sim -- --seed ${seed}`];
  for (const [name, value] of Object.entries({ operations, mounts, managers, keepers, parity, groups, cleaners, spares, data }))
    if (value !== undefined) parts.push(`--${name} ${value}`);
  if (faultSteps !== undefined) parts.push(`--faults ${faultSteps.length === 0 ? "none" : faultSteps.join(",")}`);
  return parts.join(" ");
}

/** What a person needs to see a failure again. */
export function explain(options: ScenarioOptions, { step }: Reached, world: World, trace: readonly string[], error: unknown): string {
  const logged = world.log.slice(-LOG_LINES_SHOWN).map(logText);
  const causes: string[] = [];
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) causes.push(cause.stack ?? cause.message);
  return [
    `seed ${options.seed} failed at step ${step}, ${Math.round(world.nowMs)} ms:`,
    ...causes,
    "what was done to the cluster:",
    ...trace.map((line) => `  ${line}`),
    "the last lines it logged:",
    ...logged.map((line) => `  ${line}`),
    `to see it again: ${commandOf(options)} --verbose`,
  ].join("\n");
}

export function logText(line: LogLine): string {
  const fields = Object.entries(line.fields).map(([name, value]) => `${name}=${String(value)}`);
  return [`${Math.round(line.atMs)} ms`, line.process, line.level, line.message, ...fields].join(" ");
}
