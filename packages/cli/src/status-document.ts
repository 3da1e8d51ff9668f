import { type ClusterMap, currentVersion, type Group, type Member, type MemberId, type StoreStatus } from "@dazzle/core";
import { pidOf, realProcesses } from "@dazzle/runtime";
import { callOnce } from "./calls.ts";
import { addressOf, type ClusterFile, type NodeRow, requireCluster } from "./cluster-directory.ts";
import { type MountRecord, readRecords } from "./mount-records.ts";
import { failure } from "./output.ts";

const ANSWER_DEADLINE_MS = 1_500;

export interface MemberStatus {
  readonly name: string;
  readonly id: number;
  readonly roles: readonly string[];
  readonly pid: number | null;
  readonly address: string;
  readonly state: "up" | "starting" | "down";
  readonly bytesUsed: number | null;
  readonly bytesFree: number | null;
}

export interface GroupStatus {
  readonly name: string;
  readonly version: number;
  readonly dataFragments: number;
  readonly parityFragments: number;
  readonly servers: readonly string[];
  readonly state: "healthy" | "degraded" | "unavailable";
  readonly bytes: number;
}

export interface MountStatus {
  readonly pid: number;
  readonly mountpoint: string;
  readonly member: string;
  readonly state: "up" | "stalled" | "ending";
  /** How it speaks to the kernel; null where it does not answer. */
  readonly engine: string | null;
  readonly counters: Readonly<Record<string, number>>;
}

export interface StatusDocument {
  readonly members: readonly MemberStatus[];
  readonly groups: readonly GroupStatus[];
  readonly managers: readonly { readonly name: string; readonly slots: number; readonly state: "open" | "opening" | "down" }[];
  readonly mounts: readonly MountStatus[];
  readonly cleaner: { readonly state: "none" };
  readonly warnings: readonly string[];
}

/** What a node answers to `status`. */
interface NodeDocument {
  readonly map: ClusterMap;
  readonly process: string;
  readonly manager: { readonly state: string } | null;
}

interface Answer {
  readonly row: NodeRow;
  readonly document: NodeDocument | undefined;
  readonly store: StoreStatus | undefined;
}

/** Asks every node and every mount of this machine at once; who does not answer in time is down. */
export async function collectStatus(directory: string): Promise<StatusDocument> {
  const cluster = await requireCluster(directory);
  const [answers, mounts] = await Promise.all([askNodes(directory, cluster), askMounts(directory, cluster)]);
  const map = newestMap(answers);
  if (map === undefined) throw failure(`no node of the cluster in ${directory} answers: start it with dazzle up --dir ${directory}`);
  const members = map.members.map((member) => memberStatus(member, answers));
  const groups = map.groups.map((group) => groupStatus(map, group, members));
  const managers = managerStatus(map, answers);
  const warnings = [
    ...members.filter(({ state }) => state !== "up").map(({ name, state }) => `${name} is ${state}`),
    ...answers.flatMap(({ row, store }) =>
      store !== undefined && store.damaged > 0 ? [`${row.name} has ${store.damaged} damaged fragments`] : [],
    ),
    ...map.groups.flatMap((group) => groupWarnings(map, group)),
    ...(map.groups.length === 0 ? ["the cluster has no stripe group yet"] : []),
    ...managers.filter(({ state }) => state === "opening").map(({ name }) => `the manager on ${name} is opening its shards`),
    ...mounts.filter(({ state }) => state === "stalled").map(({ mountpoint }) => `the mount at ${mountpoint} does not answer`),
  ];
  return { members, groups, managers, mounts, cleaner: { state: "none" }, warnings };
}

function askNodes(directory: string, cluster: ClusterFile): Promise<Answer[]> {
  return Promise.all(
    cluster.nodes.map(async (row) => {
      const address = await addressOf(directory, row);
      const [document, store] = await Promise.all([
        callOnce(address, "status", {}, ANSWER_DEADLINE_MS).then(({ reply }) => reply.document as NodeDocument, nobody),
        callOnce(address, "stat", {}, ANSWER_DEADLINE_MS).then(({ reply }) => reply, nobody),
      ]);
      return { row, document, store };
    }),
  );
}

/** An unanswered question is part of the answer. */
const nobody = () => undefined;

async function askMounts(directory: string, cluster: ClusterFile): Promise<MountStatus[]> {
  const records = (await readRecords(directory)).filter((record) => record.connection > 0 && !realProcesses.isGone(record.process));
  return Promise.all(records.map((record) => mountStatus(record, cluster)));
}

async function mountStatus(record: MountRecord, cluster: ClusterFile): Promise<MountStatus> {
  const { pid, mountpoint, socket } = record;
  const answered = socket === null ? undefined : await callOnce(socket, "status", {}, ANSWER_DEADLINE_MS).catch(nobody);
  const { counters = {}, engine = null } = (answered?.reply.document ?? {}) as {
    readonly counters?: Readonly<Record<string, number>>;
    readonly engine?: string;
  };
  const member = cluster.nodes.find((row) => row.member === record.member)?.name ?? String(record.member);
  const state = socket === null ? "ending" : answered === undefined ? "stalled" : "up";
  return { pid, mountpoint, member, state, engine, counters };
}

function newestMap(answers: readonly Answer[]): ClusterMap | undefined {
  let newest: ClusterMap | undefined;
  for (const { document } of answers) if (document !== undefined && document.map.version > (newest?.version ?? 0)) newest = document.map;
  return newest;
}

function memberStatus(member: Member, answers: readonly Answer[]): MemberStatus {
  const { document, store } = answers.find(({ row }) => row.member === member.id) ?? {};
  return {
    name: member.name,
    id: member.id,
    roles: member.roles,
    pid: document === undefined ? null : (pidOf(document.process) ?? null),
    address: member.addresses[0] ?? "",
    state: document === undefined ? "down" : store === undefined ? "starting" : "up",
    bytesUsed: store?.bytesUsed ?? null,
    bytesFree: store?.bytesFree ?? null,
  };
}

const nameOf = (map: ClusterMap, id: MemberId) => map.members.find((member) => member.id === id)?.name ?? `member ${id}`;

function groupStatus(map: ClusterMap, group: Group, members: readonly MemberStatus[]): GroupStatus {
  const { version, servers, dataFragments, parityFragments } = currentVersion(group);
  const rows = servers.map(({ member }) => members.find(({ id }) => id === member));
  const lost = rows.filter((row) => row?.state !== "up").length;
  const missing = group.wanted.some((id) => !servers.some(({ member }) => member === id));
  return {
    name: group.name,
    version,
    dataFragments,
    parityFragments,
    servers: servers.map(({ member }) => nameOf(map, member)),
    state: lost > parityFragments ? "unavailable" : lost > 0 || missing ? "degraded" : "healthy",
    bytes: rows.reduce((sum, row) => sum + (row?.bytesUsed ?? 0), 0),
  };
}

function groupWarnings(map: ClusterMap, group: Group): string[] {
  const { servers, parityFragments } = currentVersion(group);
  const left = group.wanted.filter((id) => !servers.some(({ member }) => member === id));
  return [
    ...left.map((id) => `${nameOf(map, id)} is left out of the group ${group.name}`),
    ...(parityFragments === 0 ? [`the group ${group.name} has no parity: the loss of one server loses data`] : []),
  ];
}

function managerStatus(map: ClusterMap, answers: readonly Answer[]): StatusDocument["managers"] {
  const owners = new Map<MemberId, number>();
  for (const { manager } of map.slots) if (manager !== null) owners.set(manager, (owners.get(manager) ?? 0) + 1);
  return [...owners].map(([id, slots]) => {
    const document = answers.find(({ row }) => row.member === id)?.document;
    const state = document === undefined ? "down" : document.manager?.state === "open" ? "open" : "opening";
    return { name: nameOf(map, id), slots, state };
  });
}
