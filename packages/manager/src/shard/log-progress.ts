import { ALL_SLOTS, NO_SLOTS, type SlotMask } from "@dazzle/core";

/** How far a log's transactions are applied here, are stable here, and are trimmed. */
export class LogProgress {
  readonly log: number;
  applied: number;
  stable: number;
  trimmedTo: number;
  /** Of sequences up to this one it is not known which slots they concern. */
  readonly #knownAbove: number;
  /** Applied in this incarnation and not trimmed: the slots concerned. */
  readonly #slots = new Map<number, SlotMask>();
  // INVARIANT: both ascend; the last applied of each segment of the manager's log.
  #unstable: Array<{ applied: number; position: number }> = [];

  constructor(log: number, applied: number) {
    this.log = log;
    this.applied = applied;
    this.stable = applied;
    this.trimmedTo = 0;
    this.#knownAbove = applied;
  }

  /** `position`: the segment of the manager's log that says so. */
  wasApplied(sequence: number, slots: SlotMask, position: number): void {
    this.applied = sequence;
    this.#slots.set(sequence, slots);
    const last = this.#unstable.at(-1);
    if (last?.position === position) last.applied = sequence;
    else this.#unstable.push({ applied: sequence, position });
  }

  becameStable(position: number): void {
    while (this.#unstable.length > 0 && (this.#unstable[0] as { position: number }).position <= position)
      this.stable = (this.#unstable.shift() as { applied: number }).applied;
  }

  /** Whose shards may have live bytes of a segment. */
  slotsOf(sequence: number): SlotMask {
    return this.#slots.get(sequence) ?? (sequence > this.#knownAbove ? NO_SLOTS : ALL_SLOTS);
  }

  /** The log is trimmed further. Answers the newly trimmed sequences, with the slots concerned; undefined at the first time
   * for a log of an earlier incarnation: then what is held of it must be looked through. */
  trim(wanted: number): Array<readonly [number, SlotMask]> | undefined {
    // What is not stable here is not trimmed, whatever a mount says.
    const to = this.applied > this.stable ? Math.min(wanted, this.stable) : wanted;
    if (to <= this.trimmedTo) return [];
    if (this.trimmedTo === 0 && this.#knownAbove > 0) {
      this.trimmedTo = to;
      return undefined;
    }
    const trimmed: Array<readonly [number, SlotMask]> = [];
    for (let sequence = this.trimmedTo + 1; sequence <= to; sequence++) {
      trimmed.push([sequence, this.slotsOf(sequence)]);
      this.#slots.delete(sequence);
    }
    this.trimmedTo = to;
    return trimmed;
  }
}
