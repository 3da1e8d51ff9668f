import { type Clock, type Deferred, deferred, sleep } from "@dazzle/core";

/** A token that was waited for stays as long as it took to get, from HOLD_MIN_MS to HOLD_MAX_MS, or to HOLDS_A_GIFT times as long as it takes to
 * give one back, where that is more: so a busy object spends most of its time with somebody who can use it, however long its way takes. */
const HOLD_MIN_MS = 2;
const HOLD_MAX_MS = 100;
const HOLDS_A_GIFT = 10;
const HOLD_LIMIT_MS = 400;
/** Unless nobody used it for as long as it takes to give one back, within these bounds. */
const IDLE_MIN_MS = 10;
const IDLE_MAX_MS = 50;
/** Of so many the time that giving back takes is the average. */
const AVERAGED = 8;

/** What keeps a token here for a moment. */
export interface Held {
  /** Attempts that need it and have yet to run. */
  pins: number;
  heldUntilMs: number;
  usedMs: number;
  unpinned: Deferred<void> | null;
}

/** Keeps tokens that were granted until those who asked for them could use them. Neither a pin nor a hold waits for anything but
 * an attempt that has all it needs, or that waits for a token that comes behind this one (see `Gathered`). */
export class Holds {
  readonly #clock: Clock;
  #givingMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The token was granted after so long. */
  granted(held: Held, tookMs: number): void {
    held.usedMs = this.#clock.nowMs();
    const maxMs = Math.min(HOLD_LIMIT_MS, Math.max(HOLD_MAX_MS, HOLDS_A_GIFT * this.#givingMs));
    held.heldUntilMs = held.usedMs + Math.min(maxMs, Math.max(HOLD_MIN_MS, tookMs));
  }

  /** A token was given back, which took so long from when nothing kept it any more. */
  gaveBack(tookMs: number): void {
    this.#givingMs += (tookMs - this.#givingMs) / AVERAGED;
  }

  /** Answers how to undo it: once. */
  pin(held: Held): () => void {
    held.pins++;
    return () => {
      if (--held.pins > 0) return;
      held.unpinned?.resolve();
      held.unpinned = null;
    };
  }

  /** Resolves when nothing keeps the token: undefined where nothing does now. Pins that are taken while it waits keep it, too. */
  whenFree(held: Held): Promise<void> | undefined {
    return this.isFree(held) ? undefined : this.#wait(held);
  }

  isFree(held: Held): boolean {
    return held.pins === 0 && this.#leftMs(held) <= 0;
  }

  #leftMs(held: Held): number {
    const idleMs = Math.min(IDLE_MAX_MS, Math.max(IDLE_MIN_MS, this.#givingMs));
    return Math.min(held.heldUntilMs, held.usedMs + idleMs) - this.#clock.nowMs();
  }

  async #wait(held: Held): Promise<void> {
    for (;;) {
      const leftMs = this.#leftMs(held);
      if (leftMs > 0) await sleep(this.#clock, leftMs);
      else if (held.pins > 0) {
        held.unpinned ??= deferred();
        await held.unpinned.promise;
      } else return;
    }
  }
}
