import type { Disguise } from "../cluster.ts";
import type { LogLine, World } from "../world.ts";

const LOG_LINES_SHOWN = 25;

export interface ScenarioOptions {
  readonly seed: number;
  readonly operations?: number;
  /** How many nodes are managers, between which slots move; 1 where nothing is said. */
  readonly managers?: number;
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
  /** How often each crash, disturbance and fault happened, and what mounts counted. */
  readonly counts: ReadonlyMap<string, number>;
  readonly fingerprint: number;
  readonly virtualMs: number;
}

/** A seed that shows a bug: what was done to the cluster up to then, and how to see it again. */
export class ScenarioError extends Error {
  override name = "ScenarioError";
  readonly seed: number;

  constructor(seed: number, message: string, cause: unknown) {
    super(message, { cause });
    this.seed = seed;
  }
}

/** What a person needs to see a failure again. */
export function explain(options: ScenarioOptions, step: number, world: World, trace: readonly string[], error: unknown): string {
  const { seed, operations, managers } = options;
  const logged = world.log.slice(-LOG_LINES_SHOWN).map(logText);
  const causes: string[] = [];
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) causes.push(cause.stack ?? cause.message);
  return [
    `seed ${seed} failed at step ${step}, ${Math.round(world.nowMs)} ms:`,
    ...causes,
    "what was done to the cluster:",
    ...trace.map((line) => `  ${line}`),
    "the last lines it logged:",
    ...logged.map((line) => `  ${line}`),
    `to see it again: npm run sim -- --seed ${seed}${operations === undefined ? "" : ` --operations ${operations}`}${managers === undefined ? "" : ` --managers ${managers}`} --verbose`,
  ].join("\n");
}

export function logText(line: LogLine): string {
  const fields = Object.entries(line.fields).map(([name, value]) => `${name}=${String(value)}`);
  return [`${Math.round(line.atMs)} ms`, line.process, line.level, line.message, ...fields].join(" ");
}
