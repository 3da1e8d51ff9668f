import { type Group, type GroupServer, type GroupVersionRow, isDazzleError, someAtOnce } from "@dazzle/core";
import { memberName } from "./listing.ts";
import type { MoveOptions, MoveTask } from "./move-scan.ts";
import type { LogReader } from "./reader.ts";
import { RESTORES_MAX, restoreSegment } from "./restore.ts";

/** Tasks after which what they supersede is deleted. */
const BATCH_MAX = 64;

export interface MovedSegments {
  readonly failed: number;
  /** Why the last one failed. */
  readonly reason: string;
}

/** Writes segments whole under the current version of their group, some at once, and deletes what that supersedes. `onMoved`: of each that is whole.
 * `isOver` is asked between batches. What fails is left to a later look. */
export async function moveSegments(
  options: MoveOptions & { readonly reader: LogReader; readonly onMoved: (bytes: number) => void; readonly isOver: () => boolean },
  group: Group,
  tasks: readonly MoveTask[],
): Promise<MovedSegments> {
  let failed = 0;
  let reason = "";
  for (let at = 0; at < tasks.length && !options.isOver(); at += BATCH_MAX) {
    const whole: MoveTask[] = [];
    let unroomy = 0;
    await someAtOnce(RESTORES_MAX, tasks.slice(at, at + BATCH_MAX), async (task) => {
      try {
        if (task.readable.length > 0) await restoreSegment({ ...options, log: task.log }, task, { ...task, beyond: false });
        whole.push(task);
        options.onMoved(task.readable.length > 0 ? task.payloadBytes : 0);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        failed++;
        if (isDazzleError(error, "noSpace")) unroomy++;
        reason = error.message;
      }
    });
    await deleteSuperseded(options, group, whole);
    // The group is full: a later look tries again. Any other failure may be of these segments alone.
    if (unroomy === Math.min(BATCH_MAX, tasks.length - at)) break;
  }
  return { failed, reason };
}

/** Of what is trimmed alone: above that, the absence of a set would prove that it was never stable there (rule 1). What a server misses here it deletes
 * itself, once it looks through what it holds. */
async function deleteSuperseded(options: MoveOptions, group: Group, tasks: readonly MoveTask[]): Promise<void> {
  const sets = new Map<string, { readonly log: number; readonly row: GroupVersionRow; readonly sequences: number[]; trimmedTo: number }>();
  for (const { log, sequence, trimmedTo, superseded } of tasks) {
    if (sequence > trimmedTo) continue;
    for (const version of superseded) {
      const row = group.versions.find((one) => one.version === version) as GroupVersionRow;
      const key = `${log} ${version}`;
      const set = sets.get(key) ?? { log, row, sequences: [], trimmedTo };
      sets.set(key, set);
      set.sequences.push(sequence);
      set.trimmedTo = Math.max(set.trimmedTo, trimmedTo);
    }
  }
  const { peers, limits, ports } = options;
  for (const { log, row, sequences, trimmedTo } of sets.values()) {
    const request = { log, sequences, trimmedTo, group: group.id, groupVersion: row.version };
    const asked = row.servers.map(async ({ member }: GroupServer) => {
      try {
        await peers.call(member, "delete", request, { deadlineMs: limits.requestDeadlineMs });
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "superseded fragments stay until their server looks through what it holds", {
          log,
          server: memberName(options, member),
          reason: error.message,
        });
      }
    });
    await Promise.all(asked);
  }
}
