import { ALL_SLOTS, hasSlot, type MapCache, NO_SLOTS, type Reply, type SlotMask } from "@dazzle/core";
import type { Journal } from "../journal.ts";
import type { RunSegments } from "../run-segments.ts";
import type { Shard } from "../shard/shard.ts";
import type { ShardHost } from "../shard/shard-host.ts";

/** A range is scanned where at least one in so many of its sequences is asked about. */
const DENSE = 4;

/** A segment of a log, as it is asked about. */
export interface Segment {
  readonly sequence: number;
  /** Whose shards may have live bytes of it; none: only sorted runs may lie in it. */
  readonly slots: SlotMask;
}

/** Whose shards may have live bytes of a log's segment where nothing else is known of it: managers' logs hold no file's bytes. */
export function slotsOfLog(map: MapCache["current"], log: number): SlotMask {
  return map.logs.find(({ id }) => id === log)?.kind === "manager" ? NO_SLOTS : ALL_SLOTS;
}

/** What the shards and the sorted runs of this manager need. */
export class LiveHere {
  readonly #host: ShardHost;
  readonly #segments: RunSegments;
  readonly #journal: Journal;
  readonly #map: MapCache;
  readonly #trimmedTo: (log: number) => number;

  constructor(options: {
    host: ShardHost;
    segments: RunSegments;
    journal: Journal;
    map: MapCache;
    /** Up to where a log is trimmed, as far as it is known here. */
    trimmedTo: (log: number) => number;
  }) {
    this.#host = options.host;
    this.#segments = options.segments;
    this.#journal = options.journal;
    this.#map = options.map;
    this.#trimmedTo = options.trimmedTo;
  }

  /** Up to where a log is trimmed, as far as it is known here. */
  trimmedTo(log: number): number {
    return this.#trimmedTo(log);
  }

  /** Which of a log's segments are needed by the slots here, and for which slots, under which terms, that is said. Of a trimmed segment
   * "not needed" stays true for ever, whoever has the slot then: what emptied it is stable when this resolves, and nothing ever adds to it.
   * Asked about no segment, it answers with one that is needed, of the whole log, if there is one. */
  async answer(log: number, asked: readonly Segment[]): Promise<Reply<"liveAmong">> {
    const shards = [...this.#host.shards];
    const live = new Set<number>();
    for (const shard of shards)
      if (asked.length > 0) await this.#findLive(shard, log, asked, live);
      else if (live.size === 0) for (const [sequence] of await shard.imap.liveOf(log, 0, Number.MAX_SAFE_INTEGER, 1)) live.add(sequence);
    // In one turn: a slot that left meanwhile took its runs along.
    const stayed = this.#stayed(shards);
    for (const { sequence } of asked) if (this.#segments.has(log, sequence)) live.add(sequence);
    if (asked.length === 0) for (const sequence of this.#segments.ofLog(log)) live.add(sequence);
    const { version } = this.#map;
    const trimmedTo = this.#trimmedTo(log);
    if (live.size === 0 || live.size < asked.length) await this.#journal.settleApplied();
    return {
      version,
      trimmedTo,
      live: [...live],
      slots: stayed.map(({ slot }) => slot),
      terms: stayed.map(({ term }) => term),
    };
  }

  async #findLive(shard: Shard, log: number, asked: readonly Segment[], live: Set<number>): Promise<void> {
    const wanted: number[] = [];
    for (const { sequence, slots } of asked) if (hasSlot(slots, shard.slot) && !live.has(sequence)) wanted.push(sequence);
    if (wanted.length === 0) return;
    const from = wanted.reduce((one, other) => Math.min(one, other));
    const to = wanted.reduce((one, other) => Math.max(one, other));
    if (to - from < DENSE * wanted.length) {
      // Of the range, what was not asked about may live as well.
      const among = new Set(wanted);
      for (const [sequence] of await shard.imap.liveOf(log, from, to, to - from + 1)) if (among.has(sequence)) live.add(sequence);
      return;
    }
    for (const sequence of wanted) if ((await shard.imap.live(log, sequence)) !== undefined) live.add(sequence);
  }

  /** Segments of a log behind `after`, at most `limit`, with the bytes that files here name of each: as it is now, stable or not. */
  async bytes(log: number, after: number, limit: number): Promise<Reply<"liveBytes">> {
    const shards = [...this.#host.shards];
    const bytes = new Map<number, number>();
    // Up to where every shard has told all it has.
    let told = Number.MAX_SAFE_INTEGER;
    for (const shard of shards) {
      const live = await shard.imap.liveOf(log, after + 1, Number.MAX_SAFE_INTEGER, limit);
      for (const [sequence, ofShard] of live) bytes.set(sequence, (bytes.get(sequence) ?? 0) + ofShard);
      if (live.length === limit) told = Math.min(told, live.at(-1)?.[0] ?? after);
    }
    const sequences = [...bytes.keys()].filter((sequence) => sequence <= told).sort((one, other) => one - other);
    const page = sequences.slice(0, limit);
    const stayed = this.#stayed(shards);
    return {
      version: this.#map.version,
      trimmedTo: this.#trimmedTo(log),
      more: told < Number.MAX_SAFE_INTEGER || page.length < sequences.length,
      sequences: page,
      bytes: page.map((sequence) => bytes.get(sequence) ?? 0),
      slots: stayed.map(({ slot }) => slot),
      terms: stayed.map(({ term }) => term),
    };
  }

  #stayed(shards: readonly Shard[]): Shard[] {
    return shards.filter(({ slot, term }) => this.#host.has(slot) && this.#host.shard(slot).term === term);
  }

  /** Which of a log's segments anything here needs, stable or not. */
  async needed(log: number, asked: readonly Segment[]): Promise<ReadonlySet<number>> {
    const live = new Set<number>();
    for (const shard of [...this.#host.shards]) await this.#findLive(shard, log, asked, live);
    for (const { sequence } of asked) if (this.#segments.has(log, sequence)) live.add(sequence);
    return live;
  }
}
