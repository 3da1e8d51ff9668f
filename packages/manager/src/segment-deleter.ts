import {
  assert,
  type Clock,
  type DazzleError,
  findLog,
  isDazzleError,
  type Logger,
  type MapCache,
  type MemberId,
  type Peers,
} from "@dazzle/core";
import type { SlotMask } from "./imap/values.ts";
import type { Journal } from "./journal.ts";

/** Sequences in one request, and sequences that may wait for one server. */
const BATCH_MAX = 1_000;
const WAITING_MAX = 100_000;
const RETRY_MS = 1_000;
const DEADLINE_MS = 10_000;
/** Trimmed-to of a log that is closed. */
export const WHOLE_LOG = Number.MAX_SAFE_INTEGER;

export interface DeleterEvents {
  /** Whether anything in the segment is needed: live bytes in a shard of `slots`, or a sorted run. */
  isLive(log: number, sequence: number, slots: SlotMask): Promise<boolean>;
  /** Up to where the log is trimmed: nothing above is deleted. */
  trimmedTo(log: number): number;
  /** Too much waited for this server: what it holds must be looked through again. */
  overflowed(member: MemberId): void;
}

interface Candidate {
  readonly log: number;
  readonly sequence: number;
  readonly slots: SlotMask;
  /** What emptied it is stable with this segment of the manager's log. */
  readonly position: number;
}

interface ServerWork {
  readonly waiting: Map<number, Map<number, SlotMask>>;
  count: number;
  sending: boolean;
  reason: string;
}

/** Deletes segments of which nothing is needed any more: trimmed, and without live bytes, both stably so (PROTOCOL rule 24).
 * A server that is away gets its requests when it is back. */
export class SegmentDeleter {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #journal: Journal;
  readonly #events: DeleterEvents;
  /** Until what emptied them is stable. Ascending by position. */
  #candidates: Candidate[] = [];
  #checking = false;
  readonly #servers = new Map<MemberId, ServerWork>();
  #closed = false;
  deleted = 0;

  constructor(options: { map: MapCache; peers: Peers; clock: Clock; logger: Logger; journal: Journal; events: DeleterEvents }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#journal = options.journal;
    this.#events = options.events;
    this.#journal.onStable(() => this.#checkSoon());
  }

  get waiting(): number {
    let waiting = this.#candidates.length;
    for (const work of this.#servers.values()) waiting += work.count;
    return waiting;
  }

  /** A segment may have become empty with what was applied last. */
  offer(log: number, sequence: number, slots: SlotMask): void {
    if (this.#candidates.length >= WAITING_MAX) {
      for (const member of this.#serversOf(log)) this.#events.overflowed(member);
      return;
    }
    this.#candidates.push({ log, sequence, slots, position: this.#journal.appendedSequence });
    if (this.#candidates.length === 1) this.#clock.soon(() => this.#checkSoon());
  }

  #checkSoon(): void {
    const first = this.#candidates[0];
    if (this.#checking || this.#closed || first === undefined || first.position > this.#journal.stableSequence) return;
    this.#checking = true;
    this.#check().then(
      () => {
        this.#checking = false;
        this.#clock.soon(() => this.#checkSoon());
      },
      (error: unknown) => {
        if (!isDazzleError(error)) throw error;
        this.#logger("warning", "segments are deleted later", { reason: error.message });
        this.#clock.after(RETRY_MS, () => {
          this.#checking = false;
          this.#checkSoon();
        });
      },
    );
  }

  async #check(): Promise<void> {
    const stable = this.#journal.stableSequence;
    let taken = 0;
    try {
      for (const { log, sequence, slots, position } of this.#candidates) {
        if (position > stable || taken === BATCH_MAX) break;
        // What is not trimmed is offered again when it is.
        const empty = sequence <= this.#events.trimmedTo(log) && !(await this.#events.isLive(log, sequence, slots));
        if (empty) for (const member of this.#serversOf(log)) this.enqueueAt(member, log, sequence, slots);
        taken++;
      }
    } finally {
      this.#candidates.splice(0, taken);
    }
    for (const [member, work] of this.#servers) this.#send(member, work);
  }

  /** Every server that may hold something of a log. */
  #serversOf(log: number): Set<MemberId> {
    const map = this.#map.current;
    const row = findLog(map, log);
    const groups = row === undefined ? map.groups : map.groups.filter(({ id }) => row.groups.includes(id));
    return new Set(groups.flatMap(({ versions }) => versions.flatMap(({ servers }) => servers.map(({ member }) => member))));
  }

  /** A segment of which nothing is needed goes from one server. */
  enqueueAt(member: MemberId, log: number, sequence: number, slots: SlotMask): void {
    const work = this.#work(member);
    if (work.count >= WAITING_MAX) {
      work.waiting.clear();
      work.count = 0;
      this.#events.overflowed(member);
      return;
    }
    let sequences = work.waiting.get(log);
    if (sequences === undefined) {
      sequences = new Map();
      work.waiting.set(log, sequences);
    }
    if (!sequences.has(sequence)) work.count++;
    sequences.set(sequence, slots);
  }

  /** Sends what waits for a server. */
  flush(member: MemberId): void {
    this.#send(member, this.#work(member));
  }

  #work(member: MemberId): ServerWork {
    let work = this.#servers.get(member);
    if (work === undefined) {
      work = { waiting: new Map(), count: 0, sending: false, reason: "" };
      this.#servers.set(member, work);
    }
    return work;
  }

  #send(member: MemberId, work: ServerWork): void {
    if (work.sending || work.count === 0 || this.#closed) return;
    if (!this.#map.current.members.some(({ id }) => id === member)) {
      this.#servers.delete(member);
      return;
    }
    work.sending = true;
    this.#sendAll(member, work).then(
      () => {
        work.sending = false;
        work.reason = "";
      },
      (error: unknown) => {
        if (!isDazzleError(error)) throw error;
        this.#away(member, work, error);
      },
    );
  }

  #away(member: MemberId, work: ServerWork, error: DazzleError): void {
    if (this.#closed) return;
    if (work.reason === "")
      this.#logger("warning", "a storage server does not delete: trying again", { member, segments: work.count, reason: error.message });
    work.reason = error.message;
    this.#clock.after(RETRY_MS, () => {
      work.sending = false;
      this.#send(member, work);
    });
  }

  async #sendAll(member: MemberId, work: ServerWork): Promise<void> {
    for (const [log, sequences] of work.waiting) {
      while (sequences.size > 0) {
        const batch = [...sequences].sort(([one], [other]) => one - other).slice(0, BATCH_MAX);
        await this.#delete(member, log, batch);
        // An overflow meanwhile dropped them all, and their count.
        if (work.waiting.get(log) !== sequences) break;
        for (const [sequence] of batch) sequences.delete(sequence);
        work.count -= batch.length;
        this.deleted += batch.length;
      }
      if (work.waiting.get(log) === sequences) work.waiting.delete(log);
    }
  }

  async #delete(member: MemberId, log: number, batch: ReadonlyArray<readonly [number, SlotMask]>): Promise<void> {
    const sequences = batch.map(([sequence]) => sequence);
    const trimmedTo = this.#events.trimmedTo(log);
    const highest = sequences.at(-1) as number;
    assert(highest <= trimmedTo, `segment ${log}/${highest} is deleted when it is trimmed`);
    for (const [sequence, slots] of batch)
      assert(!(await this.#events.isLive(log, sequence, slots)), `segment ${log}/${sequence} is deleted when nothing in it is needed`);
    const told = trimmedTo === WHOLE_LOG ? highest : trimmedTo;
    await this.#peers.call(member, "delete", { log, sequences, trimmedTo: told, groupVersion: -1 }, { deadlineMs: DEADLINE_MS });
  }

  close(): void {
    this.#closed = true;
  }
}
