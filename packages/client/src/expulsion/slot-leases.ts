import { SLOTS } from "@dazzle/core";

/** By slot, until when what this mount holds there counts: by the lease of whoever said last that it has the slot (rule 29). A manager that has given a slot away renews its lease for the
 * others alone, also where the mount can't learn of it; and whoever has the slot then waits for no more than what was given before. */
export class SlotLeases {
  readonly #endMs: number[] = Array.from({ length: SLOTS }, () => 0);
  /** Slots in which the lease lasted when it was last looked at. */
  readonly #held = new Set<number>();

  endMs(slot: number): number {
    return this.#endMs[slot] ?? 0;
  }

  /** A manager that has these slots gave a lease. */
  given(slots: Iterable<number>, endMs: number): void {
    for (const slot of slots) this.#endMs[slot] = Math.max(this.endMs(slot), endMs);
  }

  /** The slots in which the lease lasted beyond what was asked for the last time, and does not last beyond `untilMs`. */
  lapsed(untilMs: number): number[] {
    const lapsed: number[] = [];
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.endMs(slot) > untilMs) this.#held.add(slot);
      else if (this.#held.delete(slot)) lapsed.push(slot);
    }
    return lapsed;
  }
}
