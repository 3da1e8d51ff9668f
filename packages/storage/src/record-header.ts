import { asBuffer, assert, BLOCK_BYTES, checksum, readSafe, roundUp, type StoreId, storeId, writeSafe } from "@dazzle/core";

export const RECORD_MAGIC = 0x43525a44; // "DZRC"
export const RECORD_FORMAT = 1;

/** Records start at multiples of this: the smallest unit that common disks write whole. So no two records share a sector,
 * and a torn write damages only itself. Whole 4 KiB pages would take nearly twice the space for a small fsync (4.3 KiB). */
export const RECORD_ALIGNMENT = 512;
assert(BLOCK_BYTES % RECORD_ALIGNMENT === 0, "a page holds whole sectors");

/** A place in a store's volumes. Places are ordered by volume, then by offset; later stores have later places. */
export interface Place {
  readonly volume: number;
  readonly offset: number;
}

export function comparePlaces(one: Place, other: Place): number {
  return one.volume - other.volume || one.offset - other.offset;
}

/** Record header, 64 bytes, little-endian; a fragment as it was sent (its header, then its data) follows. The header names
 * its own place, so that a scan never takes file data that holds a volume, of this store or another, for records: first
 * what tells a record from anything else, then where it lies, then how far the store was on disk when it was written
 * (a damaged record before that mark has rotted, one behind it may just be torn).
 *    0  4  magic "DZRC"                    4  4  checksum of bytes 8 … 64
 *    8  4  record bytes, with this header 12  2  format      14  2  zero
 *   16 16  store id
 *   32  4  volume                         36  4  volume of the durable mark
 *   40  8  offset in the volume           48  8  offset of the durable mark
 *   56  8  zero */
export const RECORD_HEADER = {
  magic: 0,
  checksum: 4,
  recordBytes: 8,
  format: 12,
  storeId: 16,
  volume: 32,
  durableVolume: 36,
  offset: 40,
  durableOffset: 48,
  end: 64,
} as const;
assert(RECORD_HEADER.end <= RECORD_ALIGNMENT, "a record's header lies in one sector");

export interface RecordHeader {
  readonly storeId: StoreId;
  readonly place: Place;
  readonly recordBytes: number;
  /** Everything before it was on disk when this was written. */
  readonly durable: Place;
}

/** Bytes a record takes of its volume. */
export function recordSpace(recordBytes: number): number {
  return roundUp(recordBytes, RECORD_ALIGNMENT);
}

export function encodeRecordHeader(header: RecordHeader): Buffer {
  const at = RECORD_HEADER;
  const bytes = Buffer.alloc(at.end);
  bytes.writeUInt32LE(RECORD_MAGIC, at.magic);
  bytes.writeUInt32LE(header.recordBytes, at.recordBytes);
  bytes.writeUInt16LE(RECORD_FORMAT, at.format);
  bytes.write(header.storeId, at.storeId, 16, "hex");
  bytes.writeUInt32LE(header.place.volume, at.volume);
  bytes.writeUInt32LE(header.durable.volume, at.durableVolume);
  writeSafe(bytes, header.place.offset, at.offset);
  writeSafe(bytes, header.durable.offset, at.durableOffset);
  bytes.writeUInt32LE(checksum(bytes.subarray(8)), at.checksum);
  return bytes;
}

/** The header at the start of `source`; undefined where there is none, or a damaged one. */
export function decodeRecordHeader(source: Uint8Array): RecordHeader | undefined {
  const at = RECORD_HEADER;
  if (source.byteLength < at.end) return undefined;
  const bytes = asBuffer(source).subarray(0, at.end);
  if (bytes.readUInt32LE(at.magic) !== RECORD_MAGIC) return undefined;
  if (bytes.readUInt32LE(at.checksum) !== checksum(bytes.subarray(8))) return undefined;
  if (bytes.readUInt16LE(at.format) !== RECORD_FORMAT) return undefined;
  return {
    storeId: storeId(bytes.toString("hex", at.storeId, at.storeId + 16)),
    place: { volume: bytes.readUInt32LE(at.volume), offset: readSafe(bytes, at.offset) },
    recordBytes: bytes.readUInt32LE(at.recordBytes),
    durable: { volume: bytes.readUInt32LE(at.durableVolume), offset: readSafe(bytes, at.durableOffset) },
  };
}
