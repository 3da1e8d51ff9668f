import { asBuffer, type FragmentKey, readSafe, writeSafe } from "@dazzle/core";
import type { Entry } from "./entry.ts";
import type { Place } from "./record-header.ts";

/** What the first byte of an index key says. Keys are big-endian, so that they sort as their numbers do. Never reused.
 *   position  [1]                                          → volume 4, offset 8: the index has every record before it
 *   fragment  [2, log 8, sequence 8, group 4, version 4, index 1] → `FRAGMENT_ROW`
 *   log       [3, log 8]                                   → stable sequence 8, trimmed-to 8
 *   volume    [4, volume 4]                                → live bytes 8, live fragments 8
 *   sectors   [5, volume 4, page 8]                        → 1 byte: the dead sectors of a page that is dead in part, as bits
 *   hole      [6, volume 4, page 8]                        → pages 8: dead whole, to be given back to the disk
 *   unnamed   [7]                                          → log 8: of it, or of one before it, something rotted of which nobody can tell what it was
 * Values are little-endian. */
export const IndexKey = { position: 1, fragment: 2, log: 3, volume: 4, sectors: 5, hole: 6, unnamed: 7 } as const;

/** A fragment's row, 34 bytes: where it lies, and what a reader asks before it asks for data.
 *    0  4  volume         4  8  offset of its record
 *   12  4  header bytes  16  4  data bytes
 *   20  4  payload bytes 24  4  fragment bytes   28  4  summary offset
 *   32  1  data fragments   33  1  parity fragments */
export const FRAGMENT_ROW = {
  volume: 0,
  offset: 4,
  headerBytes: 12,
  dataBytes: 16,
  payloadBytes: 20,
  fragmentBytes: 24,
  summaryOffset: 28,
  dataFragments: 32,
  parityFragments: 33,
  end: 34,
} as const;

export type Change = readonly [key: Uint8Array, value: Uint8Array | undefined];

const FRAGMENT_KEY_BYTES = 26;

export const POSITION_KEY = Buffer.of(IndexKey.position);
export const UNNAMED_KEY = Buffer.of(IndexKey.unnamed);

function writeSafeBE(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32BE(Math.floor(value / 2 ** 32), offset);
  buffer.writeUInt32BE(value % 2 ** 32, offset + 4);
}

function readSafeBE(buffer: Buffer, offset: number): number {
  return buffer.readUInt32BE(offset) * 2 ** 32 + buffer.readUInt32BE(offset + 4);
}

export function fragmentKeyBytes(key: FragmentKey): Buffer {
  const bytes = Buffer.allocUnsafe(FRAGMENT_KEY_BYTES);
  bytes[0] = IndexKey.fragment;
  writeSafeBE(bytes, key.log, 1);
  writeSafeBE(bytes, key.sequence, 9);
  bytes.writeUInt32BE(key.group, 17);
  bytes.writeUInt32BE(key.groupVersion, 21);
  bytes[25] = key.index;
  return bytes;
}

/** Sorts before every fragment of the log from `sequence` on. */
export function segmentKeyBytes(log: number, sequence: number): Buffer {
  const bytes = Buffer.allocUnsafe(17);
  bytes[0] = IndexKey.fragment;
  writeSafeBE(bytes, log, 1);
  writeSafeBE(bytes, sequence, 9);
  return bytes;
}

/** Sorts behind every key of its kind. */
export function behindKind(kind: number): Buffer {
  return Buffer.of(kind + 1);
}

export function encodeFragmentRow(entry: Entry): Buffer {
  const at = FRAGMENT_ROW;
  const bytes = Buffer.allocUnsafe(at.end);
  bytes.writeUInt32LE(entry.volume, at.volume);
  writeSafe(bytes, entry.offset, at.offset);
  bytes.writeUInt32LE(entry.headerBytes, at.headerBytes);
  bytes.writeUInt32LE(entry.dataBytes, at.dataBytes);
  bytes.writeUInt32LE(entry.payloadBytes, at.payloadBytes);
  bytes.writeUInt32LE(entry.fragmentBytes, at.fragmentBytes);
  bytes.writeUInt32LE(entry.summaryOffset, at.summaryOffset);
  bytes.writeUInt8(entry.dataFragments, at.dataFragments);
  bytes.writeUInt8(entry.parityFragments, at.parityFragments);
  return bytes;
}

export function decodeFragmentRow(keyBytes: Uint8Array, valueBytes: Uint8Array): Entry {
  const at = FRAGMENT_ROW;
  const key = asBuffer(keyBytes);
  const value = asBuffer(valueBytes);
  return {
    log: readSafeBE(key, 1),
    sequence: readSafeBE(key, 9),
    group: key.readUInt32BE(17),
    groupVersion: key.readUInt32BE(21),
    index: key.readUInt8(25),
    volume: value.readUInt32LE(at.volume),
    offset: readSafe(value, at.offset),
    headerBytes: value.readUInt32LE(at.headerBytes),
    dataBytes: value.readUInt32LE(at.dataBytes),
    payloadBytes: value.readUInt32LE(at.payloadBytes),
    fragmentBytes: value.readUInt32LE(at.fragmentBytes),
    summaryOffset: value.readUInt32LE(at.summaryOffset),
    dataFragments: value.readUInt8(at.dataFragments),
    parityFragments: value.readUInt8(at.parityFragments),
  };
}

export function encodePosition(place: Place): Buffer {
  const bytes = Buffer.allocUnsafe(12);
  bytes.writeUInt32LE(place.volume, 0);
  writeSafe(bytes, place.offset, 4);
  return bytes;
}

export function decodePosition(value: Uint8Array): Place {
  const bytes = asBuffer(value);
  return { volume: bytes.readUInt32LE(0), offset: readSafe(bytes, 4) };
}

export function logKeyBytes(log: number): Buffer {
  const bytes = Buffer.allocUnsafe(9);
  bytes[0] = IndexKey.log;
  writeSafeBE(bytes, log, 1);
  return bytes;
}

/** The log in the key of a fragment or of a log's row. */
export function logOfKey(key: Uint8Array): number {
  return readSafeBE(asBuffer(key), 1);
}

export function volumeKeyBytes(volume: number): Buffer {
  const bytes = Buffer.allocUnsafe(5);
  bytes[0] = IndexKey.volume;
  bytes.writeUInt32BE(volume, 1);
  return bytes;
}

/** The volume in the key of a volume, of sectors or of a hole. */
export function volumeOfKey(key: Uint8Array): number {
  return asBuffer(key).readUInt32BE(1);
}

/** Of sectors or of a hole; page -1 sorts before all of the volume's. */
export function pageKeyBytes(kind: number, volume: number, page: number): Buffer {
  const bytes = Buffer.allocUnsafe(page < 0 ? 5 : 13);
  bytes[0] = kind;
  bytes.writeUInt32BE(volume, 1);
  if (page >= 0) writeSafeBE(bytes, page, 5);
  return bytes;
}

export function pageOfKey(key: Uint8Array): number {
  return readSafeBE(asBuffer(key), 5);
}

/** Two safe integers: of a log's row, of a volume's. */
export function encodePair(first: number, second: number): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  writeSafe(bytes, first, 0);
  writeSafe(bytes, second, 8);
  return bytes;
}

export function decodePair(value: Uint8Array): readonly [number, number] {
  const bytes = asBuffer(value);
  return [readSafe(bytes, 0), readSafe(bytes, 8)];
}

export function encodeCount(count: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  writeSafe(bytes, count, 0);
  return bytes;
}

export function decodeCount(value: Uint8Array): number {
  return readSafe(asBuffer(value), 0);
}
