import { type Command, commandFrom, USAGE, UsageError } from "./command.ts";
import { CRASHES } from "./scenario/crashes.ts";
import { DISTURBANCES } from "./scenario/disturbances.ts";
import { commandOf, logText, ScenarioError, type ScenarioOptions, type ScenarioResult } from "./scenario/outcome.ts";
import { REGROUPINGS } from "./scenario/regroupings.ts";
import { runScenario } from "./scenario/scenario.ts";
import { shrunk } from "./shrink.ts";

const SHRINK_MS = 120_000;
const TELL_MS = 30_000;
const MINUTE_MS = 60_000;

/** Runs seeds, and tells of them. */
class Seeds {
  readonly #command: Command;
  readonly #totals = new Map<string, number>();
  readonly #failures: string[] = [];
  readonly #startedMs = performance.now();
  #toldMs = performance.now();
  #passed = 0;
  #operations = 0;

  constructor(command: Command) {
    this.#command = command;
  }

  /** Answers whether all passed. */
  async run(): Promise<boolean> {
    const { first } = this.#command;
    for (let seed = first; seed === first || this.#goesOn(seed); seed++) await this.#seed({ seed, ...this.#command.scenario });
    if (this.#command.minutes !== undefined || this.#command.seeds > 1 || this.#command.verbose) this.#summary();
    return this.#failures.length === 0;
  }

  #goesOn(seed: number): boolean {
    const { first, seeds, minutes } = this.#command;
    return minutes === undefined ? seed < first + seeds : performance.now() - this.#startedMs < minutes * MINUTE_MS;
  }

  async #seed(options: ScenarioOptions): Promise<void> {
    const startedMs = performance.now();
    const result = await attempt(this.#command.verbose ? { ...options, ...VERBOSE } : options);
    if (result instanceof ScenarioError) return this.#failed(options, result);
    this.#passed++;
    this.#operations += result.operations;
    for (const [what, count] of result.counts) this.#totals.set(what, (this.#totals.get(what) ?? 0) + count);
    if (this.#command.minutes === undefined) console.log(lineOf(result, performance.now() - startedMs));
    else this.#progress(result.seed);
  }

  async #failed(options: ScenarioOptions, error: ScenarioError): Promise<void> {
    console.error(error.message);
    let least = options;
    if (!this.#command.verbose) {
      console.error("shrinking it ...");
      const endMs = performance.now() + SHRINK_MS;
      const run = async (smaller: ScenarioOptions) => {
        const result = await attempt(smaller);
        return result instanceof ScenarioError ? result : null;
      };
      least = await shrunk(options, error, run, () => performance.now() > endMs);
      console.error(`the smallest found: ${commandOf(least)}`);
    }
    this.#failures.push(commandOf(least));
  }

  #progress(seed: number): void {
    if (performance.now() - this.#toldMs < TELL_MS) return;
    this.#toldMs = performance.now();
    console.log(`${this.#minutes} minutes: up to seed ${seed}, ${this.#passed} passed, ${this.#failures.length} failed`);
  }

  get #minutes(): string {
    return ((performance.now() - this.#startedMs) / MINUTE_MS).toFixed(1);
  }

  #summary(): void {
    const kinds = [
      ...CRASHES,
      ...DISTURBANCES,
      ...REGROUPINGS,
      ...[...this.#totals.keys()].filter((what) => what.startsWith("fault.")).sort(),
    ];
    console.log(
      `${this.#passed} seeds passed with ${this.#operations} operations in ${this.#minutes} minutes, ${this.#failures.length} failed`,
    );
    console.log(kinds.map((what) => `${what} ${this.#totals.get(what) ?? 0}`).join(", "));
    if (this.#command.verbose) for (const [what, count] of [...this.#totals].sort()) console.log(`${what} ${count}`);
    for (const failure of this.#failures) console.log(`failed: ${failure}`);
  }
}

const VERBOSE = {
  onTrace: (line: string) => console.log(`  ${line}`),
  onLog: (line: Parameters<typeof logText>[0]) => console.log(`    ${logText(line)}`),
  onOperation: (line: string) => console.log(`      ${line}`),
};

async function attempt(options: ScenarioOptions): Promise<ScenarioResult | ScenarioError> {
  try {
    return await runScenario(options);
  } catch (error) {
    if (error instanceof ScenarioError) return error;
    throw error;
  }
}

function lineOf({ seed, shape, operations, virtualMs, fingerprint }: ScenarioResult, tookMs: number): string {
  const { mounts, managers, keepers, parity, groups, cleaners, spares, data } = shape;
  const size = `${mounts} mounts, ${managers} managers, ${keepers} keepers, ${parity} parities, ${groups} groups, ${cleaners} cleaners, ${spares} spares${data === 0 ? "" : `, ${data} data fragments at most`}`;
  const times = `${Math.round(virtualMs)} ms simulated in ${Math.round(tookMs)} ms`;
  return `seed ${seed} passed: ${size}, ${operations} operations, ${times}, ${fingerprint.toString(16)}`;
}

try {
  const command = commandFrom(process.argv.slice(2));
  if (command === "help") console.log(USAGE);
  else if (!(await new Seeds(command).run())) process.exitCode = 1;
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\nnpm run sim -- --help tells what there is`);
  process.exitCode = 2;
}
