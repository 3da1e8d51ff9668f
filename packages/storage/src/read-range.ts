import { BLOCK_BYTES, type Request, roundUp } from "@dazzle/core";
import type { Entry } from "./entry.ts";

/** Bytes of a fragment's data, from a block's start to a block's end or the fragment's. */
export interface ReadRange {
  readonly offset: number;
  readonly length: number;
}

const NOTHING: ReadRange = { offset: 0, length: 0 };

/** What of a request this fragment can answer. A request without an index counts in the payload, and one without an offset as well is for the summary. */
export function rangeOf(entry: Entry, request: Request<"read">): ReadRange {
  const start = request.index >= 0 ? 0 : payloadStart(entry);
  if (start === undefined) return NOTHING;
  const [first, end] = request.offset >= 0 ? [request.offset, request.offset + request.length] : [entry.summaryOffset, entry.payloadBytes];
  const from = Math.max(0, first - start);
  const to = Math.min(entry.dataBytes, end - start);
  if (from >= to) return NOTHING;
  const offset = from - (from % BLOCK_BYTES);
  return { offset, length: Math.min(roundUp(to, BLOCK_BYTES), entry.dataBytes) - offset };
}

/** Where in the payload a fragment's data starts; undefined for parity. Every fragment of a mirrored segment is the payload. */
function payloadStart(entry: Entry): number | undefined {
  if (entry.dataFragments === 1) return 0;
  return entry.index < entry.dataFragments ? entry.index * entry.fragmentBytes : undefined;
}

/** Of several fragments of a segment, the one that answers most; of equal ones that of the newest version. */
export function bestFor(request: Request<"read">, entries: readonly Entry[]): Entry | undefined {
  let best: Entry | undefined;
  let bestLength = -1;
  for (const entry of entries) {
    const { length } = rangeOf(entry, request);
    if (length < bestLength || (length === bestLength && best !== undefined && entry.groupVersion <= best.groupVersion)) continue;
    best = entry;
    bestLength = length;
  }
  return best;
}
