import {
  type ClusterMap,
  DazzleError,
  type GroupId,
  type GroupVersion,
  type GroupVersionRow,
  LIMITS,
  type LogId,
  MAP_FORMAT,
  MapCache,
  type Member,
  type MemberId,
  type MessageName,
  type Peers,
  SLOTS,
  type StoreId,
} from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Rebuild } from "../src/rebuild.ts";

const [SELF, OTHER] = [1 as MemberId, 2 as MemberId];
const LOG = 1 as LogId;
const GROUP = 1 as GroupId;
const storeOf = (id: number) => String(id).repeat(32) as StoreId;

function version(number: number, ids: readonly MemberId[]): GroupVersionRow {
  const servers = ids.map((member) => ({ member, store: storeOf(member) }));
  const isCurrent = ids.length > 1;
  const parityFragments = isCurrent ? 1 : 0;
  return { version: number as GroupVersion, servers, dataFragments: 1, parityFragments, frozen: isCurrent ? null : {} };
}

/** A group of one server that became two: versions 1 and 2 are outdated, 3 is current. */
function clusterMap(): ClusterMap {
  const member = { addresses: [], roles: ["storage" as const], incarnation: 1, leaving: false };
  const members: Member[] = [SELF, OTHER].map((id) => ({ ...member, id, name: `m${id}`, store: storeOf(id) }));
  const versions = [version(1, [SELF]), version(2, [SELF]), version(3, [SELF, OTHER])];
  return {
    format: MAP_FORMAT,
    clusterId: "0123456789abcdef0123456789abcdef",
    version: 1,
    nextLog: 2,
    nextMember: 3,
    members,
    groups: [{ id: GROUP, name: "main", parity: 1, wanted: [SELF, OTHER], versions }],
    slots: Array.from({ length: SLOTS }, () => ({ manager: SELF, term: 1, chain: [] })),
    logs: [{ id: LOG, kind: "mount", member: SELF, process: "", state: "closed", groups: [GROUP], end: 1, label: "" }],
    keepers: [SELF],
    formerKeepers: [],
  };
}

test("a segment that always fails to move keeps its own version in the map, and no other", async (t) => {
  const world = new World(1);
  const { ports } = world.spawn("node");
  let current = clusterMap();
  const compareAndSwap = async (_expected: number, next: ClusterMap) => {
    current = next;
  };
  const map = new MapCache({ read: async () => current, compareAndSwap }, current);
  const fragment = { log: LOG, sequence: 1, group: GROUP, groupVersion: 1, index: 0, dataFragments: 1, parityFragments: 0 };
  const held = { ...fragment, payloadBytes: 4_096, dataBytes: 4_096, bytesSince: 0 };
  const answers: Partial<Record<MessageName, (member: MemberId) => unknown>> = {
    adopt: (member) => ({ version: map.version, store: storeOf(member), boot: "boot" }),
    list: (member) => ({ fragments: member === SELF ? [held] : [], more: false, stableSequence: 0, trimmedTo: 0, boot: "boot" }),
  };
  const peers = {
    call: async (member: MemberId, message: MessageName) => {
      const answer = answers[message];
      if (answer === undefined) throw new DazzleError("unreachable", `${message} to m${member}`);
      return { reply: answer(member), tail: [] };
    },
    connected: () => undefined,
  } as unknown as Peers;
  const rebuild = new Rebuild({ map, peers, ports, limits: LIMITS, self: SELF, store: { storeId: storeOf(SELF), operations: 0 } });
  rebuild.start();
  const left = () => current.groups[0]?.versions.map((row) => Number(row.version));
  await world.run(() => left()?.length !== 3, 60_000);
  await world.advance(60_000);
  rebuild.stop();
  t.deepEqual(left(), [1, 3]);
  t.like(rebuild.status[0], { group: "main", versions: [1], segmentsLeft: 1, lost: 0 });
  t.regex(rebuild.status[0]?.waits.join() ?? "", /unreachable/);
});
