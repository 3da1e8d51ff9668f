import {
  assert,
  type ChainLink,
  type Clock,
  decodeSections,
  findLog,
  joined,
  type LogAddress,
  type MapCache,
  RecordKind,
  readAhead,
  type SegmentRecord,
  someAtOnce,
  unpackMoves,
} from "@dazzle/core";
import type { RecoveredLog, SegmentPlace } from "@dazzle/log";
import { Imap } from "../imap/imap.ts";
import type { RunCache } from "../imap/run-cache.ts";
import { likelyPlace, type ReadableLogs } from "../log-access.ts";
import { Pacer } from "../pacer.ts";
import { type CheckpointRoot, decodeRoot, type SlotCheckpoint } from "./checkpoint-root.ts";
import { Shard, type ShardEvents } from "./shard.ts";
import type { StepTimes } from "./step-times.ts";
import { decodeWalBody } from "./wal-record.ts";

/** Summaries, and runs' feet, that are read at once. */
const READS_MAX = 32;
/** Segments that are read ahead of the one of which records are applied. */
const AHEAD_MAX = 8;

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

/** What was read, for people. */
export interface ReadFromLogs {
  /** Of which the summaries were read. */
  readonly segments: number;
  /** Of which records were applied again, their bytes, and the records. */
  readonly replayed: number;
  readonly bytes: number;
  readonly records: number;
}

/** Reads what earlier owners logged of some slots. */
export class ChainReader {
  readonly #logs: ReadableLogs;
  readonly #map: MapCache;
  readonly #times: StepTimes;
  readonly #read = new Map<number, WalLog>();
  #replayed = 0;
  #bytes = 0;
  #records = 0;

  /** `times` is told of the steps "ends", "roots", "runs" and "replay". */
  constructor(logs: ReadableLogs, map: MapCache, times: StepTimes) {
    this.#logs = logs;
    this.#map = map;
    this.#times = times;
  }

  get read(): ReadFromLogs {
    const segments = [...this.#read.values()].reduce((sum, log) => sum + log.segments.length, 0);
    return { segments, replayed: this.#replayed, bytes: this.#bytes, records: this.#records };
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
    const logs = await Promise.all([...ends].map(async ([log, end]) => ({ log, wanted: end, ...(await this.#endOf(log, end)) })));
    this.#times.over("ends");
    await Promise.all(logs.map(async (found) => this.#read.set(found.log, await this.#readLog(found))));
    this.#times.over("roots");
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

  /** Of a log that goes on: what is asked for. */
  async #endOf(log: number, wanted: number | null): Promise<RecoveredLog> {
    const goesOn = wanted !== null && findLog(this.#map.current, log)?.state === "live";
    if (!goesOn) return this.#logs.recover(log);
    return { end: wanted, trimmedTo: (await this.#logs.list(log, wanted)).trimmedTo, places: new Map() };
  }

  async #readLog({ log, wanted, end, trimmedTo, places }: RecoveredLog & { log: number; wanted: number | null }): Promise<WalLog> {
    const last = Math.min(end, wanted ?? end);
    const sequences = Array.from({ length: Math.max(0, last - trimmedTo) }, (_, index) => trimmedTo + 1 + index);
    const segments = await someAtOnce(READS_MAX, sequences, (sequence) => this.#readSummary(log, sequence, places.get(sequence)));
    const roots: Array<{ sequence: number; root: CheckpointRoot }> = [];
    for (const segment of segments)
      for (const record of segment.records)
        if (record.kind === RecordKind.checkpoint) roots.push({ sequence: segment.sequence, root: await this.#readRoot(segment, record) });
    return { end, segments, roots };
  }

  async #readSummary(log: number, sequence: number, place: SegmentPlace | undefined): Promise<WalSegment> {
    const likely = place ?? likelyPlace(this.#map.current, log);
    const { records, payloadBytes, group, groupVersion } = await this.#logs.summary(log, sequence, likely.group, likely.groupVersion);
    return { log, sequence, records, whole: { log, sequence, offset: 0, length: payloadBytes, group, groupVersion } };
  }

  async #readRoot({ whole }: WalSegment, { offset, length }: SegmentRecord): Promise<CheckpointRoot> {
    return decodeRoot(joined(await this.#logs.read({ ...whole, offset, length })));
  }

  /** The shards, each under the term of the map, as their checkpoints and what was logged after them say. */
  async shards(found: readonly FoundSlot[], options: ShardsOptions): Promise<Map<number, Shard>> {
    const opened = await someAtOnce(READS_MAX, found, ({ slot, checkpoint }) => openShard(slot, checkpoint, options));
    const shards = new Map(opened.map((shard) => [shard.slot, shard]));
    this.#times.over("runs");
    await this.#replay(found, shards, options.clock);
    this.#times.over("replay");
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
      for (const log of new Set([...bySlot.values()].map(({ log: of }) => of))) await this.#replayLog(log, bySlot, shards, pacer);
    }
  }

  async #replayLog(log: number, parts: ReadonlyMap<number, Part>, shards: ReadonlyMap<number, Shard>, pacer: Pacer): Promise<void> {
    const due = (this.#read.get(log) as WalLog).segments.flatMap(({ sequence, records, whole }) => {
      const ofParts = records.filter((record) => {
        const part = parts.get(record.owner);
        return part !== undefined && part.log === log && isDue(record, sequence, part);
      });
      return ofParts.length === 0 ? [] : [{ records: ofParts, whole }];
    });
    const read = async ({ records, whole }: (typeof due)[number]) => ({
      records,
      payload: Buffer.from(joined(await this.#logs.read(whole))),
    });
    for await (const { records, payload } of readAhead(AHEAD_MAX, due, read)) {
      this.#replayed++;
      this.#bytes += payload.length;
      this.#records += records.length;
      for (const { owner, position, offset, length } of records) {
        const shard = shards.get(owner);
        assert(shard !== undefined, "what is replayed has a shard");
        await replayRecord(shard, position, payload.subarray(offset, offset + length), pacer);
      }
    }
  }
}

async function openShard(slot: number, checkpoint: SlotCheckpoint | undefined, { term, cache, events }: ShardsOptions): Promise<Shard> {
  const imap = new Imap({ cache, runs: checkpoint?.runs ?? [] });
  const shard = new Shard({ slot, term: term(slot), imap, numbersLimit: checkpoint?.numbersLimit ?? 0, events });
  for (const [log, sequence] of checkpoint?.applied ?? []) shard.applied.set(log, sequence);
  for (const mount of checkpoint?.holds ?? []) shard.holds.add(mount);
  await shard.loadMarkers();
  return shard;
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
