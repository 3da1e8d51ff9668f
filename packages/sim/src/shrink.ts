import type { ScenarioError, ScenarioOptions } from "./scenario/outcome.ts";

/** Runs a scenario; resolves how it failed, null where it passed. */
export type Attempt = (options: ScenarioOptions) => Promise<ScenarioError | null>;

/** Makes a failing scenario smaller while it still fails, in whatever way: fewer operations, fewer mounts, managers, keepers, parities, groups, cleaners and spares, no bound, fewer faults. Begins nothing
 * more once `isOver`. Answers the smallest. */
export async function shrunk(
  options: ScenarioOptions,
  error: ScenarioError,
  run: Attempt,
  isOver: () => boolean,
): Promise<ScenarioOptions> {
  const { step, operations, shape, faultSteps } = error.reached;
  const shrinking = new Shrinking({ ...options, ...shape, operations, faultSteps: [...faultSteps] }, run, isOver);
  if (!(await shrinking.holds({}))) return options;
  if (step <= operations) await shrinking.holds({ operations: Math.max(1, step) });
  for (let before = ""; before !== shrinking.text && !isOver(); ) {
    before = shrinking.text;
    for (const name of ["mounts", "managers", "keepers", "parity", "groups"] as const) await shrinking.least(name, 1);
    await shrinking.least("cleaners", 0);
    await shrinking.least("spares", 0);
    await shrinking.least("data", 0);
    await shrinking.fewerFaults();
    await shrinking.least("operations", 1);
  }
  return shrinking.best;
}

type Whole = "operations" | "mounts" | "managers" | "keepers" | "parity" | "groups" | "cleaners" | "spares" | "data";

class Shrinking {
  best: Required<Pick<ScenarioOptions, Whole | "faultSteps">> & ScenarioOptions;
  readonly #run: Attempt;
  readonly #isOver: () => boolean;

  constructor(first: Shrinking["best"], run: Attempt, isOver: () => boolean) {
    this.best = first;
    this.#run = run;
    this.#isOver = isOver;
  }

  get text(): string {
    const { operations, mounts, managers, keepers, parity, groups, cleaners, spares, data, faultSteps } = this.best;
    return [operations, mounts, managers, keepers, parity, groups, cleaners, spares, data, ...faultSteps].join();
  }

  /** Whether it fails with these changes, too: then they stay. */
  async holds(changes: Partial<Shrinking["best"]>): Promise<boolean> {
    const options = { ...this.best, ...changes };
    const error = await this.#run(options);
    if (error === null) return false;
    const { operations, step } = error.reached;
    const reached = Math.min(operations, Math.max(1, step));
    // What comes after the failure is not needed.
    this.best = { ...options, faultSteps: options.faultSteps.filter((at) => at <= reached) };
    return true;
  }

  /** As if everything above a value that fails failed, too. */
  async least(name: Whole, least: number): Promise<void> {
    for (let low = least; low < this.best[name] && !this.#isOver(); ) {
      const middle = low + Math.floor((this.best[name] - low) / 2);
      if (!(await this.holds({ [name]: middle }))) low = middle + 1;
    }
  }

  /** Leaves out halves, then quarters, and so on. */
  async fewerFaults(): Promise<void> {
    for (let size = this.best.faultSteps.length; size >= 1; size = Math.floor(size / 2))
      for (let from = 0; from < this.best.faultSteps.length && !this.#isOver(); ) {
        const left = this.best.faultSteps.filter((_, index) => index < from || index >= from + size);
        if (!(await this.holds({ faultSteps: left }))) from += size;
      }
  }
}
