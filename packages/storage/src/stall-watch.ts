import type { Clock } from "@dazzle/core";

/** For how long something that is asked of the disk has not been done. */
export class StallWatch {
  readonly #clock: Clock;
  #underWay = 0;
  /** Since the oldest that is under way was begun, or since something was done last; after a failure, until something is done. */
  #sinceMs: number | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** 0 where nothing is asked, or all is done. */
  get stalledMs(): number {
    return this.#sinceMs === null ? 0 : this.#clock.nowMs() - this.#sinceMs;
  }

  async during<T>(work: Promise<T>): Promise<T> {
    this.#underWay++;
    this.#sinceMs ??= this.#clock.nowMs();
    let isDone = false;
    try {
      const result = await work;
      isDone = true;
      return result;
    } finally {
      this.#underWay--;
      if (isDone) this.#sinceMs = this.#underWay > 0 ? this.#clock.nowMs() : null;
    }
  }
}
