import {
  assert,
  BLOCK_BYTES,
  encodeSummary,
  type GroupId,
  type Limits,
  roundUp,
  type SegmentRecord,
  SUMMARY_RECORD,
  summaryBytes,
} from "@dazzle/core";
import type { SegmentBuffer } from "./segment-pool.ts";

/** A place for bytes in the open segment. */
export interface PlacedBytes {
  /** In the payload. */
  readonly offset: number;
  /** The view to fill, before the segment is sealed. */
  readonly bytes: Buffer;
}

/** A segment that is being filled: places, one after the other, and the room its summary will need. */
export class OpenSegment {
  readonly sequence: number;
  readonly group: GroupId;
  readonly capacityBytes: number;
  readonly #reserveBytes: number;
  #buffer: SegmentBuffer | undefined;
  #used = 0;
  #places = 0;

  constructor(sequence: number, group: GroupId, capacityBytes: number, limits: Limits) {
    this.sequence = sequence;
    this.group = group;
    this.capacityBytes = capacityBytes;
    this.#reserveBytes = limits.transactionBytes;
  }

  get buffer(): SegmentBuffer | undefined {
    return this.#buffer;
  }

  set buffer(buffer: SegmentBuffer | undefined) {
    assert(this.#buffer === undefined && buffer !== undefined, "an open segment takes its buffer once");
    this.#buffer = buffer;
  }

  get usedBytes(): number {
    return this.#used;
  }

  /** Blocks are aligned to 4 KiB, so that a block's read verifies one checksum; records to 8. The gap is zeroed: a payload is decided bytes. */
  place(length: number, reserve: boolean): PlacedBytes | undefined {
    assert(length > 0, "a place has a length");
    if (this.#buffer === undefined) return undefined;
    const { payload } = this.#buffer;
    const offset = roundUp(this.#used, length >= BLOCK_BYTES ? BLOCK_BYTES : 8);
    const end = offset + length;
    const reserveBytes = reserve ? this.#reserveBytes : 0;
    if (end > this.capacityBytes + reserveBytes) return undefined;
    if (end + this.#roomBehind(end, reserve) > payload.length) return undefined;
    payload.fill(0, this.#used, offset);
    this.#used = end;
    this.#places++;
    return { offset, bytes: payload.subarray(offset, end) };
  }

  /** What a place that ends at `end` leaves: the summary of the records so far and one more; behind data also an aligned transaction. */
  #roomBehind(end: number, reserve: boolean): number {
    const summary = summaryBytes(this.#places + 2);
    if (reserve) return roundUp(end, 8) - end + summary;
    return roundUp(end, BLOCK_BYTES) - end + this.#reserveBytes + summary + SUMMARY_RECORD.end;
  }

  /** Writes the summary behind what was placed. */
  close(records: readonly SegmentRecord[]): { readonly summaryOffset: number; readonly payloadBytes: number } {
    assert(this.#buffer !== undefined, "a segment is sealed in its buffer");
    const { payload } = this.#buffer;
    const summaryOffset = roundUp(this.#used, 8);
    const payloadBytes = summaryOffset + summaryBytes(records.length);
    assert(payloadBytes <= payload.length, "the summary has room");
    payload.fill(0, this.#used, summaryOffset);
    encodeSummary(records, payload.subarray(summaryOffset));
    return { summaryOffset, payloadBytes };
  }
}
