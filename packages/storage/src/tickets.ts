import { assert, type BootId, DazzleError, type Deferred, deferred } from "@dazzle/core";
import { comparePlaces, type Place } from "./record-header.ts";

interface Waiter {
  readonly ticket: number;
  readonly done: Deferred<void>;
}

/** The stores of one boot, numbered in the order of their places, and how far they are on disk. One flush at a time for all
 * that wait, covering every write that has finished before it; those who come later join the next.
 * A flush that fails ends the boot: it is never tried again. */
export class Tickets {
  readonly boot: BootId;
  #last = 0;
  #durable = 0;
  #durablePlace: Place;
  // INVARIANT: ascending, as tickets are given; what is not in it and not above `#last` has been written, or failed alone.
  readonly #inFlight = new Map<number, Place>();
  #waiters: Waiter[] = [];
  #written: { readonly through: number; readonly done: Deferred<void> } | null = null;
  #flushing = false;
  #failure: DazzleError | null = null;
  readonly #head: () => Place;
  readonly #flush: () => Promise<void>;
  readonly #onFailure: (error: unknown) => void;

  /** `head`: where the next record goes. `flush`: makes durable whatever was written before the call. */
  constructor(boot: BootId, head: () => Place, flush: () => Promise<void>, onFailure: (error: unknown) => void) {
    this.boot = boot;
    this.#durablePlace = head();
    this.#head = head;
    this.#flush = flush;
    this.#onFailure = onFailure;
  }

  get last(): number {
    return this.#last;
  }

  /** Every ticket up to it is on disk, or its store failed. */
  get durable(): number {
    return this.#durable;
  }

  /** No record before it is missing from the disk. */
  get durablePlace(): Place {
    return this.#durablePlace;
  }

  /** Gives the next ticket to a record that is about to be written. */
  begin(place: Place): number {
    const ticket = ++this.#last;
    this.#inFlight.set(ticket, place);
    return ticket;
  }

  /** Its write has ended. */
  finish(ticket: number): void {
    this.#inFlight.delete(ticket);
    if (this.#written !== null && this.#firstInFlight() > this.#written.through) {
      this.#written.done.resolve();
      this.#written = null;
    }
  }

  /** Resolves when everything up to `ticket` is on disk. Rejects `diskFailed` when the boot ends before. */
  wait(ticket: number): Promise<void> {
    assert(ticket <= this.#last, "a ticket was given before it is waited for");
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (ticket <= this.#durable) return Promise.resolve();
    const done = deferred();
    this.#waiters.push({ ticket, done });
    if (!this.#flushing) void this.#run();
    return done.promise;
  }

  /** Ends the boot: whoever waits is refused. */
  fail(error: DazzleError): void {
    this.#failure = error;
    for (const { done } of this.#waiters.splice(0)) done.reject(error);
    this.#written?.done.resolve();
    this.#written = null;
  }

  #firstInFlight(): number {
    for (const ticket of this.#inFlight.keys()) return ticket;
    return this.#last + 1;
  }

  async #run(): Promise<void> {
    this.#flushing = true;
    while (this.#waiters.length > 0) {
      let through = 0;
      for (const { ticket } of this.#waiters) through = Math.max(through, ticket);
      if (this.#firstInFlight() <= through) {
        this.#written = { through, done: deferred() };
        await this.#written.done.promise;
      }
      const first = this.#firstInFlight();
      const place = this.#inFlight.get(first) ?? this.#head();
      try {
        if (this.#failure === null) await this.#flush();
      } catch (error) {
        if (this.#failure !== null) return;
        this.fail(newBootFailure(error));
        this.#onFailure(error);
      }
      if (this.#failure !== null) return;
      this.#advance(first - 1, place);
    }
    this.#flushing = false;
  }

  #advance(durable: number, place: Place): void {
    this.#durable = durable;
    this.#durablePlace = place;
    const waiting: Waiter[] = [];
    for (const waiter of this.#waiters) {
      if (waiter.ticket <= durable) waiter.done.resolve();
      else waiting.push(waiter);
    }
    this.#waiters = waiting;
    this.checkInvariants();
  }

  checkInvariants(): void {
    assert(this.#durable <= this.#last, "what is durable was stored");
    assert(this.#durable < this.#firstInFlight(), "what is durable has been written");
    assert(comparePlaces(this.#durablePlace, this.#head()) <= 0, "what is durable lies before the head");
  }
}

export function newBootFailure(cause: unknown): DazzleError {
  return new DazzleError("diskFailed", `the store starts anew under a new boot: ${(cause as Error).message}`);
}
