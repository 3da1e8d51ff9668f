import type { Clock } from "@dazzle/core";

/** Pauses that somebody may end. */
export class Alarm {
  readonly #waiting = new Set<() => void>();

  /** Resolves after `delayMs`, or when it rings. */
  wait(clock: Clock, delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        timer.cancel();
        this.#waiting.delete(end);
        resolve();
      };
      const timer = clock.after(delayMs, end);
      this.#waiting.add(end);
    });
  }

  ring(): void {
    for (const end of [...this.#waiting]) end();
  }
}
