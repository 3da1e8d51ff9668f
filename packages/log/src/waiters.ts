import { type Clock, type DazzleError, type Deferred, deferred, type Timer } from "@dazzle/core";

interface Waiter {
  readonly holds: () => boolean;
  readonly settled: Deferred<void>;
}

/** Those who wait for a writer. All are turned away once nothing has moved for the deadline. */
export class Waiters {
  readonly #clock: Clock;
  readonly #deadlineMs: number;
  readonly #progressMs: () => number;
  readonly #reason: () => DazzleError;
  readonly #waiting = new Set<Waiter>();
  #timer: Timer | null = null;

  constructor(clock: Clock, deadlineMs: number, progressMs: () => number, reason: () => DazzleError) {
    this.#clock = clock;
    this.#deadlineMs = deadlineMs;
    this.#progressMs = progressMs;
    this.#reason = reason;
  }

  /** Resolves once `holds`. Rejects where nothing moved for the deadline, counted from now at the earliest. */
  wait(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve();
    const waiter: Waiter = { holds, settled: deferred() };
    this.#waiting.add(waiter);
    if (this.#timer === null) this.#arm(this.#clock.nowMs());
    return waiter.settled.promise;
  }

  check(): void {
    for (const waiter of this.#waiting) {
      if (!waiter.holds()) continue;
      this.#waiting.delete(waiter);
      waiter.settled.resolve();
    }
    if (this.#waiting.size === 0) this.#disarm();
  }

  rejectAll(error: DazzleError): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    this.#disarm();
    for (const waiter of waiting) waiter.settled.reject(error);
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(sinceMs: number): void {
    this.#timer = this.#clock.after(sinceMs + this.#deadlineMs - this.#clock.nowMs(), () => {
      this.#timer = null;
      const progressMs = Math.max(sinceMs, this.#progressMs());
      if (this.#clock.nowMs() - progressMs < this.#deadlineMs) this.#arm(progressMs);
      else this.rejectAll(this.#reason());
    });
  }
}
