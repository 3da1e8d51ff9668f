import { CLOCK_DRIFT, type Clock, type ClusterMap, DazzleError, findLog, type Limits } from "@dazzle/core";

/** What a keeper promised to managers, beside the register and in memory alone (rule 29). */
export class LeaseBook {
  readonly #clock: Clock;
  readonly #limits: Limits;
  /** The newest map that this keeper knows to be decided: read since it started. */
  readonly #map: () => ClusterMap;
  /** What it promised before it started, if it did, ends here. */
  readonly #unknownUntilMs: number;
  /** When the promise ends, by log. */
  readonly #promises = new Map<number, number>();

  constructor(options: { clock: Clock; limits: Limits; map: () => ClusterMap }) {
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#map = options.map;
    this.#unknownUntilMs = this.#endMs;
  }

  /** A promise made now counts at its holder from an earlier moment, by a clock that may be slower. */
  get #endMs(): number {
    return this.#clock.nowMs() + this.#limits.managerLeaseMs * (1 + CLOCK_DRIFT);
  }

  /** Rejects `expelled` for what is not a live log of a manager of this member. */
  promise(member: number, log: number): { readonly leaseMs: number } {
    const row = findLog(this.#map(), log);
    if (row?.state !== "live" || row.kind !== "manager" || row.member !== member)
      throw new DazzleError("expelled", `log ${log} is not a live manager's of member ${member}`);
    const forgetMs = this.#clock.nowMs() - this.#limits.mountLeaseMs;
    for (const [other, endMs] of this.#promises) if (endMs < forgetMs) this.#promises.delete(other);
    this.#promises.set(log, this.#endMs);
    return { leaseMs: this.#limits.managerLeaseMs };
  }

  /** How long ago one was last given to the log. Rejects `notReady` where there was none since this keeper started, a moment ago. */
  asked(log: number): { readonly agoMs: number } {
    const endMs = this.#promises.get(log);
    if (endMs === undefined && this.#clock.nowMs() < this.#unknownUntilMs)
      throw new DazzleError("notReady", "this keeper started a moment ago");
    return { agoMs: this.#endMs - (endMs ?? this.#unknownUntilMs) };
  }

  /** Below zero where the promise has ended: by how much, as far back as it matters to mounts' leases. */
  leftMs(log: number): { readonly leftMs: number } {
    if (findLog(this.#map(), log)?.state === "live")
      throw new DazzleError("invalid", `log ${log} is live: it is expelled before its lease is waited out`);
    const endMs = Math.max(this.#unknownUntilMs, this.#promises.get(log) ?? Number.NEGATIVE_INFINITY);
    return { leftMs: Math.max(-this.#limits.mountLeaseMs, endMs - this.#clock.nowMs()) };
  }
}
