import { SLOTS } from "@dazzle/core";

interface Lease {
  next: number;
  left: number;
}

/** Index numbers leased from managers, by slot. */
export class IndexNumbers {
  readonly #leases = new Map<number, Lease[]>();
  readonly #asking = new Map<number, Promise<void>>();
  /** By slot: how often another manager was told what is leased. */
  readonly #claims = new Map<number, number>();
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
      const claims = this.#claims.get(slot);
      asking = this.#ask(slot)
        .then(({ first, count }) => {
          // The manager that has the slot now may not know of them: they are nobody's for ever.
          if (this.#claims.get(slot) !== claims) return;
          const leases = this.#leases.get(slot) ?? [];
          leases.push({ next: first, left: count });
          this.#leases.set(slot, leases);
        })
        .finally(() => this.#asking.delete(slot));
      this.#asking.set(slot, asking);
    }
    return asking;
  }

  /** What is leased and not used in a slot, for its new manager: pairs of the first and how many. What is asked for now and not answered does not count. */
  claimed(slot: number): number[] {
    this.#claims.set(slot, (this.#claims.get(slot) ?? 0) + 1);
    return (this.#leases.get(slot) ?? []).flatMap(({ next, left }) => [next, left]);
  }
}
