import { type ClusterMap, findLog } from "@dazzle/core";
import type { StoredSegment } from "./survey.ts";

/** Closed logs of a group that the map may keep. */
export const CLOSED_LOGS_MAX = 64;

/** A closed log stays in the map as long as anything lives in it, and each mount and each cleaner that comes and goes leaves one. Of more than `CLOSED_LOGS_MAX` of them, what lives in the
 * smallest, up to `liveBytesMax`: moving it wins no space, but their rows. `candidates`: all in which something lives. */
export function ofSmallestLogs(map: ClusterMap, candidates: readonly StoredSegment[], liveBytesMax: number): StoredSegment[] {
  const closed = new Map<number, { readonly segments: StoredSegment[]; live: number }>();
  for (const segment of candidates) {
    if (findLog(map, segment.log)?.state !== "closed") continue;
    const known = closed.get(segment.log) ?? { segments: [], live: 0 };
    known.segments.push(segment);
    known.live += segment.live;
    closed.set(segment.log, known);
  }
  const smallest = [...closed.values()].sort((one, other) => one.live - other.live).slice(0, Math.max(0, closed.size - CLOSED_LOGS_MAX));
  const chosen: StoredSegment[] = [];
  let live = 0;
  for (const log of smallest) {
    if (live + log.live > liveBytesMax) break;
    live += log.live;
    chosen.push(...log.segments);
  }
  return chosen;
}
