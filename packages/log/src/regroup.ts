import {
  currentVersion,
  DazzleError,
  findGroup,
  findMember,
  type Group,
  type GroupId,
  type GroupServer,
  type GroupVersion,
  type GroupVersionRow,
  type MemberId,
  shapeOver,
  withGroup,
} from "@dazzle/core";
import { adoptAt, listAbove } from "./listing.ts";
import type { LogOptions } from "./options.ts";
import { isGone } from "./outdated.ts";

/** Leaves `member` out of a group by compare-and-swap, once a second member (where the map has one) does not reach its
 * store either (rule 32). Answers false where that one does, or none could be asked; true when the current version is without it (also
 * where it was before). Rejects `unreachable` where no version without it keeps m. Who changed it freezes what was replaced, in the background. */
export async function leaveOut(options: LogOptions & { readonly group: number; readonly member: number }): Promise<boolean> {
  const member = options.member as MemberId;
  const before = currentVersion(findGroup(options.map.current, options.group));
  const server = before.servers.find((row) => row.member === member);
  if (server === undefined) return true;
  requireSmaller(options, before, member);
  if (await reachedByAnother(options, member, server.store)) return false;
  let isOwn = false;
  const changed = await options.map.change((map) => {
    const group = findGroup(map, options.group);
    const row = currentVersion(group);
    isOwn = row.servers.some((one) => one.member === member);
    if (!isOwn) return undefined;
    requireSmaller(options, row, member);
    return withGroup(map, versionAdded(group, without(group, member)));
  });
  if (!isOwn) return true;
  const row = currentVersion(findGroup(changed, options.group));
  const { name } = findMember(changed, member);
  options.ports.logger("warning", `${name} does not answer and was left out of its group`, {
    group: options.group,
    version: row.version,
    shape: `${row.dataFragments}+${row.parityFragments}`,
  });
  freezeReplaced(options, options.group as GroupId).catch((error: Error) => {
    options.ports.logger("info", "a replaced group version is not frozen yet", { group: options.group, reason: error.message });
  });
  return true;
}

function without(group: Group, member: MemberId): GroupVersionRow {
  const row = currentVersion(group);
  const servers = row.servers.filter((one) => one.member !== member);
  return {
    version: (row.version + 1) as GroupVersion,
    servers,
    ...shapeOver(servers.length, row.parityFragments, group),
    frozen: null,
  };
}

function versionAdded(group: Group, row: GroupVersionRow): Group {
  return { ...group, versions: [...group.versions, row] };
}

function requireSmaller(options: LogOptions, row: GroupVersionRow, member: MemberId): void {
  if (row.servers.length - 1 > row.parityFragments) return;
  const { name } = findMember(options.map.current, member);
  const left = row.servers.filter((one) => one.member !== member).length;
  throw new DazzleError("unreachable", `${name} can't be left out of its group: ${left} servers can't keep ${row.parityFragments} parity`);
}

/** Asks every other member at once. One that does not reach the store suffices; where none says so, it counts as reached. */
async function reachedByAnother(options: LogOptions, member: MemberId, store: string): Promise<boolean> {
  const others = options.map.current.members.filter((row) => row.id !== member && row.id !== options.peers.self);
  if (others.length === 0) return false;
  const asked = others.map(async ({ id }) => {
    const { reply } = await options.peers.call(id, "reaches", { member, store }, { deadlineMs: options.limits.serverDeadlineMs });
    if (reply.reached) throw new DazzleError("notReady", "it is reached");
  });
  return Promise.any(asked).then(
    () => false,
    () => true,
  );
}

/** Freezes the obsolete versions of a group whose replacement `n − m` servers adopt: records, for every log not ended, the
 * highest sequence one of them holds under the version (rule 9). Rejects `unreachable` where too few answer. */
export async function freezeReplaced(options: LogOptions, group: GroupId): Promise<void> {
  for (const row of findGroup(options.map.current, group).versions.slice(0, -1)) {
    if (row.frozen !== null) continue;
    const highest = await highestHeld(options, group, row);
    await options.map.change((map) => {
      const now = findGroup(map, group);
      const version = now.versions.find((one) => one.version === row.version);
      if (version === undefined || version.frozen !== null) return undefined;
      const frozen: Record<string, number> = {};
      for (const log of map.logs) if (log.end === null) frozen[log.id] = highest.get(log.id) ?? 0;
      return withGroup(map, { ...now, versions: now.versions.map((one) => (one === version ? { ...one, frozen } : one)) });
    });
  }
}

/** By log: the highest sequence that adopters hold under a replaced version, at least its trimmed-to. So many of its servers adopt that each stripe has a fragment on one: all but
 * `m`, those among them that are gone or don't vouch for what they list; where those are more, all that are left. */
async function highestHeld(options: LogOptions, group: GroupId, row: GroupVersionRow): Promise<Map<number, number>> {
  const map = options.map.current;
  const highest = new Map<number, number>();
  const missing: string[] = [];
  const doubted = new Set<GroupServer>();
  // One that is gone takes nothing any more, and what it alone held is lost.
  const left = row.servers.filter((server) => !isGone(map, server));
  const asked = left.map(async (server) => {
    try {
      await adoptAt(options, server);
      for (const log of map.logs) {
        if (log.end !== null || !log.groups.includes(group)) continue;
        const { trimmedTo } = await listAbove(options, server.member, log.id, Number.MAX_SAFE_INTEGER);
        const { fragments, vouched } = await listAbove(options, server.member, log.id, trimmedTo);
        if (!vouched) doubted.add(server);
        let top = Math.max(highest.get(log.id) ?? 0, trimmedTo);
        for (const held of fragments) if (held.group === group && held.groupVersion === row.version) top = Math.max(top, held.sequence);
        highest.set(log.id, top);
      }
    } catch (error) {
      doubted.delete(server);
      missing.push((error as Error).message);
    }
  });
  await Promise.all(asked);
  const silent = row.servers.length - left.length + missing.length + doubted.size;
  if (missing.length > 0 && silent > row.parityFragments) throw new DazzleError("unreachable", missing.join("; "));
  return highest;
}
