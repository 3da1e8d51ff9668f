import { DazzleError } from "../errors.ts";
import type { BootId, GroupId, GroupVersion, LogId, MemberId, StoreId } from "../ids.ts";
import type { Address } from "../ports.ts";

export const ROLES = ["storage", "manager", "cleaner", "keeper", "client"] as const;
export type Role = (typeof ROLES)[number];

export interface Member {
  readonly id: MemberId;
  readonly name: string;
  readonly addresses: readonly Address[];
  readonly roles: readonly Role[];
  /** Raised each time the machine joins again. */
  readonly incarnation: number;
  /** The store it serves, once it has one. */
  readonly store: StoreId | null;
  /** It is being drained, to be removed: nothing new is given to it. */
  readonly leaving: boolean;
}

export interface GroupServer {
  readonly member: MemberId;
  readonly store: StoreId;
}

/** One version of a stripe group. Its table place → server never changes. */
export interface GroupVersionRow {
  readonly version: GroupVersion;
  /** By place. */
  readonly servers: readonly GroupServer[];
  readonly dataFragments: number;
  readonly parityFragments: number;
  /** An obsolete version that `n − m` servers have replaced: for every log then not ended, the highest sequence held
   * under it (rule 9). Null until then. */
  readonly frozen: Readonly<Record<string, number>> | null;
}

export interface Group {
  readonly id: GroupId;
  readonly name: string;
  /** The parity asked for; a version's m is `min(parity, n − 1)`. */
  readonly parity: number;
  /** The data fragments asked for: d is no more, whatever servers there are. Where nothing is said, as many as the parity leaves room for. */
  readonly dataMax?: number;
  /** Ascending; the last is current, the others obsolete. */
  readonly versions: readonly GroupVersionRow[];
  /** Members that should serve it: one that is missing from the current version is admitted again when it is healthy. */
  readonly wanted: readonly MemberId[];
}

/** One log of the chain that holds a slot's write-ahead records since its last stable checkpoint. */
export interface ChainLink {
  readonly log: LogId;
  /** The slot's term while this log held its records. */
  readonly term: number;
  /** The last segment of it that may hold records of the slot: the log's decided end, or where it was when the slot moved on
   * (rule 15). Null while the slot is there. */
  readonly end: number | null;
}

export interface SlotRow {
  readonly manager: MemberId | null;
  readonly term: number;
  readonly chain: readonly ChainLink[];
}

export type LogState = "live" | "expelled" | "ended" | "closed";

export interface LogRow {
  readonly id: LogId;
  readonly kind: "mount" | "manager" | "cleaner";
  /** The member on whose machine the writer runs. */
  readonly member: MemberId;
  /** Names the writer's process on that machine (`Processes.self`). */
  readonly process: string;
  readonly state: LogState;
  /** Groups it has registered: before its first store there. */
  readonly groups: readonly GroupId[];
  /** Last sequence, once decided: the state is then "ended" or "closed". */
  readonly end: number | null;
  /** For a mount: where it is mounted, for people. */
  readonly label: string;
}

export const MAP_FORMAT = 2;

/** From so many machines with the role on there are so many keepers (rule 33), where nobody asked for another number. */
export const KEEPERS_USUAL = 3;
/** What can be asked for. */
export const KEEPERS_CHOICES: readonly number[] = [KEEPERS_USUAL, 5];

/** The cluster map: small, versioned, cached by every member, changed by compare-and-swap alone. */
export interface ClusterMap {
  readonly format: typeof MAP_FORMAT;
  readonly clusterId: string;
  readonly version: number;
  readonly nextLog: number;
  readonly nextMember: number;
  readonly members: readonly Member[];
  readonly groups: readonly Group[];
  /** SLOTS rows. */
  readonly slots: readonly SlotRow[];
  readonly logs: readonly LogRow[];
  /** Who votes for the map (rule 33). */
  readonly keepers: readonly MemberId[];
  /** While the set changes: the keepers before, whose majority is asked as well. Else empty. */
  readonly formerKeepers: readonly MemberId[];
  /** One of KEEPERS_CHOICES; KEEPERS_USUAL where nothing is said. */
  readonly keepersAsked?: number;
}

export type { BootId };

export function currentVersion(group: Group): GroupVersionRow {
  return group.versions[group.versions.length - 1] as GroupVersionRow;
}

/** How stripes are cut over so many servers. Where there are more of those than a stripe has fragments, some hold nothing of it. */
export function shapeOver(
  servers: number,
  parityFragments: number,
  { dataMax = servers }: Pick<Group, "dataMax"> = {},
): Pick<GroupVersionRow, "dataFragments" | "parityFragments"> {
  return { dataFragments: Math.max(1, Math.min(dataMax, servers - parityFragments)), parityFragments };
}

/** How many of a version's servers would hold what its stripes hold of payloads, without their parity: d, where each server has a fragment of each stripe. */
export function dataServers({ servers, dataFragments, parityFragments }: GroupVersionRow): number {
  return (servers.length * dataFragments) / (dataFragments + parityFragments);
}

export function findGroup(map: ClusterMap, id: number): Group {
  const group = map.groups.find((row) => row.id === id);
  if (group === undefined) throw new DazzleError("staleMap", `group ${id} is not in the map`);
  return group;
}

export function findGroupVersion(map: ClusterMap, id: number, version: number): GroupVersionRow | undefined {
  return map.groups.find((row) => row.id === id)?.versions.find((row) => row.version === version);
}

export function findLog(map: ClusterMap, id: number): LogRow | undefined {
  return map.logs.find((row) => row.id === id);
}

export function findMember(map: ClusterMap, id: number): Member {
  const member = map.members.find((row) => row.id === id);
  if (member === undefined) throw new DazzleError("staleMap", `member ${id} is not in the map`);
  return member;
}

/** The map with one log's row changed. */
export function withLog(map: ClusterMap, id: number, change: Partial<LogRow>): ClusterMap {
  return { ...map, logs: map.logs.map((row) => (row.id === id ? { ...row, ...change } : row)) };
}

/** The map with a live log ended at `end` by its own writer; undefined where it is not live any more. */
export function endedLog(map: ClusterMap, log: number, end: number): ClusterMap | undefined {
  return findLog(map, log)?.state === "live" ? withLog(map, log, { state: "ended", end }) : undefined;
}

export function withGroup(map: ClusterMap, group: Group): ClusterMap {
  return { ...map, groups: map.groups.map((row) => (row.id === group.id ? group : row)) };
}
