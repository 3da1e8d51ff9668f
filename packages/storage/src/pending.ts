import { assert, type FragmentKey } from "@dazzle/core";
import { type Entry, sameKey, spaceOf } from "./entry.ts";

/** A fragment that the index does not have yet. */
export interface PendingEntry {
  readonly entry: Entry;
  /** The damaged fragment in whose place it comes once the index has it: until then it is found there. Null for a new one. */
  readonly replaces: Entry | null;
  /** Of the current boot; 0 where it was on disk before that began. */
  ticket: number;
  /** The write under way; null once it is done. */
  writing: Promise<void> | null;
}

/** What was stored and is not in the index yet, in the order of tickets and places. */
export class Pending {
  // INVARIANT: both hold the same entries, `#segments` without those that replace another; `#bytes` is what they take of the volumes.
  readonly #segments = new Map<string, PendingEntry[]>();
  #order: PendingEntry[] = [];
  #bytes = 0;

  get count(): number {
    return this.#order.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** What comes in the place of something. */
  get repairs(): PendingEntry[] {
    return this.#order.filter(({ replaces }) => replaces !== null);
  }

  add(added: PendingEntry): void {
    this.#order.push(added);
    this.#bytes += spaceOf(added.entry);
    if (added.replaces !== null) return;
    const name = segmentName(added.entry.log, added.entry.sequence);
    const others = this.#segments.get(name);
    if (others === undefined) this.#segments.set(name, [added]);
    else others.push(added);
  }

  find(key: FragmentKey): PendingEntry | undefined {
    return this.segment(key.log, key.sequence).find(({ entry }) => sameKey(entry, key));
  }

  segment(log: number, sequence: number): readonly PendingEntry[] {
    if (this.#order.length === 0) return NONE;
    return this.#segments.get(segmentName(log, sequence)) ?? NONE;
  }

  /** Those with tickets up to `ticket`, in order. */
  through(ticket: number): PendingEntry[] {
    let count = 0;
    while (count < this.#order.length && (this.#order[count] as PendingEntry).ticket <= ticket) count++;
    return this.#order.slice(0, count);
  }

  remove(removed: ReadonlySet<PendingEntry>): void {
    if (removed.size === 0) return;
    this.#order = this.#order.filter((one) => !removed.has(one));
    for (const one of removed) {
      this.#bytes -= spaceOf(one.entry);
      if (one.replaces !== null) continue;
      const name = segmentName(one.entry.log, one.entry.sequence);
      const left = (this.#segments.get(name) ?? NONE).filter((other) => other !== one);
      if (left.length === 0) this.#segments.delete(name);
      else this.#segments.set(name, left);
    }
  }

  /** A new boot begins: what is not on disk is forgotten, the rest counts as ticket 0. */
  restart(durable: number): void {
    this.remove(new Set(this.#order.filter(({ ticket }) => ticket > durable)));
    for (const one of this.#order) one.ticket = 0;
  }

  checkInvariants(): void {
    let held = 0;
    for (const entries of this.#segments.values()) held += entries.length;
    assert(held === this.#order.length - this.repairs.length, "segments and order hold the same entries");
    for (let at = 1; at < this.#order.length; at++)
      assert((this.#order[at - 1] as PendingEntry).ticket <= (this.#order[at] as PendingEntry).ticket, "entries stand by ticket");
  }
}

const NONE: readonly PendingEntry[] = [];

function segmentName(log: number, sequence: number): string {
  return `${log}/${sequence}`;
}
