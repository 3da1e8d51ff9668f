import { assert, type MemberId } from "@dazzle/core";

/** The share of a server's answers that come within the estimate. */
const QUANTILE = 0.95;
/** How much of the estimate one answer may move it by: so old ones count less and less. */
const STEP = 0.2;
/** A read is late after so many times the estimate. */
const PATIENCE = 2;
/** What the system itself may take at any time. */
export const LATE_MIN_MS = 10;
/** Of all reads, those for which others may be asked as well because they are late. Each one read earns so much, up to HEDGES_MAX. */
const HEDGED_SHARE = 0.05;
export const HEDGES_MAX = 8;
assert(STEP < 1 && HEDGED_SHARE < 1, "an estimate stays above zero, and what is hedged below what is read");

interface ServerTimes {
  quantileMs: number;
  /** Since when it was asked and has answered nothing; null where it has. */
  silentSinceMs: number | null;
}

/** How long servers take to answer reads: when one is late, and whether the others may be asked for what it has, which makes work for them. Where all are late
 * because there is too much to do, asking twice would double it. (Dean and Barroso, The Tail at Scale, 2013: hedged requests.) */
export class ReadTimes {
  readonly #maxMs: number;
  readonly #servers = new Map<MemberId, ServerTimes>();
  #hedges = HEDGES_MAX;

  /** `maxMs`: from then on a read is late, whatever was seen. */
  constructor(maxMs: number) {
    this.#maxMs = maxMs;
  }

  #of(member: MemberId): ServerTimes {
    let times = this.#servers.get(member);
    if (times === undefined) {
      times = { quantileMs: this.#maxMs, silentSinceMs: null };
      this.#servers.set(member, times);
    }
    return times;
  }

  /** A server is asked. */
  asked(member: MemberId, nowMs: number): void {
    this.#hedges = Math.min(HEDGES_MAX, this.#hedges + HEDGED_SHARE);
    this.#of(member).silentSinceMs ??= nowMs;
  }

  /** It has answered, after so long. */
  answered(member: MemberId, tookMs: number): void {
    const times = this.#of(member);
    // In balance where so many answers come within it.
    times.quantileMs *= tookMs > times.quantileMs ? 1 + STEP * QUANTILE : 1 - STEP * (1 - QUANTILE);
    times.silentSinceMs = null;
  }

  /** It is not waited for any more. */
  failed(member: MemberId): void {
    this.#of(member).silentSinceMs = null;
  }

  /** When an answer is late. */
  lateAfterMs(member: MemberId): number {
    return Math.min(this.#maxMs, Math.max(LATE_MIN_MS, PATIENCE * this.#of(member).quantileMs));
  }

  /** Whether it was asked and has answered nothing since, for longer than anything may take. */
  isSilent(member: MemberId, nowMs: number): boolean {
    const { silentSinceMs } = this.#of(member);
    return silentSinceMs !== null && nowMs - silentSinceMs >= this.#maxMs;
  }

  /** Whether the others may be asked for a read that is late; counts it. */
  tryHedge(): boolean {
    if (this.#hedges < 1) return false;
    this.#hedges--;
    return true;
  }
}
