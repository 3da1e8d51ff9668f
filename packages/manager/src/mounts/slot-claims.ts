import { assert, type Deferred, deferred } from "@dazzle/core";

interface Opening {
  readonly term: number;
  /** By mount: the last page that came of it. */
  readonly pages: Map<number, number>;
  // INVARIANT: not empty while `done` is pending.
  readonly awaited: Set<number>;
  readonly done: Deferred<void>;
}

/** What mounts say of slots that changed hands: a new owner serves a slot only when each mount that may hold something there has
 * said what, or is gone (rules 16 and 17). */
export class SlotClaims {
  readonly #openings = new Map<number, Opening>();

  /** Resolves when each of `mounts` has claimed in the slot under this term or is gone, or at `forget`. To be called before claims may come. */
  awaitClaims(slot: number, term: number, mounts: Iterable<number>): Promise<void> {
    const before = this.#openings.get(slot);
    assert(before === undefined || before.term < term, `slot ${slot} is opened once under a term`);
    const opening = { term, pages: new Map<number, number>(), awaited: new Set(mounts), done: deferred<void>() };
    this.#openings.set(slot, opening);
    this.#check(slot, opening);
    return opening.done.promise;
  }

  /** Whether the mount is waited for in the slot under this term. */
  awaits(mount: number, slot: number, term: number): boolean {
    const opening = this.#openings.get(slot);
    return opening !== undefined && opening.term === term && opening.awaited.has(mount);
  }

  /** Where the mount is waited for, with the terms. */
  awaitedOf(mount: number): Array<{ readonly slot: number; readonly term: number }> {
    const rows: Array<{ slot: number; term: number }> = [];
    for (const [slot, { term, awaited }] of this.#openings) if (awaited.has(mount)) rows.push({ slot, term });
    return rows;
  }

  /** A page of claims comes. Answers the last one that came before, if any did: what was claimed then counts no more where it is the first again. */
  came(mount: number, slot: number, page: number): number | undefined {
    const pages = this.#openings.get(slot)?.pages;
    const before = pages?.get(mount);
    pages?.set(mount, Math.max(page, before ?? page));
    return before;
  }

  /** The mount has said all that it holds in the slot, and what it has done there under tokens that it gave back is applied here.
   * Of another term it says nothing. */
  claimed(mount: number, slot: number, term: number): void {
    const opening = this.#openings.get(slot);
    if (opening === undefined || opening.term !== term) return;
    opening.awaited.delete(mount);
    this.#check(slot, opening);
  }

  /** The mount's log is closed, or ended and applied to the shards here. */
  gone(mount: number): void {
    for (const [slot, opening] of this.#openings) {
      opening.awaited.delete(mount);
      this.#check(slot, opening);
    }
  }

  /** The slot went elsewhere before it was open: nobody is awaited any more. */
  forget(slot: number): void {
    const opening = this.#openings.get(slot);
    this.#openings.delete(slot);
    opening?.done.resolve();
  }

  /** The term under which claims are awaited in a slot; undefined where none are. */
  termOf(slot: number): number | undefined {
    return this.#openings.get(slot)?.term;
  }

  /** Who is still awaited, in any slot. */
  awaited(): Set<number> {
    return new Set([...this.#openings.values()].flatMap(({ awaited }) => [...awaited]));
  }

  #check(slot: number, opening: Opening): void {
    if (opening.awaited.size > 0) return;
    this.#openings.delete(slot);
    opening.done.resolve();
  }
}
