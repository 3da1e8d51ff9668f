import { assert, type Clock, type Timer } from "@dazzle/core";
import type { SeededRandom } from "./random.ts";

/** Who an event belongs to: it never fires once the owner is dead. */
export interface Owner {
  readonly name: string;
  readonly alive: boolean;
  /** It is frozen until then: what is due before happens at that time. */
  readonly frozenUntilMs?: number;
}

/** How a process's clocks differ from the simulation's time. */
export interface ClockSkew {
  /** Its milliseconds in one of the simulation's. */
  readonly rate: number;
  /** What its monotonic clock says at the simulation's time 0. */
  readonly offsetMs: number;
  /** How far its wall clock is off. May change at any time. */
  readonly wallMs: () => number;
}

const NANOSECONDS_A_MILLISECOND = 1e6;
/** Where the wall clock stands when a simulation starts. */
const WALL_START_NS = 1_000_000_000_000_000_000n;
/** Cancelled events are swept out once there are so many, and more than of the others. */
const SWEEP_EVENTS = 1_024;

class Event implements Timer {
  atMs: number;
  order: number;
  readonly owner: Owner;
  action: (() => void) | null;
  readonly #queue: EventQueue;

  constructor(queue: EventQueue, atMs: number, order: number, owner: Owner, action: () => void) {
    this.#queue = queue;
    this.atMs = atMs;
    this.order = order;
    this.owner = owner;
    this.action = action;
  }

  cancel(): void {
    if (this.action === null) return;
    this.action = null;
    this.#queue.cancelled();
  }

  /** Itself, later. */
  delayed(byMs: number, order: number): this {
    this.atMs += byMs;
    this.order = order;
    return this;
  }

  before(other: Event): boolean {
    return this.atMs < other.atMs || (this.atMs === other.atMs && this.order < other.order);
  }
}

/** Virtual time: events in the order of (time, insertion). */
export class EventQueue {
  #nowMs = 1_000;
  #order = 0;
  #cancelled = 0;
  // INVARIANT: a binary heap, no event before its parent.
  #heap: Event[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, owner: Owner, action: () => void): Timer {
    assert(delayMs >= 0 && Number.isFinite(delayMs), `a delay is a number of milliseconds, not ${delayMs}`);
    const event = new Event(this, this.#nowMs + delayMs, this.#order++, owner, action);
    this.#push(event);
    return event;
  }

  /** When the next event is due, undefined where there is none. */
  nextMs(): number | undefined {
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      if (first.action !== null && first.owner.alive) return first.atMs;
      this.#pop();
    }
    return undefined;
  }

  /** Moves time to the next event and fires it. Answers whether there was one. */
  step(): boolean {
    if (this.nextMs() === undefined) return false;
    const event = this.#pop();
    this.#nowMs = event.atMs;
    const frozenMs = (event.owner.frozenUntilMs ?? 0) - this.#nowMs;
    if (frozenMs > 0) {
      if (event.action !== null) this.#push(event.delayed(frozenMs, this.#order++));
      return true;
    }
    const action = event.action;
    event.action = null;
    action?.();
    return true;
  }

  /** Moves time where no event is due up to then. */
  moveTo(nowMs: number): void {
    const nextMs = this.nextMs();
    assert(nowMs >= this.#nowMs && (nextMs === undefined || nextMs > nowMs), "time passes no event");
    this.#nowMs = nowMs;
  }

  cancelled(): void {
    this.#cancelled++;
    if (this.#cancelled < SWEEP_EVENTS || this.#cancelled * 2 < this.#heap.length) return;
    const live = this.#heap.filter((event) => event.action !== null && event.owner.alive);
    live.sort((one, other) => (one.before(other) ? -1 : 1));
    this.#heap = live;
    this.#cancelled = 0;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above] as Event;
      if (!event.before(parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = event;
  }

  #pop(): Event {
    const heap = this.#heap;
    const first = heap[0] as Event;
    const moved = heap.pop() as Event;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && (heap[below + 1] as Event).before(heap[below] as Event)) below++;
      const child = heap[below] as Event;
      if (!child.before(moved)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = moved;
    return first;
  }
}

/** One process's clock. A timer fires up to 1 ms late, as real ones do. */
export class SimClock implements Clock {
  readonly #events: EventQueue;
  readonly #owner: Owner;
  readonly #random: SeededRandom;
  readonly #skew: ClockSkew;

  constructor(events: EventQueue, owner: Owner, random: SeededRandom, skew: ClockSkew) {
    this.#events = events;
    this.#owner = owner;
    this.#random = random;
    this.#skew = skew;
  }

  nowMs(): number {
    return this.#skew.offsetMs + this.#events.nowMs * this.#skew.rate;
  }

  wallTimeNs(): bigint {
    return WALL_START_NS + BigInt(Math.round((this.#events.nowMs + this.#skew.wallMs()) * NANOSECONDS_A_MILLISECOND));
  }

  after(delayMs: number, action: () => void): Timer {
    return this.#events.schedule(Math.max(0, delayMs) / this.#skew.rate + this.#random.fraction(), this.#owner, action);
  }

  soon(action: () => void): void {
    this.#events.schedule(0, this.#owner, action);
  }
}
