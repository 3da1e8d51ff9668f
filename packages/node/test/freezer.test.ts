import {
  type ClusterMap,
  DazzleError,
  type GroupId,
  type GroupVersion,
  LIMITS,
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
import { Freezer } from "../src/freezer.ts";

const IDS = [1, 2, 3] as MemberId[];
const storeOf = (id: number) => String(id).repeat(32) as StoreId;

function clusterMap(): ClusterMap {
  const member = { addresses: [], roles: ["storage" as const], incarnation: 1, leaving: false };
  const members: Member[] = IDS.map((id) => ({ ...member, id, name: `m${id}`, store: storeOf(id) }));
  return {
    format: MAP_FORMAT,
    clusterId: "0123456789abcdef0123456789abcdef",
    version: 1,
    nextLog: 1,
    nextMember: 4,
    members,
    groups: [{ id: 1 as GroupId, name: "main", parity: 1, wanted: IDS, versions: [versionOf(1, IDS)] }],
    slots: Array.from({ length: SLOTS }, () => ({ manager: null, term: 0, chain: [] })),
    logs: [],
    keepers: IDS,
    formerKeepers: [],
  };
}

function versionOf(version: number, ids: readonly MemberId[]) {
  const servers = ids.map((member) => ({ member, store: storeOf(member) }));
  return { version: version as GroupVersion, servers, dataFragments: ids.length - 1, parityFragments: 1, frozen: null };
}

test("a version that is replaced is frozen at once, since nothing is moved before; and later where its servers did not answer", async (t) => {
  const world = new World(1);
  const { ports } = world.spawn("node");
  let current = clusterMap();
  const compareAndSwap = async (_expected: number, next: ClusterMap) => {
    current = next;
  };
  const map = new MapCache({ read: async () => current, compareAndSwap }, current);
  let isAway = false;
  const peers = {
    call: async (member: MemberId, message: MessageName) => {
      if (isAway || message !== "adopt") throw new DazzleError("unreachable", `${message} to m${member}`);
      return { reply: { version: map.version, store: storeOf(member), boot: "boot" }, tail: [] };
    },
  } as unknown as Peers;
  const freezer = new Freezer({ map, peers, ports, limits: LIMITS });
  const replace = () =>
    map.change((now) => ({
      ...now,
      groups: now.groups.map((group) => ({ ...group, versions: [...group.versions, versionOf(group.versions.length + 1, IDS)] })),
    }));
  const frozen = () => current.groups[0]?.versions.map((row) => row.frozen !== null);
  await world.advance(100_000);
  await world.run(replace());
  await world.advance(500);
  t.deepEqual(frozen(), [true, false]);
  isAway = true;
  await world.run(replace());
  await world.advance(30_000);
  t.deepEqual(frozen(), [true, false, false]);
  isAway = false;
  await world.advance(7_000);
  t.deepEqual(frozen(), [true, true, false]);
  freezer.stop();
});
