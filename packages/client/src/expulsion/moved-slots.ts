import { type ClusterMap, type MemberId, SLOTS } from "@dazzle/core";

/** Slots that went to another manager. What this mount held there it held by its lease at the one before, as that was when it learned of the move: the new
 * owner counts from then, and what the mount has of that one since is for the slots that stayed. */
export class MovedSlots {
  readonly #leaseEndMs: (member: MemberId) => number;
  #managers: ReadonlyArray<MemberId | null>;
  readonly #moved = new Set<number>();
  #endMs = Number.POSITIVE_INFINITY;

  /** `leaseEndMs`: of the lease at a member; 0 where there is none. */
  constructor(map: ClusterMap, leaseEndMs: (member: MemberId) => number) {
    this.#managers = map.slots.map(({ manager }) => manager);
    this.#leaseEndMs = leaseEndMs;
  }

  /** To be told of each map before anything else is learned. */
  learn(map: ClusterMap): void {
    for (let slot = 0; slot < SLOTS; slot++) {
      const before = this.#managers[slot] ?? null;
      if (before === null || before === map.slots[slot]?.manager) continue;
      const endMs = this.#leaseEndMs(before);
      if (endMs === 0) continue;
      this.#moved.add(slot);
      this.#endMs = Math.min(this.#endMs, endMs);
    }
    this.#managers = map.slots.map(({ manager }) => manager);
  }

  /** True once where the lease ends before `untilMs`, and one at the new manager of a slot does not last longer. */
  mustDrop(untilMs: number): boolean {
    for (const slot of this.#moved) {
      const manager = this.#managers[slot] ?? null;
      if (manager !== null && this.#leaseEndMs(manager) > untilMs) this.#moved.delete(slot);
    }
    const isDue = this.#moved.size > 0 && this.#endMs <= untilMs;
    if (isDue) this.#moved.clear();
    if (this.#moved.size === 0) this.#endMs = Number.POSITIVE_INFINITY;
    return isDue;
  }
}
