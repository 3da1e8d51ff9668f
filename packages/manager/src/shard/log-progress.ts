import { ALL_SLOTS, NO_SLOTS, type SlotMask } from "@dazzle/core";

/** So many segments of a log are told one by one when it is trimmed for the first time. */
const AT_ONCE_MAX = 10_000;

/** What one slot has applied of a log and the manager's stable log does not hold yet. */
interface Tail {
  /** Up to here it is stable. */
  stable: number;
  // INVARIANT: not empty, ascending; what each segment (`position`) of the manager's log says.
  readonly unstable: Array<{ readonly first: number; last: number; readonly position: number }>;
}

/** How far a log's transactions are stable here, by slot, and how far it is trimmed. How far a slot has applied them, its shard knows. */
export class LogProgress {
  readonly log: number;
  /** The last sequence that any slot here has applied. */
  applied: number;
  trimmedTo = 0;
  /** Of sequences up to this one it is not known which slots they concern. */
  #knownAbove: number;
  /** Applied in this incarnation and not trimmed: the slots concerned, here and elsewhere. */
  readonly #touched = new Map<number, SlotMask>();
  /** Of the slots where something is not stable; also of one that is about to leave, which may stay. */
  readonly #tails = new Map<number, Tail>();

  constructor(log: number, applied: number) {
    this.log = log;
    this.applied = applied;
    this.#knownAbove = applied;
  }

  /** A slot came here that has applied the log up to `applied`. */
  slotCame(applied: number): void {
    this.applied = Math.max(this.applied, applied);
    this.#knownAbove = Math.max(this.#knownAbove, applied);
  }

  /** A transaction is being applied to `slot`, which had applied the log up to `before`. `position`: the segment of the manager's log that says so. */
  wasLogged(slot: number, before: number, sequence: number, position: number): void {
    const tail = this.#tails.get(slot);
    if (tail === undefined) {
      this.#tails.set(slot, { stable: before, unstable: [{ first: sequence, last: sequence, position }] });
      return;
    }
    const last = tail.unstable.at(-1);
    if (last?.position === position) last.last = sequence;
    else tail.unstable.push({ first: sequence, last: sequence, position });
  }

  /** All slots that are here have applied their sections of it. */
  wasApplied(sequence: number, touched: SlotMask): void {
    this.applied = Math.max(this.applied, sequence);
    if (sequence > this.trimmedTo) this.#touched.set(sequence, touched);
  }

  becameStable(position: number): void {
    for (const [slot, tail] of this.#tails) {
      let done = 0;
      for (; done < tail.unstable.length; done++) {
        const { last, position: needed } = tail.unstable[done] as { last: number; position: number };
        if (needed > position) break;
        tail.stable = last;
      }
      if (done === tail.unstable.length) this.#tails.delete(slot);
      else if (done > 0) tail.unstable.splice(0, done);
    }
  }

  /** Whether something that was applied here is not in the stable log. */
  get unstable(): boolean {
    return this.#tails.size > 0;
  }

  /** Up to where a slot that has applied `applied` is stable. */
  stableIn(slot: number, applied: number): number {
    return Math.min(applied, this.#tails.get(slot)?.stable ?? applied);
  }

  /** Everything up to here that was applied is stable, in every slot here. */
  get stable(): number {
    return Math.min(this.applied, this.#firstUnstable - 1);
  }

  get #firstUnstable(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { unstable } of this.#tails.values()) first = Math.min(first, (unstable[0] as { first: number }).first);
    return first;
  }

  /** Whose shards may have live bytes of a segment. */
  slotsOf(sequence: number): SlotMask {
    return this.#touched.get(sequence) ?? (sequence > this.#knownAbove ? NO_SLOTS : ALL_SLOTS);
  }

  /** The log is trimmed further. Answers the newly trimmed sequences, with the slots concerned; undefined at the first time
   * for a log of which this incarnation has not seen all, or that is long: then what is held of it must be looked through. */
  trim(wanted: number): Array<readonly [number, SlotMask]> | undefined {
    // What is not stable here is not trimmed, whatever a mount says.
    const to = Math.min(wanted, this.#firstUnstable - 1);
    if (to <= this.trimmedTo) return [];
    if (this.trimmedTo === 0 && (this.#knownAbove > 0 || to > AT_ONCE_MAX)) {
      this.trimmedTo = to;
      for (const sequence of this.#touched.keys()) if (sequence <= to) this.#touched.delete(sequence);
      return undefined;
    }
    const trimmed: Array<readonly [number, SlotMask]> = [];
    for (let sequence = this.trimmedTo + 1; sequence <= to; sequence++) {
      trimmed.push([sequence, this.slotsOf(sequence)]);
      this.#touched.delete(sequence);
    }
    this.trimmedTo = to;
    return trimmed;
  }
}
