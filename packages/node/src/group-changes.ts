import {
  type ClusterMap,
  currentVersion,
  DATA_FRAGMENTS_MAX,
  DazzleError,
  findMember,
  type Group,
  type GroupChange,
  type GroupId,
  type GroupServer,
  type GroupVersion,
  type GroupVersionRow,
  type Member,
  type MemberId,
  PARITY_MAX,
  type StoreId,
  shapeOver,
  withGroup,
} from "@dazzle/core";
import { outdatedVersions } from "@dazzle/log";

const GROUP_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** The map with a group changed: its new version is current at once. Undefined where all of it was done before, and what lies under older versions is still being
 * moved. Throws `invalid`, `exists` or `notFound`, with what is in the way. `store`: of `replace` by the same name, the store that is there now. `data`: of `create`, the data
 * fragments asked for, if any are. */
export function withGroupChange(map: ClusterMap, asked: GroupChange, store: StoreId | null, data?: number): ClusterMap | undefined {
  if (asked.change === "create") return withNewGroup(map, asked, data);
  const group = groupNamed(map, asked.group);
  const [first, second] = asked.servers as [string, string];
  switch (asked.change) {
    case "add":
      return withServer(map, group, first);
    case "remove":
      return withoutServer(map, group, first, asked.force);
    case "replace":
      return first === second ? withStore(map, group, first, store) : withOther(map, group, first, second);
    case "parity":
      return withParity(map, group, asked.parity, asked.force);
  }
}

/** The map in which a member's store is gone for good; its groups go on without it. Undefined where it is already. Throws `invalid`. */
export function withLostServer(map: ClusterMap, name: string, force: boolean): ClusterMap | undefined {
  const { id, store } = memberNamed(map, name);
  if (store === null) {
    if (map.groups.some(({ versions }) => versions.some((row) => serves(row, id)))) return undefined;
    throw new DazzleError("invalid", `${name} stores nothing that could be lost: it was declared lost before, or its node has never run`);
  }
  const groups = map.groups.map((group) => (isOf(group, id) ? groupWithout(group, id, name, force, "be declared lost") : group));
  return { ...map, groups, members: map.members.map((row) => (row.id === id ? { ...row, store: null } : row)) };
}

export function groupNamed({ groups }: ClusterMap, name: string): Group {
  const group = groups.find((row) => row.name === name);
  if (group === undefined)
    throw new DazzleError("notFound", `there is no group ${name}: there are ${groups.map((row) => row.name).join(", ")}`);
  return group;
}

export function memberNamed({ members }: ClusterMap, name: string): Member {
  const member = members.find((row) => row.name === name);
  if (member === undefined)
    throw new DazzleError("notFound", `there is no member ${name}: there are ${members.map((row) => row.name).join(", ")}`);
  return member;
}

function withNewGroup(map: ClusterMap, { group: name, servers: names, parity }: GroupChange, data: number | undefined): ClusterMap {
  if (!GROUP_NAME.test(name)) throw new DazzleError("invalid", `"${name}" is no name for a group: letters, digits, ".", "_" and "-"`);
  if (map.groups.some((group) => group.name === name)) throw new DazzleError("exists", `the group ${name} is there already`);
  const twice = names.find((one, index) => names.indexOf(one) !== index);
  if (twice !== undefined) throw new DazzleError("invalid", `${twice} is named twice`);
  const servers = names.map((one) => freeServer(map, one));
  requireWidth(name, servers.length, parity, data);
  const id = (Math.max(0, ...map.groups.map((group) => group.id)) + 1) as GroupId;
  const bound = data === undefined ? {} : { dataMax: data };
  const version = { version: 1 as GroupVersion, servers, ...shapeOver(servers.length, parity, bound), frozen: null };
  const wanted = servers.map(({ member }) => member);
  return { ...map, groups: [...map.groups, { id, name, parity, ...bound, wanted, versions: [version] }] };
}

function withServer(map: ClusterMap, group: Group, name: string): ClusterMap | undefined {
  const { id } = memberNamed(map, name);
  const current = currentVersion(group);
  if (serves(current, id) && isMoving(map, group)) return undefined;
  if (serves(current, id)) throw new DazzleError("exists", `${name} is in the group ${group.name} already`);
  const servers = [...current.servers, freeServer(map, name, group)];
  const wanted = [...new Set([...group.wanted, id])];
  return withGroup(map, { ...withVersion(group, servers, Math.min(group.parity, servers.length - 1)), wanted });
}

function withoutServer(map: ClusterMap, group: Group, name: string, force: boolean): ClusterMap | undefined {
  const { id } = memberNamed(map, name);
  if (!isOf(group, id)) return lookOn(map, group, name);
  return withGroup(map, groupWithout(group, id, name, force, "be removed"));
}

function withOther(map: ClusterMap, group: Group, oldName: string, newName: string): ClusterMap | undefined {
  const old = memberNamed(map, oldName).id;
  const { id } = memberNamed(map, newName);
  if (!isOf(group, old)) return serves(currentVersion(group), id) ? lookOn(map, group, oldName) : refuseUnknown(map, group, oldName);
  if (isOf(group, id))
    throw new DazzleError("exists", `${newName} is in the group ${group.name} already: remove-server takes ${oldName} out`);
  return withGroup(map, replaced(group, old, freeServer(map, newName)));
}

/** Its storage directory was emptied: what is there now is another server under the old name (rule 27). */
function withStore(map: ClusterMap, group: Group, name: string, store: StoreId | null): ClusterMap | undefined {
  const member = memberNamed(map, name);
  if (store === null) throw new DazzleError("unreachable", `${name} does not answer: start its node with the new, empty storage directory`);
  if (!isOf(group, member.id)) return refuseUnknown(map, group, name);
  if (member.store === store) {
    if (isMoving(map, group)) return undefined;
    throw new DazzleError("invalid", `${name} has the store that the group ${group.name} lists: there is nothing to replace`);
  }
  const members = map.members.map((row) => (row === member ? { ...row, store, incarnation: row.incarnation + 1 } : row));
  return withGroup({ ...map, members }, replaced(group, member.id, { member: member.id, store }));
}

function withParity(map: ClusterMap, group: Group, parity: number, force: boolean): ClusterMap | undefined {
  const current = currentVersion(group);
  requireWidth(group.name, current.servers.length, parity);
  if (group.parity === parity && current.parityFragments === parity) return undefined;
  if (parity < current.parityFragments) requireForce(force, `the group ${group.name} can't have less parity`, group, parity);
  if (current.parityFragments === parity) return withGroup(map, { ...group, parity });
  return withGroup(map, { ...withVersion(group, current.servers, parity), parity });
}

/** Unforced, no new version lowers the parity (rule 32). */
export function groupWithout(group: Group, member: MemberId, name: string, force: boolean, what: string): Group {
  const wanted = group.wanted.filter((one) => one !== member);
  const current = currentVersion(group);
  const servers = current.servers.filter((server) => server.member !== member);
  if (servers.length === current.servers.length) return { ...group, wanted };
  if (servers.length === 0) throw new DazzleError("invalid", `${name} can't ${what}: it is the last server of the group ${group.name}`);
  const parity = Math.min(current.parityFragments, servers.length - 1);
  if (parity < current.parityFragments) requireForce(force, `${name} can't ${what}`, group, parity);
  return { ...withVersion(group, servers, parity), wanted };
}

function requireForce(force: boolean, what: string, group: Group, parity: number): void {
  const { parityFragments } = currentVersion(group);
  if (!force)
    throw new DazzleError(
      "invalid",
      `${what}: the group ${group.name} would have ${parity} parity in place of ${parityFragments}, ` +
        `so that the loss of ${parity + 1} of its servers loses data; with --force it is done all the same`,
    );
}

/** In its place, or the one that it had before it was left out: what was stored while it was there then lies right but for its own share. */
function replaced(group: Group, old: MemberId, server: GroupServer): Group {
  const remaining = currentVersion(group).servers.filter(({ member }) => member !== old);
  const last = group.versions.findLast((row) => serves(row, old));
  const place = last?.servers.findIndex(({ member }) => member === old) ?? remaining.length;
  const others = [...remaining.slice(0, place), server, ...remaining.slice(place)];
  const wanted = [...group.wanted.filter((one) => one !== old), server.member];
  return { ...withVersion(group, others, Math.min(group.parity, others.length - 1)), wanted };
}

function withVersion(group: Group, servers: readonly GroupServer[], parity: number): Group {
  const version = (currentVersion(group).version + 1) as GroupVersion;
  return { ...group, versions: [...group.versions, { version, servers, ...shapeOver(servers.length, parity, group), frozen: null }] };
}

/** `data`: where nothing is said, one suffices. */
function requireWidth(name: string, servers: number, parity: number, data?: number): void {
  if (parity > PARITY_MAX) throw new DazzleError("invalid", `a group has at most ${PARITY_MAX} parity, not ${parity}`);
  const isData = data === undefined || (Number.isSafeInteger(data) && data >= 1 && data <= DATA_FRAGMENTS_MAX);
  if (!isData) throw new DazzleError("invalid", `a group has 1 to ${DATA_FRAGMENTS_MAX} data fragments, not ${data}`);
  const needed = parity + (data ?? 1);
  const what = data === undefined ? `${parity} parity` : `${data} data and ${parity} parity fragments`;
  if (servers < needed)
    throw new DazzleError(
      "invalid",
      `the group ${name} ${servers === 1 ? "has 1 server" : `has ${servers} servers`}, too few for ${what}: that needs ${needed}`,
    );
}

/** A server that may come into a group. `into`: it may be wanted there already. */
function freeServer(map: ClusterMap, name: string, into?: Group): GroupServer {
  const member = memberNamed(map, name);
  const { id, store, roles, leaving } = member;
  if (!roles.includes("storage")) throw new DazzleError("invalid", `${name} does not store: it has the roles ${roles.join(", ")}`);
  if (leaving) throw new DazzleError("invalid", `${name} is leaving the cluster`);
  const other = map.groups.find((group) => group.id !== into?.id && isOf(group, id));
  if (other !== undefined)
    throw new DazzleError(
      "exists",
      `${name} is in the group ${other.name}, and a server belongs to one: dazzle group remove-server ${other.name} ${name} first`,
    );
  if (store === null)
    throw new DazzleError("notReady", `${name} has no store: start dazzle node there, anew where it was declared lost while it ran`);
  return { member: id, store };
}

function isOf(group: Group, member: MemberId): boolean {
  return group.wanted.includes(member) || serves(currentVersion(group), member);
}

function serves({ servers }: GroupVersionRow, member: MemberId): boolean {
  return servers.some((server) => server.member === member);
}

function isMoving(map: ClusterMap, group: Group): boolean {
  return outdatedVersions(map, group).length > 0;
}

/** Where a server was taken out before and something still lies on it, there is only to wait. */
function lookOn(map: ClusterMap, group: Group, name: string): undefined {
  const { id } = memberNamed(map, name);
  if (outdatedVersions(map, group).some((row) => serves(row, id))) return undefined;
  return refuseUnknown(map, group, name);
}

function refuseUnknown(map: ClusterMap, group: Group, name: string): never {
  const names = currentVersion(group).servers.map(({ member }) => findMember(map, member).name);
  throw new DazzleError("invalid", `${name} is not in the group ${group.name}: its servers are ${names.join(", ")}`);
}
