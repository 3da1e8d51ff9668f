import { assert, SLOTS, slotOf } from "@dazzle/core";

interface Lease {
  readonly mount: number;
  readonly first: number;
  readonly count: number;
  /** A bit for each number whose token the table tells of, rather than the lease. */
  known: Uint8Array | null;
}

/** Who leased which index numbers in this incarnation: what is made under a leased number is its mount's alone, until the
 * token table knows better. A million files so cost a few bytes each, not a row. */
export class NumberLeases {
  // INVARIANT: by slot, ascending and apart.
  readonly #leases = new Map<number, Lease[]>();

  add(mount: number, first: number, count: number): void {
    const leases = this.#leases.get(slotOf(first)) ?? [];
    // What is leased anew comes last; claims come in any order.
    const place = leases.findLastIndex((lease) => lease.first < first) + 1;
    const [before, after] = [leases[place - 1], leases[place]];
    const apart = before === undefined || before.first + before.count * SLOTS <= first;
    assert(apart && (after === undefined || first + count * SLOTS <= after.first), "index numbers are leased once");
    leases.splice(place, 0, { mount, first, count, known: null });
    this.#leases.set(slotOf(first), leases);
  }

  /** The mount that holds `ino` by its lease alone; 0: none. */
  holder(ino: number): number {
    const lease = this.#find(ino);
    if (lease === undefined) return 0;
    const bit = (ino - lease.first) / SLOTS;
    return lease.known !== null && ((lease.known[bit >> 3] as number) & (1 << (bit & 7))) !== 0 ? 0 : lease.mount;
  }

  /** From now on the token table tells of `ino`. */
  forget(ino: number): void {
    const lease = this.#find(ino);
    if (lease === undefined) return;
    lease.known ??= new Uint8Array(Math.ceil(lease.count / 8));
    const bit = (ino - lease.first) / SLOTS;
    lease.known[bit >> 3] = (lease.known[bit >> 3] as number) | (1 << (bit & 7));
  }

  /** In one slot, or in all of them. */
  dropMount(mount: number, only?: number): void {
    for (const [slot, leases] of this.#leases) {
      if (only !== undefined && slot !== only) continue;
      this.#leases.set(
        slot,
        leases.filter((lease) => lease.mount !== mount),
      );
    }
  }

  dropSlot(slot: number): void {
    this.#leases.delete(slot);
  }

  #find(ino: number): Lease | undefined {
    const leases = this.#leases.get(slotOf(ino));
    if (leases === undefined) return undefined;
    let low = 0;
    let high = leases.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((leases[middle] as Lease).first <= ino) low = middle + 1;
      else high = middle;
    }
    const lease = leases[low - 1];
    return lease !== undefined && ino < lease.first + lease.count * SLOTS ? lease : undefined;
  }
}
