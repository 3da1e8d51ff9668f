import { BLOCK_BYTES, someAtOnce, unpackExtents } from "@dazzle/core";
import { EntryKind, keyId } from "@dazzle/manager";
import { entriesOf, type Imaps } from "./imaps.ts";
import { slots } from "./names.ts";
import type { Subject } from "./problems.ts";

const SLOTS_AT_ONCE = 8;

/** A range of a file that can't be read, bytes. */
export interface LostRange {
  readonly ino: number;
  readonly from: number;
  readonly to: number;
}

/** What of which files lies in segments that are lost. */
export async function lostRanges(imaps: Imaps, lost: ReadonlyArray<{ readonly subject: Subject }>): Promise<LostRange[]> {
  const segments = new Set(lost.map(({ subject }) => `${subject.log}/${subject.sequence}`));
  const ranges: LostRange[] = [];
  if (segments.size === 0) return ranges;
  await someAtOnce(SLOTS_AT_ONCE, slots(), async (slot) => {
    for await (const [key, value] of entriesOf(imaps, slot, EntryKind.extents))
      for (const { log, sequence, block, length } of unpackExtents(value))
        if (segments.has(`${log}/${sequence}`))
          ranges.push({ ino: keyId(key), from: block * BLOCK_BYTES, to: block * BLOCK_BYTES + length });
  });
  return ranges.sort((one, other) => one.ino - other.ino || one.from - other.from);
}
