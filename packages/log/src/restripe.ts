import {
  currentVersion,
  type Group,
  type GroupVersionRow,
  isDazzleError,
  type ListedFragment,
  type LogRow,
  type MemberId,
} from "@dazzle/core";
import { listAbove, memberName } from "./listing.ts";
import type { LogOptions } from "./options.ts";
import type { LogReader } from "./reader.ts";
import { restoreSegment } from "./restore.ts";

/** Obsolete versions with the member whose stripes bear the loss of fewer servers than the current one's. */
export function weakVersions(group: Group, member: MemberId): readonly GroupVersionRow[] {
  const { parityFragments } = currentVersion(group);
  return group.versions
    .slice(0, -1)
    .filter((row) => row.parityFragments < parityFragments && row.servers.some((one) => one.member === member));
}

export interface RestripeOptions extends LogOptions {
  /** Whose fragments are looked through. */
  readonly member: MemberId;
  readonly reader: LogReader;
  /** By `log sequence`: under which version it was written again, while it still waits for its old set to be deleted. */
  readonly done: Map<string, number>;
}

export interface Restriped {
  /** Segments with too little parity that could not be written again. */
  readonly left: number;
  /** Segments of which an old set is still there. */
  readonly held: number;
}

/** Writes what the member holds under weak versions that are frozen again under the current ones, a segment at a time, and deletes the old sets of what is trimmed.
 * Each segment is the task of who holds its first fragment. Rejects where that can't be listed. */
export async function restripeHeld(options: RestripeOptions): Promise<Restriped> {
  const { map, ports } = options;
  let left = 0;
  let held = 0;
  for (const group of map.current.groups) {
    const weak = weakVersions(group, options.member).filter(({ frozen }) => frozen !== null);
    if (weak.length === 0) continue;
    for (const log of map.current.logs) {
      if (!log.groups.includes(group.id)) continue;
      const listing = await listAbove(options, options.member, log.id, 0);
      for (const row of weak) {
        const tasks = listing.fragments.filter((one) => isTask(one, group, row, log));
        const written: number[] = [];
        for (const fragment of tasks) {
          try {
            await writeAgain(options, listing, fragment, group, row);
            written.push(fragment.sequence);
          } catch (error) {
            if (!isDazzleError(error)) throw error;
            left++;
            ports.logger("info", "a segment is not written again yet", { log: log.id, sequence: fragment.sequence, reason: error.message });
          }
        }
        held += tasks.length - (await deleteOld(options, group, log, row, written, listing.trimmedTo));
      }
    }
  }
  return { left, held };
}

/** What a frozen version holds of a log that has not ended stays the log's, up to what was recorded; of one that has, up to its end. */
function isTask(fragment: ListedFragment, group: Group, row: GroupVersionRow, log: LogRow): boolean {
  const last = log.end ?? row.frozen?.[log.id] ?? 0;
  return fragment.group === group.id && fragment.groupVersion === row.version && fragment.index === 0 && fragment.sequence <= last;
}

async function writeAgain(
  options: RestripeOptions,
  told: { readonly stableSequence: number; readonly trimmedTo: number },
  fragment: ListedFragment,
  group: Group,
  row: GroupVersionRow,
): Promise<void> {
  const { log, sequence, dataFragments, payloadBytes } = fragment;
  const key = `${log} ${sequence}`;
  const under = group.versions.find(({ version }) => version === options.done.get(key));
  // What was strong enough then may be weak by now.
  if (under !== undefined && under.parityFragments >= currentVersion(group).parityFragments) return;
  const version = { group: group.id, row, lastSequence: sequence };
  const readable = [{ version, dataFragments, payloadBytes, complete: true }];
  options.done.set(key, await restoreSegment({ ...options, log }, told, { sequence, readable, beyond: false }));
}

/** Answers how many it has deleted. Above trimmed-to a set stays: its absence would prove that it was never stable there (PROTOCOL rule 1). */
async function deleteOld(
  options: RestripeOptions,
  group: Group,
  log: LogRow,
  row: GroupVersionRow,
  written: readonly number[],
  trimmedTo: number,
): Promise<number> {
  const { peers, limits, ports, done } = options;
  const sequences = written.filter((sequence) => sequence <= trimmedTo);
  if (sequences.length === 0) return 0;
  const request = { log: log.id, sequences, trimmedTo, group: group.id, groupVersion: row.version };
  const answers = row.servers.map(({ member }) =>
    peers.call(member, "delete", request, { deadlineMs: limits.requestDeadlineMs }).then(
      () => true,
      (error: unknown) => {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "superseded fragments stay until their segments are deleted", {
          log: log.id,
          server: memberName(options, member),
          reason: error.message,
        });
        return false;
      },
    ),
  );
  if (!(await Promise.all(answers)).every(Boolean)) return 0;
  for (const sequence of sequences) done.delete(`${log.id} ${sequence}`);
  return sequences.length;
}
