import type { Clock } from "@dazzle/core";

/** How long one task may keep the event loop. */
const TURN_MS = 5;

/** Lets the event loop go on during long work: asked often, it mostly answers that there is no need. */
export class Pacer {
  readonly #clock: Clock;
  readonly #check: () => void;
  #sinceMs: number;

  /** `check` may throw to end the work. */
  constructor(clock: Clock, check: () => void = () => {}) {
    this.#clock = clock;
    this.#check = check;
    this.#sinceMs = clock.nowMs();
  }

  readonly pause = (): Promise<void> | undefined => {
    this.#check();
    if (this.#clock.nowMs() - this.#sinceMs < TURN_MS) return undefined;
    return new Promise((resolve) =>
      this.#clock.soon(() => {
        this.#sinceMs = this.#clock.nowMs();
        resolve();
      }),
    );
  };
}
