import type { StoredTally } from "@dazzle/storage";

/** What the storage servers that answer have stored since each was started, in bytes. By who wrote it: of payloads, without parity. */
export interface WrittenStatus {
  /** Files and names, as the mounts logged them. */
  readonly byMounts: number;
  /** Moved out of segments of which the rest is dead. */
  readonly byCleaners: number;
  readonly byManagers: number;
  /** Moved into another version of a group, or rebuilt. */
  readonly restored: number;
  /** With parity and headers. */
  readonly all: number;
  /** All for each byte by mounts; null before the first. */
  readonly amplification: number | null;
}

export function writtenStatus(tallies: readonly StoredTally[]): WrittenStatus {
  const sum = (of: keyof StoredTally) => Math.round(tallies.reduce((total, tally) => total + tally[of], 0));
  const byMounts = sum("mounts");
  const all = sum("all");
  const rest = { byCleaners: sum("cleaners"), byManagers: sum("managers"), restored: sum("restored") };
  return { byMounts, ...rest, all, amplification: byMounts === 0 ? null : all / byMounts };
}
