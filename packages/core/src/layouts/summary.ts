import { asBuffer, readSafe, writeSafe } from "../bytes.ts";
import { checksum } from "../checksum.ts";
import { DazzleError } from "../errors.ts";

export const SUMMARY_MAGIC = 0x4d535a44; // "DZSM"

/** What a record of a segment is. Numbers are never reused. */
export const RecordKind = { block: 1, transaction: 2, applied: 3, run: 4, checkpoint: 5 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

export interface SegmentRecord {
  readonly kind: RecordKind;
  /** `block`: the file; `applied`, `run`, `checkpoint`: the slot. */
  readonly owner: number;
  /** `block`: byte offset in the file, a multiple of 4 KiB. `applied`: the log applied from. Otherwise 0. */
  readonly position: number;
  /** `applied`, `run`, `checkpoint`: the shard's term. Otherwise 0. */
  readonly term: number;
  /** Where its bytes lie in the payload. */
  readonly offset: number;
  readonly length: number;
}

/** The summary ends a segment's payload: 16 bytes, then 32 for each record, in payload order, little-endian.
 *   0  4  magic "DZSM"   4  4  checksum of the rest   8  4  records   12  4  zero
 * a record:
 *   0  1  kind   1  3  zero   4  4  term   8  8  owner   16  8  position   24  4  offset   28  4  length */
export const SUMMARY = { magic: 0, checksum: 4, records: 8, end: 16 } as const;
export const SUMMARY_RECORD = { kind: 0, term: 4, owner: 8, position: 16, offset: 24, length: 28, end: 32 } as const;

export function summaryBytes(records: number): number {
  return SUMMARY.end + SUMMARY_RECORD.end * records;
}

/** Writes the summary at the start of `target`. */
export function encodeSummary(records: readonly SegmentRecord[], target: Uint8Array): void {
  const bytes = asBuffer(target).subarray(0, summaryBytes(records.length));
  bytes.fill(0);
  bytes.writeUInt32LE(SUMMARY_MAGIC, SUMMARY.magic);
  bytes.writeUInt32LE(records.length, SUMMARY.records);
  let base: number = SUMMARY.end;
  for (const record of records) {
    bytes.writeUInt8(record.kind, base + SUMMARY_RECORD.kind);
    bytes.writeUInt32LE(record.term, base + SUMMARY_RECORD.term);
    writeSafe(bytes, record.owner, base + SUMMARY_RECORD.owner);
    writeSafe(bytes, record.position, base + SUMMARY_RECORD.position);
    bytes.writeUInt32LE(record.offset, base + SUMMARY_RECORD.offset);
    bytes.writeUInt32LE(record.length, base + SUMMARY_RECORD.length);
    base += SUMMARY_RECORD.end;
  }
  bytes.writeUInt32LE(checksum(bytes.subarray(8)), SUMMARY.checksum);
}

/** Throws `corrupt` where `source` does not start with a whole summary. */
export function decodeSummary(source: Uint8Array): SegmentRecord[] {
  const bytes = asBuffer(source);
  if (bytes.length < SUMMARY.end || bytes.readUInt32LE(SUMMARY.magic) !== SUMMARY_MAGIC)
    throw new DazzleError("corrupt", "no segment summary");
  const count = bytes.readUInt32LE(SUMMARY.records);
  const length = summaryBytes(count);
  if (length > bytes.length) throw new DazzleError("corrupt", "the segment summary is cut off");
  if (bytes.readUInt32LE(SUMMARY.checksum) !== checksum(bytes.subarray(8, length)))
    throw new DazzleError("corrupt", "the segment summary's checksum is wrong");
  const records: SegmentRecord[] = [];
  for (let base: number = SUMMARY.end; base < length; base += SUMMARY_RECORD.end) {
    records.push({
      kind: bytes.readUInt8(base + SUMMARY_RECORD.kind) as RecordKind,
      term: bytes.readUInt32LE(base + SUMMARY_RECORD.term),
      owner: readSafe(bytes, base + SUMMARY_RECORD.owner),
      position: readSafe(bytes, base + SUMMARY_RECORD.position),
      offset: bytes.readUInt32LE(base + SUMMARY_RECORD.offset),
      length: bytes.readUInt32LE(base + SUMMARY_RECORD.length),
    });
  }
  return records;
}
