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
  type SlotMask,
} from "@dazzle/core";
import type { Segment } from "./live-here.ts";
import { ASKED_MAX, type Verdict } from "./live-in-cluster.ts";
import { serversOf } from "./servers.ts";

/** Sequences in one request to a server, and what may wait for one. */
const BATCH_MAX = 1_000;
const WAITING_MAX = 100_000;
/** What was offered meanwhile is judged together. On a full disk what waits here is missed by who cleans. */
const ROUND_MS = 500;
const RETRY_MS = 1_000;
const DEADLINE_MS = 10_000;
/** Trimmed-to of a log that is closed. */
export const WHOLE_LOG = Number.MAX_SAFE_INTEGER;

export interface DeleterEvents {
  /** Whether the cluster needs these segments of a log. Who is `silent` is not asked; who does not answer becomes it. */
  judge(log: number, segments: readonly Segment[], silent: Set<MemberId>): Promise<ReadonlyMap<number, Verdict>>;
  /** Which of the segments anything here needs. */
  neededHere(log: number, segments: readonly Segment[]): Promise<ReadonlySet<number>>;
  /** Up to where the log is trimmed, as far as it is known here. */
  trimmedTo(log: number): number;
  /** Too much waited for this server: what it holds must be looked through again. */
  overflowed(member: MemberId): void;
}

/** By log, by sequence. */
type Segments = Map<number, Map<number, SlotMask>>;

interface ServerWork {
  readonly waiting: Segments;
  count: number;
  sending: boolean;
  reason: string;
}

/** Deletes segments of which nobody needs anything any more: trimmed, and without live bytes in the whole cluster, both stably so (rule
 * 24). A server that is away gets its requests when it is back. */
export class SegmentDeleter {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #events: DeleterEvents;
  /** Offered and not judged yet. */
  #candidates: Segments = new Map();
  #count = 0;
  #judging = false;
  readonly #servers = new Map<MemberId, ServerWork>();
  #closed = false;
  deleted = 0;

  constructor(options: { map: MapCache; peers: Peers; clock: Clock; logger: Logger; events: DeleterEvents }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#events = options.events;
  }

  get waiting(): number {
    let waiting = this.#count;
    for (const work of this.#servers.values()) waiting += work.count;
    return waiting;
  }

  /** A segment may not be needed any more. */
  offer(log: number, sequence: number, slots: SlotMask): void {
    if (this.#count >= WAITING_MAX) {
      for (const member of this.#serversOf(log)) this.#events.overflowed(member);
      return;
    }
    const sequences = this.#candidates.get(log);
    if (sequences === undefined) this.#candidates.set(log, new Map([[sequence, slots]]));
    else if (sequences.has(sequence)) {
      // What one slot is told may be less than what another knows.
      const before = sequences.get(sequence) as SlotMask;
      sequences.set(sequence, { low: (before.low | slots.low) >>> 0, high: (before.high | slots.high) >>> 0 });
      return;
    } else sequences.set(sequence, slots);
    this.#count++;
    this.#judgeSoon();
  }

  #judgeSoon(): void {
    if (this.#judging || this.#closed) return;
    this.#judging = true;
    this.#clock.after(ROUND_MS, () => {
      void this.#judgeAll().finally(() => {
        this.#judging = false;
        if (this.#count > 0) this.#judgeSoon();
      });
    });
  }

  /** What can be told of one log goes, whatever keeps another one waiting. */
  async #judgeAll(): Promise<void> {
    const offered = this.#candidates;
    this.#candidates = new Map();
    this.#count = 0;
    // Asked again in the next round.
    const silent = new Set<MemberId>();
    const failed: string[] = [];
    for (const [log, sequences] of offered) {
      try {
        while (sequences.size > 0 && !this.#closed) await this.#judgeSome(log, sequences, silent);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        failed.push(error.message);
        for (const [sequence, slots] of sequences) this.offer(log, sequence, slots);
      }
      for (const [member, work] of this.#servers) this.#send(member, work);
    }
    const [reason] = failed;
    if (reason !== undefined && !this.#closed) this.#logger("warning", "segments are deleted later", { logs: failed.length, reason });
  }

  async #judgeSome(log: number, sequences: Map<number, SlotMask>, silent: Set<MemberId>): Promise<void> {
    const batch: Segment[] = [];
    for (const [sequence, slots] of sequences) {
      batch.push({ sequence, slots });
      if (batch.length === ASKED_MAX) break;
    }
    const verdicts = await this.#events.judge(log, batch, silent);
    for (const { sequence, slots } of batch) {
      sequences.delete(sequence);
      const verdict = verdicts.get(sequence);
      if (verdict === "dead") for (const member of this.#serversOf(log)) this.enqueueAt(member, log, sequence, slots);
      if (verdict === "open") this.offer(log, sequence, slots);
    }
  }

  /** Every server that may hold something of a log. */
  #serversOf(log: number): Set<MemberId> {
    const map = this.#map.current;
    const row = findLog(map, log);
    return serversOf(map, row === undefined ? map.groups : map.groups.filter(({ id }) => row.groups.includes(id)));
  }

  /** A segment that was judged dead goes from one server. */
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
        const ascending = [...sequences].sort(([one], [other]) => one - other);
        for (let at = 0; at < ascending.length; at += BATCH_MAX) {
          const batch = ascending.slice(at, at + BATCH_MAX);
          await this.#delete(member, log, batch);
          // An overflow meanwhile dropped them all, and their count.
          if (work.waiting.get(log) !== sequences) break;
          for (const [sequence] of batch) sequences.delete(sequence);
          work.count -= batch.length;
          this.deleted += batch.length;
        }
        if (work.waiting.get(log) !== sequences) break;
      }
      if (work.waiting.get(log) === sequences) work.waiting.delete(log);
    }
  }

  async #delete(member: MemberId, log: number, batch: ReadonlyArray<readonly [number, SlotMask]>): Promise<void> {
    const sequences = batch.map(([sequence]) => sequence);
    // Each of them was judged trimmed; by how much more, another manager may know.
    const highest = sequences.at(-1) as number;
    const known = this.#events.trimmedTo(log);
    const trimmedTo = known === WHOLE_LOG ? highest : Math.max(known, highest);
    const needed = await this.#events.neededHere(
      log,
      batch.map(([sequence, slots]) => ({ sequence, slots })),
    );
    assert(needed.size === 0, `segments of log ${log} are deleted when nothing in them is needed: not ${[...needed].join(", ")}`);
    await this.#peers.call(member, "delete", { log, sequences, trimmedTo, group: -1, groupVersion: -1 }, { deadlineMs: DEADLINE_MS });
  }

  close(): void {
    this.#closed = true;
  }
}
