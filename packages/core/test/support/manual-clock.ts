import type { Clock, Timer } from "@dazzle/core";

interface Pending {
  readonly atMs: number;
  readonly action: () => void;
}

/** A clock that stands still until a test advances it. */
export class ManualClock implements Clock {
  #nowMs = 0;
  readonly #pending = new Set<Pending>();

  get timers(): number {
    return this.#pending.size;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallTimeNs(): bigint {
    return BigInt(this.#nowMs) * 1_000_000n;
  }

  after(delayMs: number, action: () => void): Timer {
    const pending = { atMs: this.#nowMs + delayMs, action };
    this.#pending.add(pending);
    return { cancel: () => this.#pending.delete(pending) };
  }

  soon(action: () => void): void {
    setImmediate(action);
  }

  /** Runs what is due on the way, in order. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs;
    for (;;) {
      const due = [...this.#pending].filter((pending) => pending.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#pending.delete(due);
      this.#nowMs = due.atMs;
      due.action();
    }
    this.#nowMs = untilMs;
  }
}
