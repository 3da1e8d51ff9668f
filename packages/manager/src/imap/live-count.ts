import { unpackExtents } from "@dazzle/core";
import { EntryKind, keyId, keyNumber } from "./keys.ts";
import { unpackLive } from "./values.ts";

/** A segment whose live bytes are not the sum of the extents that name it. */
export interface MiscountedSegment {
  readonly log: number;
  readonly sequence: number;
  /** What the extents name of it. */
  readonly named: number;
  /** What the count says. */
  readonly counted: number;
}

/** The live bytes of each segment counted anew from a slot's extents, and held against the counts: of entries in key order, so that the extents come
 * first. In memory: a number for each segment that the extents name. */
export class LiveCount {
  readonly #named = new Map<number, Map<number, number>>();

  add(log: number, sequence: number, bytes: number): void {
    let sequences = this.#named.get(log);
    if (sequences === undefined) {
      sequences = new Map();
      this.#named.set(log, sequences);
    }
    sequences.set(sequence, (sequences.get(sequence) ?? 0) + bytes);
  }

  /** What the count says of a segment: each once, when all extents were added. */
  compare(log: number, sequence: number, counted: number): MiscountedSegment | undefined {
    const named = this.#named.get(log)?.get(sequence) ?? 0;
    this.#named.get(log)?.delete(sequence);
    return named === counted ? undefined : { log, sequence, named, counted };
  }

  /** What the extents name and no count was given of. */
  *uncounted(): Generator<MiscountedSegment> {
    for (const [log, sequences] of this.#named) for (const [sequence, named] of sequences) yield { log, sequence, named, counted: 0 };
  }
}

/** Of everything in an imap. */
export async function miscounted(everything: AsyncIterable<readonly [Buffer, Buffer]>): Promise<MiscountedSegment[]> {
  const count = new LiveCount();
  const found: MiscountedSegment[] = [];
  for await (const [key, value] of everything) {
    if (key[0] === EntryKind.extents) for (const { log, sequence, length } of unpackExtents(value)) count.add(log, sequence, length);
    if (key[0] !== EntryKind.live) continue;
    const wrong = count.compare(keyId(key), keyNumber(key), unpackLive(value).bytes);
    if (wrong !== undefined) found.push(wrong);
  }
  return [...found, ...count.uncounted()];
}
