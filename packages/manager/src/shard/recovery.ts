import {
  assert,
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
  SLOTS,
} from "@dazzle/core";
import type { LogAccess } from "../log-access.ts";
import { Pacer } from "../pacer.ts";
import { type CheckpointRoot, decodeRoot } from "./checkpoint-root.ts";
import type { Shard } from "./shard.ts";
import { decodeWalBody } from "./wal-record.ts";

/** A segment of a manager's log that may say what a checkpoint does not. */
interface WalSegment {
  readonly log: number;
  readonly sequence: number;
  readonly records: readonly SegmentRecord[];
  readonly whole: LogAddress;
}

/** What the logs of earlier managers hold (PROTOCOL rule 15). */
export interface FoundCheckpoint {
  /** The newest stable one; undefined where there never was one. */
  readonly root: CheckpointRoot | undefined;
  /** What was logged since, in order. */
  readonly segments: readonly WalSegment[];
}

/** Ends the logs of `chain`, oldest first, and finds the newest checkpoint in them and what follows it. Rejects as `LogAccess` does. */
export async function findCheckpoint(logs: LogAccess, map: MapCache, chain: readonly number[]): Promise<FoundCheckpoint> {
  let root: CheckpointRoot | undefined;
  let segments: WalSegment[] = [];
  for (const log of chain) {
    const { end, trimmedTo } = await logs.recover(log);
    const held: WalSegment[] = [];
    for (let sequence = trimmedTo + 1; sequence <= end; sequence++) held.push(await readSummary(logs, map, log, sequence));
    const newest = held.findLast(({ records }) => records.some(({ kind }) => kind === RecordKind.checkpoint));
    if (newest === undefined) {
      segments.push(...held);
      continue;
    }
    root = await readRoot(logs, newest);
    const { replayFrom } = root;
    segments = held.filter(({ sequence }) => sequence >= replayFrom);
  }
  return { root, segments };
}

async function readSummary(logs: LogAccess, map: MapCache, log: number, sequence: number): Promise<WalSegment> {
  const group = findLog(map.current, log)?.groups[0];
  if (group === undefined) throw new DazzleError("corrupt", `log ${log} of a chain has no group in the map`);
  const { version } = currentVersion(findGroup(map.current, group));
  const { records, payloadBytes, groupVersion } = await logs.summary(log, sequence, group, version);
  return { log, sequence, records, whole: { log, sequence, offset: 0, length: payloadBytes, group, groupVersion } };
}

async function readRoot(logs: LogAccess, segment: WalSegment): Promise<CheckpointRoot> {
  const record = segment.records.findLast(({ kind }) => kind === RecordKind.checkpoint);
  assert(record !== undefined, "the segment holds a checkpoint");
  return decodeRoot(joined(await logs.read({ ...segment.whole, offset: record.offset, length: record.length })));
}

/** Applies what was logged after the checkpoint that the shards were made from. */
export async function replay(logs: LogAccess, found: FoundCheckpoint, shards: ReadonlyMap<number, Shard>, clock: Clock): Promise<void> {
  const pacer = new Pacer(clock);
  for (const segment of found.segments) {
    const records = segment.records.filter(({ kind, owner }) => kind === RecordKind.applied && owner < SLOTS);
    if (records.length === 0) continue;
    const payload = Buffer.from(joined(await logs.read(segment.whole)));
    for (const record of records) {
      const shard = shards.get(record.owner);
      const body = payload.subarray(record.offset, record.offset + record.length);
      if (shard !== undefined) await replayRecord(shard, record.position, body, pacer);
    }
  }
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
    case "section":
      for (const section of decodeSections(body.section)) await shard.apply({ ...body.origin, log: position }, section.bytes, pacer.pause);
  }
}
