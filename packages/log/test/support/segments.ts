import { type LogAddress, RecordKind, SegmentClass, type SegmentRecord } from "@dazzle/core";
import type { LogWriter, SealedSegment } from "@dazzle/log";

/** What a test wrote, to be read back. */
export interface Written {
  readonly sealed: SealedSegment;
  readonly records: readonly SegmentRecord[];
  readonly address: LogAddress;
  readonly bytes: Buffer;
}

/** Bytes that tell where they come from. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed + 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** Places `length` bytes as one record and seals. The segment must have room for them. */
export function writeSegment(writer: LogWriter, length: number, options: { urgent?: boolean } = {}): Written {
  const sequence = writer.openSequence;
  const bytes = pattern(length, writer.log * 1_000_003 + sequence);
  const placed = writer.place(length, true);
  if (placed === undefined) throw new Error(`no room for ${length} bytes in segment ${sequence}`);
  bytes.copy(placed.bytes);
  const records = [{ kind: RecordKind.block, owner: 7, position: 4096 * sequence, term: 0, offset: placed.offset, length }];
  const sealed = writer.seal(records, { class: SegmentClass.data, urgent: options.urgent ?? false });
  return {
    sealed,
    records,
    bytes,
    get address() {
      return { log: writer.log, sequence, offset: placed.offset, length, group: sealed.group, groupVersion: sealed.groupVersion };
    },
  };
}
