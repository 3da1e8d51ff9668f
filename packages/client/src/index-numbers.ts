import { SLOTS } from "@dazzle/core";

interface Lease {
  next: number;
  left: number;
}

/** Index numbers leased from managers, by slot. */
export class IndexNumbers {
  readonly #leases = new Map<number, Lease[]>();
  readonly #asking = new Map<number, Promise<void>>();
  readonly #ask: (slot: number) => Promise<{ first: number; count: number }>;

  constructor(ask: (slot: number) => Promise<{ first: number; count: number }>) {
    this.#ask = ask;
  }

  /** A number of the slot that nobody ever had; undefined where none is leased: see `lease`. */
  take(slot: number): number | undefined {
    const leases = this.#leases.get(slot);
    const lease = leases?.[0];
    if (leases === undefined || lease === undefined) return undefined;
    const number = lease.next;
    lease.next += SLOTS;
    lease.left--;
    if (lease.left === 0) leases.shift();
    return number;
  }

  /** Asks for more numbers of a slot; callers at one time share the request. */
  lease(slot: number): Promise<void> {
    let asking = this.#asking.get(slot);
    if (asking === undefined) {
      asking = this.#ask(slot)
        .then(({ first, count }) => {
          const leases = this.#leases.get(slot) ?? [];
          leases.push({ next: first, left: count });
          this.#leases.set(slot, leases);
        })
        .finally(() => this.#asking.delete(slot));
      this.#asking.set(slot, asking);
    }
    return asking;
  }
}
