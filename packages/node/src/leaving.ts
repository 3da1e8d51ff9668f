import {
  type ClusterMap,
  DazzleError,
  findMember,
  type Group,
  keepersOf,
  type LogRow,
  type Member,
  type MemberId,
  type Role,
} from "@dazzle/core";
import { groupWithout } from "./group-changes.ts";
import { wantedToo } from "./spare-servers.ts";

/** The map in which a member begins to leave: from then on slots and the map's keeping go elsewhere, and its groups have a version without it, which does not
 * want it back. Undefined where it leaves already. Throws `invalid`, with what is in the way. */
export function withLeaving(map: ClusterMap, member: MemberId, force: boolean): ClusterMap | undefined {
  if (findMember(map, member).leaving) return undefined;
  const mounts = mountsOf(map, member);
  if (mounts.length > 0)
    throw new DazzleError(
      "invalid",
      `${findMember(map, member).name} can't leave while mounts run there: unmount ${mounts.map(({ label }) => label).join(", ")}`,
    );
  return withoutTasks(map, member, force);
}

function withoutTasks(map: ClusterMap, member: MemberId, force: boolean): ClusterMap {
  const row = findMember(map, member);
  for (const role of ["manager", "keeper"] as const satisfies readonly Role[])
    if (row.roles.includes(role) && !map.members.some((one) => one.id !== member && !one.leaving && one.roles.includes(role)))
      throw new DazzleError("invalid", `${row.name} can't leave: it is the last ${role}`);
  return {
    ...map,
    members: map.members.map((one) => (one === row ? { ...row, leaving: true } : one)),
    groups: map.groups.map((group) => groupWithout(group, member, row.name, force, "leave")),
  };
}

/** Whether a member is taken out that never answers again: it leaves, and serves no store any more. */
export function isTakenOut({ leaving, store }: Member): boolean {
  return leaving && store === null;
}

/** The map in which a dead member begins to be taken out: as if it left, but that nothing more is expected of it, and its mounts are expelled. Undefined where
 * it is already. Throws `invalid`, with what is in the way. */
export function withTakenOut(map: ClusterMap, member: MemberId, force: boolean): ClusterMap | undefined {
  const row = findMember(map, member);
  if (isTakenOut(row)) return undefined;
  const without = row.leaving ? map : withoutTasks(map, member, force);
  const isLeft = (log: LogRow) => log.member === member && log.kind === "mount" && log.state === "live";
  return {
    ...without,
    members: without.members.map((one) => (one.id === member ? { ...one, store: null } : one)),
    logs: without.logs.map((log) => (isLeft(log) ? { ...log, state: "expelled" as const } : log)),
  };
}

/** The map in which a member stays that had begun to leave: its groups want it again. Throws `invalid` where it does not leave. */
export function withStaying(map: ClusterMap, member: MemberId): ClusterMap {
  const row = findMember(map, member);
  if (!row.leaving) throw new DazzleError("invalid", `${row.name} is not leaving: there is nothing to cancel`);
  return {
    ...map,
    members: map.members.map((one) => (one === row ? { ...row, leaving: false } : one)),
    groups: wantedToo(map.groups, row),
  };
}

function mountsOf(map: ClusterMap, member: MemberId): LogRow[] {
  return map.logs.filter((log) => log.kind === "mount" && log.state === "live" && log.member === member);
}

/** What keeps a leaving member in the map, but for what it stores; undefined where nothing does. */
export function whatKeeps(map: ClusterMap, member: MemberId): string | undefined {
  const slots = map.slots.filter((slot) => slot.manager === member).length;
  if (slots > 0) return `${slots} slots are with it`;
  const own = new Set(
    map.logs.filter((log) => log.kind === "manager" && log.member === member && log.state !== "closed").map(({ id }) => id),
  );
  const chained = map.slots.filter(({ chain }) => chain.some(({ log }) => own.has(log))).length;
  if (chained > 0) return `${chained} slots are not yet checkpointed elsewhere`;
  if (keepersOf(map).includes(member)) return "it keeps the map";
  const mounts = mountsOf(map, member);
  if (mounts.length > 0) return `mounts run there: ${mounts.map(({ label }) => label).join(", ")}`;
  return undefined;
}

/** The map without a member that leaves; undefined while something keeps it there. */
export function withoutMember(map: ClusterMap, member: MemberId): ClusterMap | undefined {
  const isLeaving = map.members.some(({ id, leaving }) => id === member && leaving);
  const isLive = map.logs.some((log) => log.member === member && log.state === "live");
  const isNamed = ({ versions, wanted }: Group) =>
    wanted.includes(member) || versions.some(({ servers }) => servers.some((server) => server.member === member));
  if (!isLeaving || isLive || whatKeeps(map, member) !== undefined || map.groups.some(isNamed)) return undefined;
  return { ...map, members: map.members.filter(({ id }) => id !== member) };
}
