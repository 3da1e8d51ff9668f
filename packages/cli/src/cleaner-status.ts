import { type GroupCleaning, type LeaderState, utilisation, writeCost } from "@dazzle/cleaner";
import { type ClusterMap, type Group, leadersOf, type Member } from "@dazzle/core";

/** How a group is cleaned. Bytes are of payloads, without parity. What was done is summed over all who led since they started. */
export interface CleanerStatus {
  readonly group: string;
  /** Null where nobody leads. */
  readonly leader: string | null;
  /** `idle`: there is nothing to win. `waits`: for the next look, or for what is empty to be deleted. */
  readonly state: Exclude<LeaderState, "follows"> | "none";
  /** As of the leader's last survey; null before it. */
  readonly segments: number | null;
  readonly liveBytes: number | null;
  readonly deadBytes: number | null;
  readonly utilisation: number | null;
  /** Segments by the share of them that lives, in tenths. */
  readonly histogram: readonly number[] | null;
  readonly segmentsCleaned: number;
  readonly segmentsSkipped: number;
  /** Left alone, as they count live bytes that no file has. */
  readonly segmentsMiscounted: number;
  /** By how much others slow down what cleaners do; 1: not at all. */
  readonly slowdown: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly bytesWon: number;
  readonly writeCost: number;
}

/** What one member tells of the groups that it leads, or led. */
interface Told {
  readonly member: Member;
  readonly groups: readonly GroupCleaning[];
}

export function cleanerStatus(map: ClusterMap, { id, name }: Group, told: readonly Told[]): CleanerStatus {
  const rows = told.flatMap(({ member, groups }) => groups.filter(({ group }) => group === id).map((row) => ({ member, row })));
  const order = leadersOf(map, id);
  const leading = rows
    .filter(({ row }) => row.state !== "follows")
    .sort(({ member: one }, { member: other }) => order.indexOf(one.id) - order.indexOf(other.id))[0];
  const stock = leading?.row.stock ?? null;
  const sum = (of: (row: GroupCleaning) => number) => rows.reduce((total, { row }) => total + of(row), 0);
  const tally = {
    segments: sum(({ segments }) => segments),
    skipped: sum(({ skipped }) => skipped),
    bytesRead: sum(({ bytesRead }) => bytesRead),
    bytesWritten: sum(({ bytesWritten }) => bytesWritten),
    bytesWon: sum(({ bytesWon }) => bytesWon),
  };
  const state = leading?.row.state ?? "none";
  return {
    group: name,
    leader: leading?.member.name ?? null,
    state: state === "follows" ? "none" : state,
    segments: stock?.segments ?? null,
    liveBytes: stock?.liveBytes ?? null,
    deadBytes: stock === null ? null : stock.bytes - stock.liveBytes,
    utilisation: stock === null ? null : utilisation(stock),
    histogram: stock?.histogram ?? null,
    segmentsCleaned: tally.segments,
    segmentsSkipped: tally.skipped,
    segmentsMiscounted: leading?.row.miscounted ?? 0,
    slowdown: leading?.row.slowdown ?? 1,
    bytesRead: tally.bytesRead,
    bytesWritten: tally.bytesWritten,
    bytesWon: tally.bytesWon,
    writeCost: writeCost(tally),
  };
}

export function cleanerWarnings({ group, segmentsMiscounted }: CleanerStatus): string[] {
  if (segmentsMiscounted === 0) return [];
  return [`${segmentsMiscounted} segments of the group ${group} count bytes that no file has: dazzle fsck --repair puts that right`];
}
