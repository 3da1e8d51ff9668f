import { readSafe, type SlotMask, writeSafe } from "@dazzle/core";

/** Directory entry: 0 8 child   8 1 type (`mode >> 12`). */
export interface EntryValue {
  readonly child: number;
  readonly type: number;
}

export function packEntry(entry: EntryValue): Buffer {
  const bytes = Buffer.allocUnsafe(9);
  writeSafe(bytes, entry.child, 0);
  bytes.writeUInt8(entry.type, 8);
  return bytes;
}

export function unpackEntry(bytes: Buffer): EntryValue {
  return { child: readSafe(bytes, 0), type: bytes.readUInt8(8) };
}

/** Live bytes of a segment in one shard, and the slots whose sections were in the segment's transaction, a bit each:
 * nobody else can hold live bytes of it. 0 8 bytes   8 4 slots 0 … 31   12 4 slots 32 … 63 */
export interface LiveValue {
  readonly bytes: number;
  readonly slots: SlotMask;
}

export function packLive(live: LiveValue): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  writeSafe(bytes, live.bytes, 0);
  bytes.writeUInt32LE(live.slots.low, 8);
  bytes.writeUInt32LE(live.slots.high, 12);
  return bytes;
}

export function unpackLive(bytes: Buffer): LiveValue {
  return { bytes: readSafe(bytes, 0), slots: { low: bytes.readUInt32LE(8), high: bytes.readUInt32LE(12) } };
}

/** A bare number (an orphan's mount, a condemned file's next region): 0 8 number. */
export function packNumber(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  writeSafe(bytes, value, 0);
  return bytes;
}
