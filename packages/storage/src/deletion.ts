import type { Request } from "@dazzle/core";
import type { Entry } from "./entry.ts";
import type { FragmentIndex } from "./fragment-index.ts";
import type { Pending } from "./pending.ts";

export interface Deletion {
  readonly removed: readonly Entry[];
  /** Of these, whose record is another fragment's, too: it stays, or is dead once with it. */
  readonly shared: ReadonlySet<Entry>;
}

/** Whether something that a `delete` takes is not in the index yet. */
export function isPending(pending: Pending, request: Request<"delete">): boolean {
  return request.sequences.some((sequence) => pending.segment(request.log, sequence).some(({ entry }) => isOf(request, entry)));
}

/** Whether something that was to come in the place of what a `delete` took is not known to be dead yet: a start would take it for new. */
export function isRepairPending(pending: Pending, request: Request<"delete">): boolean {
  return pending.repairs.some(
    ({ entry }) => entry.log === request.log && request.sequences.includes(entry.sequence) && isOf(request, entry),
  );
}

/** What a `delete` takes from the index. */
export function deletionOf(index: FragmentIndex, request: Request<"delete">): Deletion {
  const removed: Entry[] = [];
  const shared = new Set<Entry>();
  for (const sequence of new Set(request.sequences)) {
    const segment = index.segment(request.log, sequence);
    const deleted = segment.filter((entry) => isOf(request, entry));
    const places = new Set(segment.filter((entry) => !deleted.includes(entry)).map(placeName));
    for (const entry of deleted) {
      if (places.has(placeName(entry))) shared.add(entry);
      places.add(placeName(entry));
      removed.push(entry);
    }
  }
  return { removed, shared };
}

function isOf({ group, groupVersion }: Request<"delete">, entry: Entry): boolean {
  return group < 0 || (entry.group === group && entry.groupVersion === groupVersion);
}

function placeName({ volume, offset }: Entry): string {
  return `${volume} ${offset}`;
}
