import { type ClusterMap, findLog, sleep } from "@dazzle/core";
import { askManagers, type Reach } from "./managers.ts";

const POLL_MS = 250;
/** How long a mount may take to hand over what it has done. */
const PATIENCE_MS = 60_000;

/** Resolves when everything of which any slot has applied a part by now is applied in all slots that it concerns. What two looks see alike, one before and
 * one after, is then no transaction that is only half applied: had one been applied in between that concerns what was looked at, they would differ. Answers
 * the logs that did not come so far in time. */
export async function settle(reach: Reach): Promise<readonly number[]> {
  const { map, clock } = reach;
  const due = new Map<number, number>();
  const beganMs = clock.nowMs();
  for (const { logs, applied } of await askManagers(reach, "logProgress"))
    for (const [index, log] of logs.entries()) due.set(log, Math.max(due.get(log) ?? 0, applied[index] ?? 0));
  for (;;) {
    await map.refresh();
    for (const log of due.keys()) if (isDone(map.current, log)) due.delete(log);
    if (due.size === 0) return [];
    for (const { logs, trimmedTo } of await askManagers(reach, "logProgress"))
      for (const [index, log] of logs.entries()) if ((trimmedTo[index] ?? 0) >= (due.get(log) ?? Number.POSITIVE_INFINITY)) due.delete(log);
    if (due.size === 0) return [];
    if (clock.nowMs() - beganMs > PATIENCE_MS) return [...due.keys()];
    await sleep(clock, POLL_MS);
  }
}

/** Whether nothing of a log is on its way: it is closed, or no mount's. Managers apply what they log themselves to all of its slots in one turn. */
function isDone(map: ClusterMap, log: number): boolean {
  const row = findLog(map, log);
  return row === undefined || row.kind !== "mount" || row.state === "closed";
}
