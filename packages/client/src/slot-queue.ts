import { assert, type Deferred, deferred, type RpcPeer, type SlotMask } from "@dazzle/core";

/** A stable segment's transaction. */
export interface Shipment {
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  /** Every slot that it concerns. */
  readonly touched: SlotMask;
  readonly transaction: Buffer;
}

/** What a shipment has for one slot: bytes `start <= byte < end` of its transaction. */
export interface QueuedSection {
  readonly shipment: Shipment;
  /** The sequence that was shipped to the slot before; 0: none. */
  readonly previous: number;
  readonly start: number;
  readonly end: number;
}

/** What this mount owes one slot: sections in log order, remembered until the log of the slot's manager holds them stable, and
 * shipped again where another manager, or another incarnation, took the slot over. */
export class SlotQueue {
  readonly slot: number;
  // INVARIANT: ascending, none stable; the first `#sent` were sent on the present connection.
  readonly #sections: QueuedSection[] = [];
  #sent = 0;
  /** The connection on which the slot's manager told how far the slot is: sections go there. Null while it must be asked. */
  peer: RpcPeer | null = null;
  /** The term under which it told. */
  term = 0;
  /** The last sequence that ever concerned the slot. */
  lastQueued = 0;
  /** What comes behind this sequence was done under tokens that are still here: one goes when what was done under it is applied. */
  freedTo = 0;
  /** As the slot's manager told; while it must be asked, what each has. */
  applied = 0;
  stable = 0;
  #waiters: Array<{ readonly sequence: number; readonly deferred: Deferred<void> }> = [];

  constructor(slot: number) {
    this.slot = slot;
  }

  get length(): number {
    return this.#sections.length;
  }

  /** The first that was not sent on the present connection. */
  get next(): QueuedSection | undefined {
    return this.#sections[this.#sent];
  }

  /** The first sequence that is not stable at the slot's manager. */
  get firstUnstable(): number {
    return this.#sections[0]?.shipment.sequence ?? Number.POSITIVE_INFINITY;
  }

  push(shipment: Shipment, start: number, end: number): void {
    assert(shipment.sequence > this.lastQueued, "segments become stable in order");
    this.#sections.push({ shipment, previous: this.lastQueued, start, end });
    this.lastQueued = shipment.sequence;
  }

  /** Answers `next`, which is sent now. */
  take(): QueuedSection {
    const section = this.next;
    assert(section !== undefined, "a section that is sent was queued");
    this.#sent++;
    return section;
  }

  /** The slot's manager told how far the slot is; what it does not hold stable is sent again. */
  attach(peer: RpcPeer, term: number, applied: number, stable: number): void {
    assert(applied >= this.stable, `slot ${this.slot} was stable up to ${this.stable}, and is applied up to ${applied} under term ${term}`);
    this.peer = peer;
    this.term = term;
    this.#sent = 0;
    this.applied = applied;
    this.learn(applied, stable);
  }

  /** Who tells next may be another manager, or another incarnation, and has what was stable, and maybe no more. */
  detach(): void {
    this.peer = null;
    this.#sent = 0;
    this.applied = this.stable;
  }

  learn(applied: number, stable: number): void {
    this.applied = Math.max(this.applied, applied);
    this.freedTo = Math.max(this.freedTo, applied);
    this.stable = Math.max(this.stable, stable);
    let done = 0;
    while (done < this.#sections.length && (this.#sections[done] as QueuedSection).shipment.sequence <= this.stable) done++;
    if (done > 0) {
      this.#sections.splice(0, done);
      this.#sent = Math.max(0, this.#sent - done);
    }
    if (this.#waiters.length === 0) return;
    const met = this.#waiters.filter(({ sequence }) => sequence <= this.applied);
    this.#waiters = this.#waiters.filter(({ sequence }) => sequence > this.applied);
    for (const { deferred: waiter } of met) waiter.resolve();
  }

  /** Resolves when the slot's manager has applied everything up to `sequence` that concerns the slot; undefined where it has. */
  whenApplied(sequence: number): Promise<void> | undefined {
    const wanted = Math.min(sequence, this.lastQueued);
    if (wanted <= this.applied) return undefined;
    const waiter = deferred();
    this.#waiters.push({ sequence: wanted, deferred: waiter });
    return waiter.promise;
  }

  close(reason: Error): void {
    for (const { deferred: waiter } of this.#waiters) waiter.reject(reason);
    this.#waiters = [];
  }
}
