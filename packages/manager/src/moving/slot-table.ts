import { type Answer, assert, type Clock, DazzleError, type Deferred, deferred, isDazzleError, withDeadline } from "@dazzle/core";

/** `loading`: it is read from the logs before. `claiming`: mounts tell what they hold there. `leaving`: it is being handed over. */
export type SlotState = "loading" | "claiming" | "open" | "leaving";

interface Row {
  readonly term: number;
  state: SlotState;
  /** Nobody that had it before serves it any more. */
  free: boolean;
  /** What it waits for, for people. */
  reason: string;
  readonly loaded: Deferred<void>;
  opened: Deferred<void>;
}

/** Slots that are not served yet, and what they all wait for. */
export interface WaitingSlots {
  readonly slots: readonly number[];
  readonly reason: string;
}

/** How long a request waits for its slot to open. */
const OPEN_DEADLINE_MS = 30_000;

/** The slots that this incarnation has by the map, and how far each is. A request to one that is not open yet, or is on its way to another
 * manager, waits: it is answered here, or goes on to the new owner with `staleMap`. */
export class SlotTable {
  readonly #clock: Clock;
  readonly #rows = new Map<number, Row>();
  #stopped: unknown = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#rows.size;
  }

  /** How many are in that state. */
  count(state: SlotState): number {
    return [...this.#rows.values()].filter((row) => row.state === state).length;
  }

  /** Those of which it is known what they wait for. */
  get waiting(): WaitingSlots[] {
    const byReason = new Map<string, number[]>();
    for (const [slot, { reason }] of this.#rows) if (reason !== "") byReason.set(reason, [...(byReason.get(reason) ?? []), slot]);
    return [...byReason].map(([reason, slots]) => ({ slots: slots.sort((one, other) => one - other), reason }));
  }

  termOf(slot: number): number | undefined {
    return this.#rows.get(slot)?.term;
  }

  stateOf(slot: number): SlotState | undefined {
    return this.#rows.get(slot)?.state;
  }

  isOpen(slot: number): boolean {
    return this.#rows.get(slot)?.state === "open";
  }

  /** Whether nobody that had it before serves it any more. */
  isFree(slot: number): boolean {
    return this.#rows.get(slot)?.free ?? false;
  }

  take(slot: number, term: number): void {
    assert(!this.#rows.has(slot), `slot ${slot} is taken once`);
    this.#rows.set(slot, { term, state: "loading", free: false, reason: "", loaded: deferred(), opened: deferred() });
  }

  waits(slot: number, reason: string): void {
    const row = this.#rows.get(slot);
    if (row !== undefined) row.reason = reason;
  }

  loaded(slot: number): void {
    const row = this.#row(slot);
    row.state = "claiming";
    row.reason = "";
    row.loaded.resolve();
  }

  freed(slot: number): void {
    const row = this.#rows.get(slot);
    if (row !== undefined) row.free = true;
  }

  opened(slot: number): void {
    const row = this.#row(slot);
    assert(row.free, `slot ${slot} is served by one manager`);
    row.state = "open";
    row.reason = "";
    row.opened.resolve();
  }

  leaves(slot: number): void {
    const row = this.#row(slot);
    assert(row.state === "open", `slot ${slot} is open before it leaves`);
    row.state = "leaving";
    row.opened = deferred();
  }

  gone(slot: number): void {
    const row = this.#rows.get(slot);
    if (row === undefined) return;
    this.#rows.delete(slot);
    row.loaded.reject(notHere(slot));
    row.opened.reject(notHere(slot));
  }

  /** Nothing is served any more. */
  stop(reason: unknown): void {
    this.#stopped ??= reason;
    for (const { loaded, opened } of this.#rows.values()) {
      loaded.reject(reason);
      opened.reject(reason);
    }
  }

  #row(slot: number): Row {
    const row = this.#rows.get(slot);
    if (row === undefined) throw notHere(slot);
    return row;
  }

  /** Resolves when every slot that is here now is read, or gone again. */
  async allLoaded(): Promise<void> {
    await Promise.allSettled([...this.#rows.values()].map(({ loaded }) => loaded.promise));
  }

  /** For what mounts answer an opening with. Rejects `staleMap` where the slot is not here, `notReady` where it is not read in time. */
  whenLoaded(slot: number): Answer<void> {
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    const row = this.#rows.get(slot);
    if (row === undefined) return Promise.reject(notHere(slot));
    if (row.state !== "loading") return undefined;
    return this.#within(slot, row, row.loaded);
  }

  /** For everything else. Rejects `staleMap` where the slot is not here (any more), `notReady` where it does not open in time. */
  whenOpen(slot: number): Answer<void> {
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    const row = this.#rows.get(slot);
    if (row === undefined) return Promise.reject(notHere(slot));
    if (row.state === "open") return undefined;
    return this.#within(slot, row, row.opened);
  }

  async #within(slot: number, row: Row, { promise }: Deferred<void>): Promise<void> {
    try {
      await withDeadline(this.#clock, OPEN_DEADLINE_MS, `opening slot ${slot}`, promise);
    } catch (error) {
      if (!isDazzleError(error, "timedOut")) throw error;
      const reason = row.reason === "" ? "" : `: ${row.reason}`;
      throw new DazzleError("notReady", `slot ${slot} is ${row.state} at this manager${reason}`);
    }
  }
}

function notHere(slot: number): DazzleError {
  return new DazzleError("staleMap", `slot ${slot} is not at this manager`);
}
