import {
  assert,
  type ChainLink,
  type Clock,
  currentVersion,
  DazzleError,
  decodeSections,
  findGroup,
  findLog,
  joined,
  type LogAddress,
  type MapCache,
  RecordKind,
  type SegmentRecord,
  someAtOnce,
  unpackMoves,
} from "@dazzle/core";
import { Imap } from "../imap/imap.ts";
import type { RunCache } from "../imap/run-cache.ts";
import type { ReadableLogs } from "../log-access.ts";
import { Pacer } from "../pacer.ts";
import { type CheckpointRoot, decodeRoot, type SlotCheckpoint } from "./checkpoint-root.ts";
import { Shard, type ShardEvents } from "./shard.ts";
import { decodeWalBody } from "./wal-record.ts";

/** Summaries that are read at once. */
const READS_MAX = 8;

/** A slot that is to be opened. */
export interface ChainedSlot {
  readonly slot: number;
  /** The logs before, oldest first (rule 15). */
  readonly links: readonly ChainLink[];
}

/** A segment of a manager's log that may say what a checkpoint does not. */
interface WalSegment {
  readonly log: number;
  readonly sequence: number;
  readonly records: readonly SegmentRecord[];
  readonly whole: LogAddress;
}

interface WalLog {
  /** Of a log that is ended; of one that goes on, what was asked for. */
  readonly end: number;
  readonly segments: readonly WalSegment[];
  readonly roots: ReadonlyArray<{ readonly sequence: number; readonly root: CheckpointRoot }>;
}

/** Segments of one log that hold records of a slot which its checkpoint does not have. */
interface Part {
  readonly slot: number;
  readonly log: number;
  readonly term: number;
  readonly from: number;
  readonly to: number;
}

/** What the logs of a slot's chain hold of it. */
export interface FoundSlot {
  readonly slot: number;
  /** The newest stable one; undefined where there never was one. */
  readonly checkpoint: SlotCheckpoint | undefined;
  /** What was logged since, in order. */
  readonly parts: readonly Part[];
  /** The links that hold either. */
  readonly needed: readonly ChainLink[];
}

export interface ShardsOptions {
  /** Of a slot. */
  readonly term: (slot: number) => number;
  readonly cache: RunCache;
  readonly events: ShardEvents;
  readonly clock: Clock;
}

/** Reads what earlier owners logged of some slots. */
export class ChainReader {
  readonly #logs: ReadableLogs;
  readonly #map: MapCache;
  readonly #read = new Map<number, WalLog>();

  constructor(logs: ReadableLogs, map: MapCache) {
    this.#logs = logs;
    this.#map = map;
  }

  /** Ends those logs of the chains of which no end is known, and finds the newest checkpoint of each slot and what follows it. Rejects as
   * `ReadableLogs` does. */
  async find(slots: readonly ChainedSlot[]): Promise<FoundSlot[]> {
    const ends = new Map<number, number | null>();
    for (const { links } of slots)
      for (const { log, end } of links) {
        const before = ends.get(log);
        ends.set(log, before === null || end === null ? null : Math.max(before ?? 0, end));
      }
    for (const [log, end] of ends) this.#read.set(log, await this.#readLog(log, end));
    return slots.map(({ slot, links }) => this.#findSlot(slot, links));
  }

  #findSlot(slot: number, links: readonly ChainLink[]): FoundSlot {
    let checkpoint: SlotCheckpoint | undefined;
    let parts: Part[] = [];
    let needed: ChainLink[] = [];
    for (const link of links) {
      const { log, term } = link;
      const { end, roots, segments } = this.#read.get(log) as WalLog;
      const to = link.end ?? end;
      const isOfSlot = (row: SlotCheckpoint) => row.slot === slot && row.term === term;
      const newest = roots.findLast(({ sequence, root }) => sequence <= to && root.slots.some(isOfSlot));
      if (newest !== undefined) {
        checkpoint = newest.root.slots.find(isOfSlot);
        parts = [];
        needed = [];
      }
      const part = { slot, log, term, from: newest?.root.replayFrom ?? 1, to };
      const holdsRecords = segments.some(({ records, sequence }) => records.some((record) => isDue(record, sequence, part)));
      if (newest !== undefined || holdsRecords) needed.push(link);
      if (holdsRecords) parts.push(part);
    }
    return { slot, checkpoint, parts, needed };
  }

  async #readLog(log: number, wanted: number | null): Promise<WalLog> {
    const goesOn = wanted !== null && findLog(this.#map.current, log)?.state === "live";
    const { end, trimmedTo } = goesOn
      ? { end: wanted, trimmedTo: (await this.#logs.list(log, wanted)).trimmedTo }
      : await this.#logs.recover(log);
    const last = Math.min(end, wanted ?? end);
    const sequences = Array.from({ length: Math.max(0, last - trimmedTo) }, (_, index) => trimmedTo + 1 + index);
    const segments = await someAtOnce(READS_MAX, sequences, (sequence) => this.#readSummary(log, sequence));
    const roots: Array<{ sequence: number; root: CheckpointRoot }> = [];
    for (const segment of segments)
      for (const record of segment.records)
        if (record.kind === RecordKind.checkpoint) roots.push({ sequence: segment.sequence, root: await this.#readRoot(segment, record) });
    return { end, segments, roots };
  }

  async #readSummary(log: number, sequence: number): Promise<WalSegment> {
    const likely = findLog(this.#map.current, log)?.groups[0];
    if (likely === undefined) throw new DazzleError("corrupt", `log ${log} of a chain has no group in the map`);
    const { version } = currentVersion(findGroup(this.#map.current, likely));
    const { records, payloadBytes, group, groupVersion } = await this.#logs.summary(log, sequence, likely, version);
    return { log, sequence, records, whole: { log, sequence, offset: 0, length: payloadBytes, group, groupVersion } };
  }

  async #readRoot({ whole }: WalSegment, { offset, length }: SegmentRecord): Promise<CheckpointRoot> {
    return decodeRoot(joined(await this.#logs.read({ ...whole, offset, length })));
  }

  /** The shards, each under the term of the map, as their checkpoints and what was logged after them say. */
  async shards(found: readonly FoundSlot[], options: ShardsOptions): Promise<Map<number, Shard>> {
    const shards = new Map<number, Shard>();
    for (const { slot, checkpoint } of found) {
      const imap = new Imap({ cache: options.cache, runs: checkpoint?.runs ?? [] });
      const { events } = options;
      const shard = new Shard({ slot, term: options.term(slot), imap, numbersLimit: checkpoint?.numbersLimit ?? 0, events });
      for (const [log, sequence] of checkpoint?.applied ?? []) shard.applied.set(log, sequence);
      for (const mount of checkpoint?.holds ?? []) shard.holds.add(mount);
      await shard.loadMarkers();
      shards.set(slot, shard);
    }
    await this.#replay(found, shards, options.clock);
    return shards;
  }

  async #replay(found: readonly FoundSlot[], shards: ReadonlyMap<number, Shard>, clock: Clock): Promise<void> {
    const pacer = new Pacer(clock);
    const rounds = Math.max(0, ...found.map(({ parts }) => parts.length));
    // Mostly all chains are alike: each segment is read once.
    for (let round = 0; round < rounds; round++) {
      const bySlot = new Map<number, Part>();
      for (const { slot, parts } of found) {
        const part = parts[round];
        if (part !== undefined) bySlot.set(slot, part);
      }
      for (const log of new Set([...bySlot.values()].map(({ log: of }) => of)))
        for (const segment of (this.#read.get(log) as WalLog).segments) await this.#replaySegment(segment, bySlot, shards, pacer);
    }
  }

  async #replaySegment(
    { log, sequence, records, whole }: WalSegment,
    parts: ReadonlyMap<number, Part>,
    shards: ReadonlyMap<number, Shard>,
    pacer: Pacer,
  ): Promise<void> {
    const due = records.filter((record) => {
      const part = parts.get(record.owner);
      return part !== undefined && part.log === log && isDue(record, sequence, part);
    });
    if (due.length === 0) return;
    const payload = Buffer.from(joined(await this.#logs.read(whole)));
    for (const { owner, position, offset, length } of due) {
      const shard = shards.get(owner);
      assert(shard !== undefined, "what is replayed has a shard");
      await replayRecord(shard, position, payload.subarray(offset, offset + length), pacer);
    }
  }
}

/** Whether a record of the part's log is of its slot and was logged after the checkpoint. */
function isDue({ kind, owner, term }: SegmentRecord, sequence: number, { slot, term: ofPart, from, to }: Part): boolean {
  return kind === RecordKind.applied && owner === slot && term === ofPart && from <= sequence && sequence <= to;
}

async function replayRecord(shard: Shard, position: number, bytes: Buffer, pacer: Pacer): Promise<void> {
  const body = decodeWalBody(bytes);
  switch (body.kind) {
    case "numbers":
      shard.takeNumbersTo(body.limit);
      return;
    case "holds":
      shard.holds.add(position);
      return;
    case "amended":
      shard.amend(body.entries);
      return;
    case "section":
      for (const section of decodeSections(body.section)) await shard.apply({ ...body.origin, log: position }, section.bytes, pacer.pause);
      return;
    case "moves":
      await shard.relocate({ ...body.origin, log: position }, unpackMoves(body.moves), pacer.pause);
  }
}
