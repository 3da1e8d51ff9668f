import type { Clock } from "@dazzle/core";

const WINDOW_MS = 30_000;

/** How much was added, a second, over the last half minute or since the first. */
export class Rate {
  readonly #clock: Clock;
  #startMs: number | null = null;
  /** By second. */
  #added: { readonly atMs: number; amount: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(amount: number): void {
    const atMs = this.#clock.nowMs();
    this.#startMs ??= atMs;
    const last = this.#added.at(-1);
    if (last !== undefined && atMs - last.atMs < 1_000) last.amount += amount;
    else this.#added.push({ atMs, amount });
    this.#forget(atMs);
  }

  get perSecond(): number {
    const nowMs = this.#clock.nowMs();
    this.#forget(nowMs);
    if (this.#startMs === null) return 0;
    const sum = this.#added.reduce((total, { amount }) => total + amount, 0);
    return Math.round((1_000 * sum) / Math.max(1_000, Math.min(WINDOW_MS, nowMs - this.#startMs)));
  }

  #forget(nowMs: number): void {
    this.#added = this.#added.filter(({ atMs }) => nowMs - atMs <= WINDOW_MS);
    if (this.#added.length === 0) this.#startMs = null;
  }
}
