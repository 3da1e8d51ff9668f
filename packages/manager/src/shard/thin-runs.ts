import { type Run, runBytes } from "../imap/run-table.ts";
import type { Shard } from "./shard.ts";

/** A segment is kept for so small a share of a fragment's bytes, and such segments are so many, before it pays to write what lies in them anew: together, so that few are kept then. */
const THIN_SHARE = 1 / 8;
export const THIN_SEGMENTS_MAX = 32;
/** What is written anew for each byte of a segment that it may free. */
const COST_MAX = 1 / 2;

/** A run that is written anew by itself. */
export interface ThinRun {
  readonly slot: number;
  readonly run: Run;
}

/** Runs for whose sake many segments of managers' logs are kept in which little else is needed: small ones of slots in which nothing changes any more, which no merge comes to. Large ones that only begin or end in such a
 * segment are not among them. `isKept`: the segment is needed for something else. */
export function thinRuns(
  shards: Iterable<Pick<Shard, "slot"> & { readonly imap: { readonly runs: readonly Run[] } }>,
  fragmentBytes: number,
  isKept: (log: number, sequence: number) => boolean,
): ThinRun[] {
  const all = [...shards].flatMap(({ slot, imap }) => imap.runs.map((run) => ({ slot, run, segments: segmentsOf(run) })));
  const held = new Map<string, number>();
  for (const { segments } of all) for (const [name, { bytes }] of segments) held.set(name, (held.get(name) ?? 0) + bytes);
  const thin = new Set<string>();
  for (const { segments } of all)
    for (const [name, { log, sequence }] of segments)
      if ((held.get(name) ?? 0) < THIN_SHARE * fragmentBytes && !isKept(log, sequence)) thin.add(name);
  if (thin.size < THIN_SEGMENTS_MAX) return [];
  const frees = (segments: ReadonlyMap<string, unknown>) => [...segments.keys()].filter((name) => thin.has(name)).length;
  return all
    .filter(({ run, segments }) => runBytes(run) < COST_MAX * fragmentBytes * frees(segments))
    .map(({ slot, run }) => ({ slot, run }));
}

function segmentsOf({ tables }: Run) {
  const segments = new Map<string, { readonly log: number; readonly sequence: number; bytes: number }>();
  for (const table of tables)
    for (const { log, sequence, bytes } of table.segments) {
      const known = segments.get(`${log}/${sequence}`);
      if (known === undefined) segments.set(`${log}/${sequence}`, { log, sequence, bytes });
      else known.bytes += bytes;
    }
  return segments;
}
