import {
  currentVersion,
  DazzleError,
  findGroup,
  type GroupVersionRow,
  type LogRow,
  type MemberId,
  type StoreId,
  someAtOnce,
  withGroup,
} from "@dazzle/core";
import { adoptAt, listAbove, memberName, type ServerListing, serversOf } from "./listing.ts";
import { LogEvidence, type SegmentToRestore } from "./log-end.ts";
import type { LogOptions } from "./options.ts";
import type { LogReader } from "./reader.ts";
import { freezeReplaced } from "./regroup.ts";
import { RESTORES_MAX, restoreSegment } from "./restore.ts";

export interface DrainOptions extends LogOptions {
  readonly group: number;
  /** The server that is drained: not in the group's current version any more. */
  readonly member: MemberId;
  readonly reader: LogReader;
  /** Up to where a live log is trimmed, as its managers know: an idle log's servers may not. */
  readonly trimmedTo: (log: LogRow) => Promise<number>;
  /** `left`: how many are still to be written. */
  readonly onRestored: (bytes: number, left: number) => void;
  /** The member never answers again, its operator says: what it held is read from the others. */
  readonly isDead: boolean;
}

/** What a log has under the versions that are to leave the map. */
interface LogPlan {
  readonly log: number;
  readonly stableSequence: number;
  readonly trimmedTo: number;
  readonly restores: SegmentToRestore[];
  /** By obsolete version: sequences that have fragments under it, and are whole under the current one in the end. */
  readonly superseded: Map<number, number[]>;
}

/** Writes everything stored under a group's obsolete versions that name `member` whole under the current one, deletes what that supersedes, and takes those
 * versions out of the map (PROTOCOL rules 1, 9 and 12). May be begun anew at any time. Answers what is still waited for: undefined when no version names the
 * member. Rejects `unreachable` where a server of the group does not answer. */
export async function drainMember(options: DrainOptions): Promise<string | undefined> {
  const { map, member } = options;
  const group = findGroup(map.current, options.group);
  const current = currentVersion(group);
  if (names(current, member)) return `${memberName(options, member)} is in its group`;
  const leaving = group.versions.filter((row) => names(row, member));
  if (leaving.length === 0) return undefined;
  await freezeReplaced(options, group.id);
  // Nobody takes anything under a replaced version from then on.
  const servers = new Map(group.versions.flatMap((row) => row.servers.map((server) => [server.store, server])));
  for (const server of servers.values()) if (!options.isDead || server.member !== member) await adoptAt(options, server);
  const plans: LogPlan[] = [];
  for (const row of map.current.logs) {
    if (!row.groups.includes(group.id)) continue;
    const plan = await planLog(options, row, leaving);
    if (typeof plan === "string") return plan;
    if (plan !== undefined) plans.push(plan);
  }
  await restoreAll(options, plans);
  for (const plan of plans) await deleteSuperseded(options, plan, leaving);
  return (await forget(options, current.version)) ? undefined : "the group has changed meanwhile";
}

function names(row: GroupVersionRow, member: MemberId): boolean {
  return row.servers.some((server) => server.member === member);
}

/** Undefined where the log has nothing there; a text where it must be waited for. */
async function planLog(options: DrainOptions, row: LogRow, leaving: readonly GroupVersionRow[]): Promise<LogPlan | string | undefined> {
  const evidence = await evidenceOf(options, row);
  const superseded = new Map<number, number[]>(leaving.map(({ version }) => [version, []]));
  const sequences = new Set<number>();
  for (const { groupVersion, sequence } of evidence.fragments) {
    const ofVersion = superseded.get(groupVersion);
    // Past a decided end lies nothing that anybody needs.
    if (ofVersion === undefined || (row.end !== null && sequence > row.end)) continue;
    // All that could ever answer have: it is lost, and what is there of it stays.
    if (options.isDead && evidence.log.verdict(sequence).readable.length === 0) continue;
    ofVersion.push(sequence);
    sequences.add(sequence);
  }
  if (sequences.size === 0) return undefined;
  if (row.state !== "live" && row.state !== "closed") return `log ${row.id} is ${row.state} and not closed yet`;
  const trimmedTo = row.end ?? Math.max(evidence.log.trimmedTo, await options.trimmedTo(row));
  const highest = Math.max(...sequences);
  if (highest > trimmedTo) return `log ${row.id} is trimmed to ${trimmedTo}, not yet to ${highest}`;
  const restores: SegmentToRestore[] = [];
  const { version } = currentVersion(findGroup(options.map.current, options.group));
  for (const sequence of sequences) {
    const { readable } = evidence.log.verdict(sequence);
    if (readable.some((set) => set.complete && set.version.row.version === version)) continue;
    if (readable.length === 0) return `segment ${sequence} of log ${row.id} is held, and no version of it can be read`;
    restores.push({ sequence, readable, beyond: false });
  }
  return { log: row.id, stableSequence: Math.max(evidence.log.stableSequence, trimmedTo), trimmedTo, restores, superseded };
}

/** What the servers hold of a log; those of a dead member are not asked. Rejects `unreachable` where one of the others does not answer. */
async function evidenceOf(options: LogOptions & Pick<DrainOptions, "group" | "member" | "isDead">, row: LogRow) {
  const group = findGroup(options.map.current, options.group);
  const listings = new Map<StoreId, ServerListing>();
  for (const { member, store } of serversOf(options, row))
    if (!options.isDead || member !== options.member) listings.set(store, await listAbove(options, member, row.id, 0));
  const versions = group.versions.map((version) => ({ group: group.id, row: version, lastSequence: Number.MAX_SAFE_INTEGER }));
  const fragments = [...listings.values()].flatMap((listing) => listing.fragments.filter((one) => one.group === group.id));
  return { log: new LogEvidence(versions, listings), fragments };
}

async function restoreAll(options: DrainOptions, plans: readonly LogPlan[]): Promise<void> {
  const due = plans.flatMap((plan) => plan.restores.map((segment) => ({ plan, segment })));
  let left = due.length;
  await someAtOnce(RESTORES_MAX, due, async ({ plan, segment }) => {
    await restoreSegment({ ...options, log: plan.log }, plan, segment);
    options.onRestored(segment.readable[0]?.payloadBytes ?? 0, --left);
  });
}

/** Else who asks for a segment under any version could be answered with one that the map does not know any more. */
async function deleteSuperseded(options: DrainOptions, plan: LogPlan, leaving: readonly GroupVersionRow[]): Promise<void> {
  const { log, trimmedTo } = plan;
  for (const { version, servers } of leaving) {
    const sequences = [...new Set(plan.superseded.get(version))];
    if (sequences.length === 0) continue;
    const request = { log, sequences, trimmedTo, group: options.group, groupVersion: version };
    const there = servers.filter(({ member }) => !options.isDead || member !== options.member);
    for (const { member } of there) await options.peers.call(member, "delete", request, { deadlineMs: options.limits.requestDeadlineMs });
  }
}

/** Answers whether the versions have left the map: not where the current one, under which all was written, is another by now. */
async function forget(options: DrainOptions, current: number): Promise<boolean> {
  const { member } = options;
  const isGone = (now: typeof options.map.current) => findGroup(now, options.group).versions.every((row) => !names(row, member));
  const after = await options.map.change((now) => {
    const group = findGroup(now, options.group);
    if (currentVersion(group).version !== current || isGone(now)) return undefined;
    const versions = group.versions.filter((row) => !names(row, member));
    if (group.versions.some((row) => names(row, member) && row.frozen === null))
      throw new DazzleError("notReady", "a version that is not frozen can't leave the map");
    return withGroup(now, { ...group, versions });
  });
  return isGone(after);
}

/** Which segments can't be read any more once a member is dead, by log: candidates, of which nobody may need some. Rejects `unreachable` where another
 * server does not answer, `invalid` where too few servers of a version are left to tell what was stored under it. */
export async function unreadableWithout(
  options: LogOptions & { readonly group: number; readonly member: MemberId },
): Promise<Map<LogRow, readonly number[]>> {
  const { map, member } = options;
  const group = findGroup(map.current, options.group);
  const leaving = group.versions.filter((row) => names(row, member));
  for (const row of leaving)
    if (row.frozen === null && row.servers.length - 1 < row.servers.length - row.parityFragments)
      throw new DazzleError(
        "invalid",
        `nobody but ${memberName(options, member)} can tell what was stored under version ${row.version} of the group ${group.name}`,
      );
  const unreadable = new Map<LogRow, readonly number[]>();
  if (leaving.length === 0) return unreadable;
  for (const row of map.current.logs) {
    if (!row.groups.includes(group.id)) continue;
    const { log, fragments } = await evidenceOf({ ...options, isDead: true }, row);
    const last = row.end ?? Number.MAX_SAFE_INTEGER;
    const asked = new Set<number>();
    for (const { groupVersion, sequence } of fragments)
      if (sequence <= last && leaving.some(({ version }) => version === groupVersion)) asked.add(sequence);
    // What had no parity nobody else may hold anything of.
    for (const { parityFragments, frozen } of leaving)
      if (parityFragments === 0)
        for (let sequence = 1; sequence <= Math.min(last, frozen?.[row.id] ?? row.end ?? 0); sequence++) asked.add(sequence);
    const lost = [...asked].filter((sequence) => log.verdict(sequence).readable.length === 0);
    if (lost.length > 0) unreadable.set(row, lost);
  }
  return unreadable;
}
