import type { LogId } from "@dazzle/core";

/** Closed logs of a group that the map may keep. */
export const CLOSED_LOGS_MAX = 64;

/** A closed log in which something lives. */
export interface ClosedLog {
  readonly log: LogId;
  readonly liveBytes: number;
}

/** A closed log stays in the map as long as anything lives in it, and each mount and each cleaner that comes and goes leaves one. Of more than `CLOSED_LOGS_MAX` of them the smallest, smallest
 * first: moving what lives in them wins no space, but their rows. */
export function smallestLogs(closed: readonly ClosedLog[]): LogId[] {
  const smallest = closed.toSorted((one, other) => one.liveBytes - other.liveBytes);
  return smallest.slice(0, Math.max(0, closed.length - CLOSED_LOGS_MAX)).map(({ log }) => log);
}
