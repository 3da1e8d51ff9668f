import type { Clock, Limits, Timer } from "@dazzle/core";

/** How long after the last store of a burst its fragments are synced. */
const QUIET_MS = 20;

/** When to sync what was stored while nobody waits: every `syncBytes`, when a burst ends, and at least every `flushIntervalMs`. */
export class SyncSchedule {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #sync: () => void;
  #unsyncedBytes = 0;
  #timer: Timer | null = null;
  #dueMs = 0;

  constructor(clock: Clock, limits: Limits, sync: () => void) {
    this.#clock = clock;
    this.#limits = limits;
    this.#sync = sync;
  }

  /** A server has so much more that is not on disk. */
  stored(bytes: number): void {
    this.#unsyncedBytes += bytes;
  }

  /** `quiet`: nothing else is on its way to the servers. */
  schedule(quiet: boolean): void {
    if (this.#unsyncedBytes >= this.#limits.syncBytes) this.#fire();
    else this.#arm(quiet ? QUIET_MS : this.#limits.flushIntervalMs);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(delayMs: number): void {
    const dueMs = this.#clock.nowMs() + delayMs;
    if (this.#timer !== null && this.#dueMs <= dueMs) return;
    this.#timer?.cancel();
    this.#timer = this.#clock.after(delayMs, () => this.#fire());
    this.#dueMs = dueMs;
  }

  #fire(): void {
    this.stop();
    this.#unsyncedBytes = 0;
    this.#sync();
  }
}
