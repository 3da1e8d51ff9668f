import { DazzleError, type LogAddress, readSafe, writeSafe } from "@dazzle/core";
import { type Run, type RunTable, type SegmentBytes, tableSerial } from "../imap/run-table.ts";

/** Everything of a slot that is not in its runs or in later records of the log. */
export interface SlotCheckpoint {
  readonly slot: number;
  readonly term: number;
  readonly numbersLimit: number;
  /** (log, sequence applied). */
  readonly applied: ReadonlyArray<readonly [number, number]>;
  readonly holds: readonly number[];
  /** The newest first. */
  readonly runs: readonly Run[];
}

export interface CheckpointRoot {
  /** The first segment of the root's own log whose records are not all in the runs. */
  readonly replayFrom: number;
  readonly slots: readonly SlotCheckpoint[];
}

/** The body of a `checkpoint` record, little-endian. What tells whether it can be read comes first; the counts of a slot stand
 * before its lists, so that it is read in one pass.
 *   0 4 magic "DZCK"   4 2 format   6 2 slots   8 8 first segment to replay   16 the slots, each:
 *     0 2 slot   2 2 runs   4 4 term   8 8 numbers limit   16 4 logs applied   20 4 mounts that hold
 *    24 16 for each log: 0 8 log   8 8 sequence   then 8 for each mount, then the runs, the newest first, each: 0 4 tables, and each table:
 *         0 8 log   8 8 foot's sequence   16 4 foot's offset   20 4 foot's length   24 4 group   28 4 group version
 *        32 8 entries   40 2 first key's bytes   42 2 last key's bytes   44 4 segments   48 the keys, then 12 for each segment: 0 8 sequence  8 4 bytes */
const ROOT = { magic: 0, format: 4, slots: 6, replayFrom: 8, end: 16 } as const;
const SLOT = { slot: 0, runs: 2, term: 4, numbersLimit: 8, applied: 16, holds: 20, end: 24 } as const;
const TABLE = {
  log: 0,
  sequence: 8,
  offset: 16,
  length: 20,
  group: 24,
  groupVersion: 28,
  entries: 32,
  firstKey: 40,
  lastKey: 42,
  segments: 44,
  end: 48,
} as const;
const SEGMENT_ROW = 12;
const ROOT_MAGIC = 0x4b435a44;
const ROOT_FORMAT = 1;

function tableBytes(table: RunTable): number {
  return TABLE.end + table.firstKey.length + table.lastKey.length + SEGMENT_ROW * table.segments.length;
}

function slotBytes(slot: SlotCheckpoint): number {
  let length = SLOT.end + 16 * slot.applied.length + 8 * slot.holds.length;
  for (const run of slot.runs) for (const table of run.tables) length += tableBytes(table);
  return length + 4 * slot.runs.length;
}

export function encodeRoot(root: CheckpointRoot): Buffer {
  let length: number = ROOT.end;
  for (const slot of root.slots) length += slotBytes(slot);
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(ROOT_MAGIC, ROOT.magic);
  bytes.writeUInt16LE(ROOT_FORMAT, ROOT.format);
  bytes.writeUInt16LE(root.slots.length, ROOT.slots);
  writeSafe(bytes, root.replayFrom, ROOT.replayFrom);
  let at: number = ROOT.end;
  for (const slot of root.slots) at = encodeSlot(slot, bytes, at);
  return bytes;
}

function encodeSlot(slot: SlotCheckpoint, bytes: Buffer, base: number): number {
  bytes.writeUInt16LE(slot.slot, base + SLOT.slot);
  bytes.writeUInt16LE(slot.runs.length, base + SLOT.runs);
  bytes.writeUInt32LE(slot.term, base + SLOT.term);
  writeSafe(bytes, slot.numbersLimit, base + SLOT.numbersLimit);
  bytes.writeUInt32LE(slot.applied.length, base + SLOT.applied);
  bytes.writeUInt32LE(slot.holds.length, base + SLOT.holds);
  let at = base + SLOT.end;
  for (const [log, sequence] of slot.applied) {
    writeSafe(bytes, log, at);
    writeSafe(bytes, sequence, at + 8);
    at += 16;
  }
  for (const mount of slot.holds) {
    writeSafe(bytes, mount, at);
    at += 8;
  }
  for (const run of slot.runs) {
    at = bytes.writeUInt32LE(run.tables.length, at);
    for (const table of run.tables) at = encodeTable(table, bytes, at);
  }
  return at;
}

function encodeTable(table: RunTable, bytes: Buffer, base: number): number {
  writeSafe(bytes, table.foot.log, base + TABLE.log);
  writeSafe(bytes, table.foot.sequence, base + TABLE.sequence);
  bytes.writeUInt32LE(table.foot.offset, base + TABLE.offset);
  bytes.writeUInt32LE(table.foot.length, base + TABLE.length);
  bytes.writeUInt32LE(table.foot.group, base + TABLE.group);
  bytes.writeUInt32LE(table.foot.groupVersion, base + TABLE.groupVersion);
  writeSafe(bytes, table.entries, base + TABLE.entries);
  bytes.writeUInt16LE(table.firstKey.length, base + TABLE.firstKey);
  bytes.writeUInt16LE(table.lastKey.length, base + TABLE.lastKey);
  bytes.writeUInt32LE(table.segments.length, base + TABLE.segments);
  let at = base + TABLE.end;
  at += table.firstKey.copy(bytes, at);
  at += table.lastKey.copy(bytes, at);
  for (const segment of table.segments) {
    writeSafe(bytes, segment.sequence, at);
    bytes.writeUInt32LE(segment.bytes, at + 8);
    at += SEGMENT_ROW;
  }
  return at;
}

/** Reads in one pass; every read is checked against the end. */
class RootReader {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  take(length: number): number {
    const at = this.at;
    if (at + length > this.bytes.length) throw new DazzleError("corrupt", "a checkpoint's root is cut off");
    this.at += length;
    return at;
  }

  times<Value>(count: number, read: () => Value): Value[] {
    return Array.from({ length: count }, read);
  }

  safe(): number {
    return readSafe(this.bytes, this.take(8));
  }

  key(length: number): Buffer {
    const at = this.take(length);
    return Buffer.from(this.bytes.subarray(at, at + length));
  }
}

/** Throws `corrupt`. */
export function decodeRoot(bytes: Buffer): CheckpointRoot {
  const reader = new RootReader(bytes);
  reader.take(ROOT.end);
  if (bytes.readUInt32LE(ROOT.magic) !== ROOT_MAGIC) throw new DazzleError("corrupt", "no checkpoint's root");
  const format = bytes.readUInt16LE(ROOT.format);
  if (format !== ROOT_FORMAT) throw new DazzleError("corrupt", `a checkpoint's root of format ${format}, not ${ROOT_FORMAT}`);
  const slots = reader.times(bytes.readUInt16LE(ROOT.slots), () => decodeSlot(reader));
  if (reader.at !== bytes.length) throw new DazzleError("corrupt", "a checkpoint's root is longer than it says");
  return { replayFrom: readSafe(bytes, ROOT.replayFrom), slots };
}

function decodeSlot(reader: RootReader): SlotCheckpoint {
  const { bytes } = reader;
  const base = reader.take(SLOT.end);
  const applied = reader.times(bytes.readUInt32LE(base + SLOT.applied), () => [reader.safe(), reader.safe()] as const);
  const holds = reader.times(bytes.readUInt32LE(base + SLOT.holds), () => reader.safe());
  const runs = reader.times(bytes.readUInt16LE(base + SLOT.runs), () => {
    const tables = bytes.readUInt32LE(reader.take(4));
    return { tables: reader.times(tables, () => decodeTable(reader)) };
  });
  return {
    slot: bytes.readUInt16LE(base + SLOT.slot),
    term: bytes.readUInt32LE(base + SLOT.term),
    numbersLimit: readSafe(bytes, base + SLOT.numbersLimit),
    applied,
    holds,
    runs,
  };
}

function decodeTable(reader: RootReader): RunTable {
  const { bytes } = reader;
  const base = reader.take(TABLE.end);
  const log = readSafe(bytes, base + TABLE.log);
  const foot: LogAddress = {
    log,
    sequence: readSafe(bytes, base + TABLE.sequence),
    offset: bytes.readUInt32LE(base + TABLE.offset),
    length: bytes.readUInt32LE(base + TABLE.length),
    group: bytes.readUInt32LE(base + TABLE.group),
    groupVersion: bytes.readUInt32LE(base + TABLE.groupVersion),
  };
  const firstKey = reader.key(bytes.readUInt16LE(base + TABLE.firstKey));
  const lastKey = reader.key(bytes.readUInt16LE(base + TABLE.lastKey));
  const segments = reader.times(bytes.readUInt32LE(base + TABLE.segments), (): SegmentBytes => {
    const at = reader.take(SEGMENT_ROW);
    return { log, sequence: readSafe(bytes, at), bytes: bytes.readUInt32LE(at + 8) };
  });
  return { serial: tableSerial(), foot, entries: readSafe(bytes, base + TABLE.entries), firstKey, lastKey, segments };
}
