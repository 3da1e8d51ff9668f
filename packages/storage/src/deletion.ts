import type { Request } from "@dazzle/core";
import type { Entry } from "./entry.ts";
import type { FragmentIndex } from "./fragment-index.ts";

export interface Deletion {
  readonly removed: readonly Entry[];
  /** Of these, whose record is another fragment's, too: it stays, or is dead once with it. */
  readonly shared: ReadonlySet<Entry>;
}

/** What a `delete` takes from the index. */
export function deletionOf(index: FragmentIndex, { log, sequences, group, groupVersion }: Request<"delete">): Deletion {
  const removed: Entry[] = [];
  const shared = new Set<Entry>();
  for (const sequence of new Set(sequences)) {
    const segment = index.segment(log, sequence);
    const deleted = segment.filter((entry) => group < 0 || (entry.group === group && entry.groupVersion === groupVersion));
    const places = new Set(segment.filter((entry) => !deleted.includes(entry)).map(placeName));
    for (const entry of deleted) {
      if (places.has(placeName(entry))) shared.add(entry);
      places.add(placeName(entry));
      removed.push(entry);
    }
  }
  return { removed, shared };
}

function placeName({ volume, offset }: Entry): string {
  return `${volume} ${offset}`;
}
