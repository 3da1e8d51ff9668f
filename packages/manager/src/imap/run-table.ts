import { assert, DazzleError, type LogAddress, readSafe, writeSafe } from "@dazzle/core";
import { filterMayHold, type KeyHash } from "./filter.ts";

/** A sorted run is a list of tables, ascending; a table is blocks, and a foot that finds them. Both are `run` records of
 * one manager's log, so that a foot stays small enough to be read whole however large the run. */
export interface RunTable {
  /** Names the table in this process: cached blocks go by it. */
  readonly serial: number;
  readonly foot: LogAddress;
  readonly entries: number;
  readonly firstKey: Buffer;
  readonly lastKey: Buffer;
  /** Where its bytes lie. */
  readonly segments: readonly SegmentBytes[];
}

export interface SegmentBytes {
  readonly log: number;
  readonly sequence: number;
  readonly bytes: number;
}

export interface Run {
  readonly tables: readonly RunTable[];
}

export function runBytes(run: Run): number {
  let bytes = 0;
  for (const table of run.tables) for (const segment of table.segments) bytes += segment.bytes;
  return bytes;
}

export function bytesOf(runs: readonly Run[]): number {
  return runs.reduce((sum, run) => sum + runBytes(run), 0);
}

let lastSerial = 0;

export function tableSerial(): number {
  return ++lastSerial;
}

/** A table's foot, little-endian:
 *   0 4 magic "DZRF"   4 2 format   6 2 zero   8 4 blocks   12 4 filter bytes
 *  16 8 log   24 4 group   28 4 group version
 *  32 a row of 20 for each block: 0 8 sequence   8 4 payload offset   12 4 length   16 4 where its first key is in the foot
 *     then the filter, then the first keys: 0 2 bytes   2 the key */
const FOOT = { magic: 0, format: 4, blocks: 8, filterBytes: 12, log: 16, group: 24, groupVersion: 28, end: 32 } as const;
const ROW = { sequence: 0, offset: 8, length: 12, key: 16, end: 20 } as const;
const FOOT_MAGIC = 0x46525a44;
const FOOT_FORMAT = 1;

export interface BlockRow {
  readonly address: LogAddress;
  readonly firstKey: Buffer;
}

export function footBytes(rows: readonly BlockRow[], filter: Buffer): number {
  let length = FOOT.end + ROW.end * rows.length + filter.length;
  for (const row of rows) length += 2 + row.firstKey.length;
  return length;
}

/** Writes the foot to `target`, which is `footBytes` long. */
export function encodeFoot(rows: readonly BlockRow[], filter: Buffer, target: Buffer): void {
  const head = rows[0]?.address;
  assert(head !== undefined, "a table has a block");
  target.writeUInt32LE(FOOT_MAGIC, FOOT.magic);
  target.writeUInt32LE(FOOT_FORMAT, FOOT.format);
  target.writeUInt32LE(rows.length, FOOT.blocks);
  target.writeUInt32LE(filter.length, FOOT.filterBytes);
  writeSafe(target, head.log, FOOT.log);
  target.writeUInt32LE(head.group, FOOT.group);
  target.writeUInt32LE(head.groupVersion, FOOT.groupVersion);
  const filterStart = FOOT.end + ROW.end * rows.length;
  filter.copy(target, filterStart);
  let keyAt = filterStart + filter.length;
  for (const [index, row] of rows.entries()) {
    const base = FOOT.end + ROW.end * index;
    writeSafe(target, row.address.sequence, base + ROW.sequence);
    target.writeUInt32LE(row.address.offset, base + ROW.offset);
    target.writeUInt32LE(row.address.length, base + ROW.length);
    target.writeUInt32LE(keyAt, base + ROW.key);
    target.writeUInt16LE(row.firstKey.length, keyAt);
    row.firstKey.copy(target, keyAt + 2);
    keyAt += 2 + row.firstKey.length;
  }
  assert(keyAt === target.length, "a foot is as long as it was counted");
}

/** Reads a foot where it lies. */
export class TableFoot {
  readonly #bytes: Buffer;
  readonly blocks: number;
  readonly #filter: Buffer;

  /** Throws `corrupt`. */
  constructor(bytes: Buffer) {
    if (bytes.length < FOOT.end || bytes.readUInt32LE(FOOT.magic) !== FOOT_MAGIC)
      throw new DazzleError("corrupt", "no foot of a run's table");
    const format = bytes.readUInt16LE(FOOT.format);
    if (format !== FOOT_FORMAT) throw new DazzleError("corrupt", `a run's table of format ${format}, not ${FOOT_FORMAT}`);
    this.#bytes = bytes;
    this.blocks = bytes.readUInt32LE(FOOT.blocks);
    const filterStart = FOOT.end + ROW.end * this.blocks;
    this.#filter = bytes.subarray(filterStart, filterStart + bytes.readUInt32LE(FOOT.filterBytes));
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  mayHold(hash: KeyHash): boolean {
    return filterMayHold(this.#filter, hash);
  }

  /** The block that holds `key` if any does: the last one whose first key is not above it; 0 where all are above. */
  blockOf(key: Buffer): number {
    let low = 0;
    let high = this.blocks;
    while (low < high) {
      const middle = (low + high) >> 1;
      const at = this.#bytes.readUInt32LE(FOOT.end + ROW.end * middle + ROW.key);
      const length = this.#bytes.readUInt16LE(at);
      if (this.#bytes.compare(key, 0, key.length, at + 2, at + 2 + length) <= 0) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  address(block: number): LogAddress {
    const base = FOOT.end + ROW.end * block;
    return {
      log: readSafe(this.#bytes, FOOT.log),
      sequence: readSafe(this.#bytes, base + ROW.sequence),
      offset: this.#bytes.readUInt32LE(base + ROW.offset),
      length: this.#bytes.readUInt32LE(base + ROW.length),
      group: this.#bytes.readUInt32LE(FOOT.group),
      groupVersion: this.#bytes.readUInt32LE(FOOT.groupVersion),
    };
  }
}
