import type { Clock } from "@dazzle/core";

/** How long each of several steps took that follow one another, for people; a step that is done again adds to it. */
export class StepTimes {
  readonly #clock: Clock;
  #sinceMs: number;
  readonly #ms: Record<string, number> = {};

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sinceMs = clock.nowMs();
  }

  /** By step, in whole milliseconds. */
  get ms(): Readonly<Record<string, number>> {
    return Object.fromEntries(Object.entries(this.#ms).map(([step, ms]) => [`${step}Ms`, Math.round(ms)]));
  }

  /** The step that began with the end of the one before is over. */
  over(step: string): void {
    const nowMs = this.#clock.nowMs();
    this.#ms[step] = (this.#ms[step] ?? 0) + nowMs - this.#sinceMs;
    this.#sinceMs = nowMs;
  }
}
