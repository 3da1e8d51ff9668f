import {
  type ClusterMap,
  DazzleError,
  deferred,
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

function clusterMap(groups = [1]): ClusterMap {
  const member = { addresses: [], roles: ["storage" as const], incarnation: 1, leaving: false };
  const members: Member[] = IDS.map((id) => ({ ...member, id, name: `m${id}`, store: storeOf(id) }));
  return {
    format: MAP_FORMAT,
    clusterId: "0123456789abcdef0123456789abcdef",
    version: 1,
    nextLog: 1,
    nextMember: 4,
    members,
    groups: groups.map((id) => ({ id: id as GroupId, name: `g${id}`, parity: 1, wanted: IDS, versions: [versionOf(1, IDS)] })),
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

/** A new version of the group with the same servers. */
const replaced =
  (id: number) =>
  (now: ClusterMap): ClusterMap => ({
    ...now,
    groups: now.groups.map((group) =>
      (group.id as number) === id ? { ...group, versions: [...group.versions, versionOf(group.versions.length + 1, IDS)] } : group,
    ),
  });

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
  const replace = () => map.change(replaced(1));
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

test("a version that is replaced while those of other groups are frozen is frozen as soon", async (t) => {
  const world = new World(1);
  const { ports } = world.spawn("node");
  let current = clusterMap([1, 2]);
  const compareAndSwap = async (_expected: number, next: ClusterMap) => {
    current = next;
  };
  const map = new MapCache({ read: async () => current, compareAndSwap }, current);
  const goesOn = deferred();
  let isAsked = false;
  const peers = {
    call: async (member: MemberId, message: MessageName) => {
      if (message !== "adopt") throw new DazzleError("unreachable", `${message} to m${member}`);
      isAsked = true;
      await goesOn.promise;
      return { reply: { version: map.version, store: storeOf(member), boot: "boot" }, tail: [] };
    },
  } as unknown as Peers;
  const freezer = new Freezer({ map, peers, ports, limits: LIMITS });
  await world.run(map.change(replaced(1)));
  await world.run(() => isAsked);
  await world.run(map.change(replaced(2)));
  goesOn.resolve();
  await world.advance(500);
  t.deepEqual(
    current.groups.map(({ versions }) => versions.map((row) => row.frozen !== null)),
    [
      [true, false],
      [true, false],
    ],
  );
  freezer.stop();
});
