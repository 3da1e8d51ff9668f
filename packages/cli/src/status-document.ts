import type { GroupCleaning } from "@dazzle/cleaner";
import {
  type ClusterMap,
  currentVersion,
  findMember,
  type Group,
  KEEPERS_USUAL,
  LIMITS,
  type Member,
  NO_MEMBER,
  type StoreId,
  type StoreStatus,
} from "@dazzle/core";
import { isAnother, isTakenOut, type RebuildStatus, type ScrubStatus, waitingServers } from "@dazzle/node";
import { pidOf } from "@dazzle/runtime";
import type { StoredTally } from "@dazzle/storage";
import { connectMember } from "./calls.ts";
import { type CleanerStatus, cleanerStatus, cleanerWarnings } from "./cleaner-status.ts";
import { type ManagerStatus, managerStatus, managerWarnings, type ReportedManager } from "./manager-status.ts";
import { type LocalMount, mountsHere } from "./mount-status.ts";
import { newestMap, type Reach } from "./reach.ts";
import { type RebuildRow, rebuildRows } from "./rebuild-watch.ts";
import { type WrittenStatus, writtenStatus } from "./written-status.ts";

/** Longer than a node waits for its mounts. */
const ANSWER_DEADLINE_MS = 3_000;

export interface MemberStatus {
  readonly name: string;
  readonly id: number;
  readonly roles: readonly string[];
  readonly pid: number | null;
  readonly address: string;
  /** `leaving`: it is up and being drained, or dead and being taken out (`dazzle leave`). */
  readonly state: "up" | "starting" | "leaving" | "down";
  readonly bytesUsed: number | null;
  readonly bytesFree: number | null;
}

export interface GroupStatus {
  readonly name: string;
  readonly version: number;
  readonly dataFragments: number;
  readonly parityFragments: number;
  /** The data fragments asked for; null where there are as many as the parity leaves room for. */
  readonly dataMax: number | null;
  readonly servers: readonly string[];
  readonly state: "healthy" | "degraded" | "unavailable";
  readonly bytes: number;
}

export interface MountStatus {
  readonly pid: number;
  readonly mountpoint: string;
  /** "-" on a machine that is none. */
  readonly member: string;
  /** `unknown`: no node of its machine answers for it. */
  readonly state: LocalMount["state"] | "unknown";
  /** How it speaks to the kernel; null where it does not answer. */
  readonly engine: string | null;
  readonly counters: Readonly<Record<string, number>>;
}

/** `lastPass`: times in ISO 8601. */
export interface ScrubRow extends Omit<ScrubStatus, "last"> {
  readonly name: string;
  readonly lastPass: { readonly startedAt: string; readonly endedAt: string; readonly fragments: number; readonly bytes: number } | null;
}

export interface StatusDocument {
  readonly members: readonly MemberStatus[];
  readonly groups: readonly GroupStatus[];
  readonly managers: readonly ManagerStatus[];
  /** The members that keep the map, by name. */
  readonly keepers: readonly string[];
  readonly mounts: readonly MountStatus[];
  /** Of each storage server that answers: what it has verified, and what was damaged. */
  readonly scrub: readonly ScrubRow[];
  readonly cleaner: { readonly groups: readonly CleanerStatus[] };
  readonly written: WrittenStatus;
  /** What is moved out of obsolete versions of groups. */
  readonly rebuild: readonly RebuildRow[];
  readonly warnings: readonly string[];
}

/** What a node answers to `status`. */
interface NodeDocument {
  readonly map: ClusterMap;
  readonly process: string;
  readonly rebuild: readonly RebuildStatus[];
  /** Null where it does not store. */
  readonly scrub: ScrubStatus | null;
  /** Of the groups that it leads, or led. */
  readonly cleaner: readonly GroupCleaning[];
  readonly stored: StoredTally;
  readonly manager: (ReportedManager & { readonly mounts: readonly ReportedMount[] }) | null;
  readonly mounts: readonly LocalMount[];
}

/** A mount as its manager knows it. */
interface ReportedMount {
  readonly log: number;
  readonly connected: boolean;
  readonly counters: Readonly<Record<string, number>>;
}

interface Answer {
  readonly member: Member;
  readonly document: NodeDocument | undefined;
  readonly store: StoreStatus | undefined;
}

/** Asks every member, and every mount by the node of its machine, at once; who does not answer in time is down. */
export async function collectStatus(reach: Reach): Promise<StatusDocument> {
  const map = await newestMap(reach);
  const [answers, here] = await Promise.all([askMembers(map, reach), reach.directory === null ? [] : mountsHere(reach.directory)]);
  const members = answers.map(memberStatus);
  const groups = map.groups.map((group) => groupStatus(map, group, members));
  const managers = managerStatus(map, answers);
  const mounts = mountStatus(map, [...here, ...answers.flatMap(({ document }) => document?.mounts ?? [])], answers);
  const rebuild = rebuildRows(
    map,
    answers.map(({ member, document }) => ({ name: member.name, rebuild: document?.rebuild ?? [] })),
  );
  const told = answers.map(({ member, document }) => ({ member, groups: document?.cleaner ?? [] }));
  const cleaner = { groups: map.groups.map((group) => cleanerStatus(map, group, told)) };
  const written = writtenStatus(answers.flatMap(({ document }) => (document === undefined ? [] : [document.stored])));
  const warnings = [
    ...answers.flatMap(memberWarnings),
    ...answers.flatMap((answer) => storeWarnings(map, answer)),
    ...map.groups.flatMap((group) => groupWarnings(map, group, members)),
    ...cleaner.groups.flatMap(cleanerWarnings),
    ...spareWarnings(map, answers),
    ...keeperWarnings(map),
    ...rebuild.flatMap(({ group, lost }) =>
      lost > 0
        ? [`too little is left of ${lost} segments of the group ${group}: dazzle fsck --lost names the files that can't be read`]
        : [],
    ),
    ...(map.groups.length === 0 ? ["the cluster has no stripe group yet"] : []),
    ...managers.flatMap(managerWarnings),
    ...mounts.filter(({ state }) => state === "stalled").map(({ mountpoint }) => `the mount at ${mountpoint} does not answer`),
  ];
  const keepers = map.keepers.map((id) => memberName(map, id));
  const scrub = answers.flatMap(scrubRow);
  return { members, groups, managers, keepers, mounts, scrub, cleaner, written, rebuild, warnings };
}

function askMembers(map: ClusterMap, reach: Reach): Promise<Answer[]> {
  return Promise.all(
    map.members.map(async (member) => {
      const address = reach.near.get(member.id) ?? member.addresses[0];
      const peer = address === undefined ? undefined : await connectMember(address, ANSWER_DEADLINE_MS).catch(nobody);
      if (peer === undefined) return { member, document: undefined, store: undefined };
      try {
        const options = { deadlineMs: ANSWER_DEADLINE_MS };
        const [document, store] = await Promise.all([
          peer.call("status", {}, options).then(({ reply }) => reply.document as NodeDocument, nobody),
          peer.call("stat", {}, options).then(({ reply }) => reply, nobody),
        ]);
        return { member, document, store };
      } finally {
        peer.close();
      }
    }),
  );
}

/** An unanswered question is part of the answer. */
const nobody = () => undefined;

/** What the nodes tell of the mounts on their machines, each once; of the others, what the map and the managers know. */
function mountStatus(map: ClusterMap, told: readonly LocalMount[], answers: readonly Answer[]): MountStatus[] {
  const mounts = new Map<string, MountStatus>();
  const keyOf = (member: number, pid: number) => `${member} ${pid}`;
  for (const { log: _log, ...mount } of told) {
    const key = keyOf(mount.member, mount.pid);
    if (!mounts.has(key)) mounts.set(key, { ...mount, member: memberName(map, mount.member) });
  }
  const reported = answers.flatMap(({ document }) => document?.manager?.mounts ?? []);
  for (const log of map.logs) {
    const pid = pidOf(log.process) ?? 0;
    if (log.kind !== "mount" || log.state !== "live" || mounts.has(keyOf(log.member, pid))) continue;
    const reports = reported.filter((row) => row.log === log.id);
    mounts.set(keyOf(log.member, pid), {
      pid,
      mountpoint: log.label,
      member: memberName(map, log.member),
      state: reports.some(({ connected }) => connected) ? "up" : "unknown",
      engine: null,
      counters: reports[0]?.counters ?? {},
    });
  }
  return [...mounts.values()];
}

function memberStatus({ member, document, store }: Answer): MemberStatus {
  const isServing = store !== undefined || !member.roles.includes("storage");
  return {
    name: member.name,
    id: member.id,
    roles: member.roles,
    pid: document === undefined ? null : (pidOf(document.process) ?? null),
    address: member.addresses[0] ?? "",
    state: isTakenOut(member) ? "leaving" : document === undefined ? "down" : !isServing ? "starting" : member.leaving ? "leaving" : "up",
    bytesUsed: store?.bytesUsed ?? null,
    bytesFree: store?.bytesFree ?? null,
  };
}

function scrubRow({ member, document }: Answer): ScrubRow[] {
  if (document === undefined || document.scrub === null) return [];
  const { last, ...status } = document.scrub;
  const at = (timeMs: number) => new Date(timeMs).toISOString();
  const lastPass =
    last === null ? null : { startedAt: at(last.startedMs), endedAt: at(last.endedMs), fragments: last.fragments, bytes: last.bytes };
  return [{ name: member.name, ...status, lastPass }];
}

/** "-" where the machine is no member. */
function memberName(map: ClusterMap, id: number): string {
  if (id === NO_MEMBER) return "-";
  return map.members.find((member) => member.id === id)?.name ?? `member ${id}`;
}

/** It joined, and has never been started since: the incarnation is raised with the store. */
const isNew = ({ roles, store, incarnation }: Member) => roles.includes("storage") && store === null && incarnation === 1;

function memberWarnings({ member, document, store }: Answer): string[] {
  const { state } = memberStatus({ member, document, store });
  return [
    ...(state === "down" && isNew(member) ? [`${member.name} has joined and was never started: run dazzle node there`] : []),
    ...(state === "up" || (state === "down" && isNew(member)) ? [] : [`${member.name} is ${state}`]),
    ...(store !== undefined && store.stalledMs >= LIMITS.serverDeadlineMs
      ? [`the disk of ${member.name} hangs or fails: look at its log`]
      : []),
    ...damageWarnings(member.name, store?.damaged ?? 0, document?.scrub?.unrepairable ?? 0),
  ];
}

function storeWarnings(map: ClusterMap, { member, store }: Answer): string[] {
  if (store === undefined || !isAnother(map, member.id, store.store as StoreId)) return [];
  const { name } = member;
  return [
    `the storage directory of ${name} is not the one that its group lists: put it back, or dazzle group replace-server GROUP ${name} ${name}`,
  ];
}

function damageWarnings(name: string, damaged: number, unrepairable: number): string[] {
  if (unrepairable > 0) return [`${name} has ${unrepairable} damaged fragments that can't be repaired: its log names them`];
  return damaged > 0 ? [`${name} has ${damaged} damaged fragments that are to be repaired`] : [];
}

function groupStatus(map: ClusterMap, group: Group, members: readonly MemberStatus[]): GroupStatus {
  const { version, servers, dataFragments, parityFragments } = currentVersion(group);
  const rows = servers.map(({ member }) => members.find(({ id }) => id === member));
  const lost = rows.filter((row) => !isUp(row)).length;
  const missing = group.wanted.some((id) => !servers.some(({ member }) => member === id));
  return {
    name: group.name,
    version,
    dataFragments,
    parityFragments,
    dataMax: group.dataMax ?? null,
    servers: servers.map(({ member }) => memberName(map, member)),
    state: lost > parityFragments ? "unavailable" : lost > 0 || missing ? "degraded" : "healthy",
    bytes: rows.reduce((sum, row) => sum + (row?.bytesUsed ?? 0), 0),
  };
}

function isUp(member: Pick<MemberStatus, "state"> | undefined): boolean {
  return member?.state === "up" || member?.state === "leaving";
}

function spareWarnings(map: ClusterMap, answers: readonly Answer[]): string[] {
  const answering = new Set(answers.map(({ store }) => store?.store));
  const { servers, lacks } = waitingServers(map, ({ store }) => answering.has(store));
  if (servers.length === 0 || lacks <= 0) return [];
  const names = servers.map(({ member }) => findMember(map, member).name).join(", ");
  return [`${names} ${servers.length === 1 ? "stores" : "store"} nothing: no group has room; with ${lacks} more they make one`];
}

/** Between two sets a majority of both is asked: the map waits for the former keepers, too. */
function keeperWarnings(map: ClusterMap): string[] {
  const names = (ids: readonly number[]) => ids.map((id) => memberName(map, id)).join(", ");
  if (map.formerKeepers.length > 0)
    return [`the keepers of the map are changing from ${names(map.formerKeepers)} to ${names(map.keepers)}`];
  const able = map.members.filter(({ roles, leaving }) => roles.includes("keeper") && !leaving);
  const asked = map.keepersAsked ?? KEEPERS_USUAL;
  if (asked > KEEPERS_USUAL && able.length < asked)
    return [`${asked} keepers of the map are asked for, and ${able.length} machines may keep it`];
  if (able.length < asked || map.keepers.length >= asked) return [];
  return [`the map is kept by ${names(map.keepers)} alone so far, and ${able.length} machines may keep it`];
}

/** Of one group, with what its servers are. */
export function groupWarnings(map: ClusterMap, group: Group, members: readonly Pick<MemberStatus, "id" | "state">[]): string[] {
  const { servers, parityFragments } = currentVersion(group);
  const up = servers.filter(({ member }) => isUp(members.find(({ id }) => id === member))).length;
  const left = group.wanted.filter((id) => {
    const member = map.members.find((row) => row.id === id);
    return !servers.some((server) => server.member === id) && member !== undefined && !isNew(member);
  });
  return [
    ...(up <= parityFragments
      ? [
          `the group ${group.name} can't be written: ${up} of its servers are up, and with ${parityFragments} parity it takes ${parityFragments + 1}`,
        ]
      : []),
    ...left.map((id) => `${memberName(map, id)} is left out of the group ${group.name}`),
    ...(parityFragments > 0 && parityFragments < group.parity
      ? [`the group ${group.name} bears the loss of ${parityFragments} of its servers, not of ${group.parity}: it has too few for that`]
      : []),
    ...(parityFragments === 0 ? [`the group ${group.name} has no parity: the loss of one server loses data`] : []),
  ];
}
