import {
  type ClusterMap,
  DazzleError,
  type Group,
  type GroupId,
  type GroupVersion,
  MapCache,
  type Member,
  type MemberId,
  type Peers,
  type StoreId,
} from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { SpareServers, waitingServers, wantedToo, withSpareGroup } from "../src/spare-servers.ts";

const anyone = () => true;

type Grouped = Pick<ClusterMap, "members" | "groups">;

function member(id: number, fields: Partial<Member> = {}): Member {
  return {
    ...{ id: id as MemberId, name: `m${id}`, addresses: [], roles: ["storage"], incarnation: 1, leaving: false },
    ...{ store: `store${id}` as StoreId, ...fields },
  };
}

function groupOf(id: number, name: string, ids: readonly number[], parity = 1): Group {
  const servers = ids.map((one) => ({ member: one as MemberId, store: `store${one}` as StoreId }));
  const version = { version: 1 as GroupVersion, servers, dataFragments: ids.length - parity, parityFragments: parity, frozen: null };
  return { id: id as GroupId, name, parity, wanted: servers.map((server) => server.member), versions: [version] };
}

/** One after the other joins, and its store is there at once. */
function joined(from: Grouped, last: number, fields: Partial<Member> = {}): ClusterMap {
  let map = from as ClusterMap;
  for (let id = map.members.length + 1; id <= last; id++) {
    const row = member(id, fields);
    map = { ...map, members: [...map.members, row], groups: wantedToo(map.groups, row) };
    map = withSpareGroup(map, anyone) ?? map;
  }
  return map;
}

const ONE: Grouped = { members: [member(1)], groups: [groupOf(1, "main", [1], 0)].map((group) => ({ ...group, parity: 1 })) };

function shape({ groups }: Grouped): string[] {
  return groups.map(({ name, wanted }) => `${name}: ${wanted.join(" ")}`);
}

test("machines that join fill a group of eight; three more make another, which grows as well", (t) => {
  t.deepEqual(shape(joined(ONE, 10)), ["main: 1 2 3 4 5 6 7 8"]);
  t.is(waitingServers(joined(ONE, 8), anyone).servers.length, 0);
  t.is(waitingServers(joined(ONE, 10), anyone).lacks, 1);
  t.deepEqual(shape(joined(ONE, 11)), ["main: 1 2 3 4 5 6 7 8", "group2: 9 10 11"]);
  t.deepEqual(shape(joined(ONE, 18)), ["main: 1 2 3 4 5 6 7 8", "group2: 9 10 11 12 13 14 15 16"]);
  const twenty = joined(ONE, 20);
  t.deepEqual(shape(twenty).slice(2), ["group3: 17 18 19 20"]);
  t.like(twenty.groups[2]?.versions[0], { dataFragments: 2, parityFragments: 1 });
});

test("with two parities four make a group", (t) => {
  const eight = joined({ ...ONE, groups: ONE.groups.map((group) => ({ ...group, parity: 2 })) }, 11);
  t.is(eight.groups.length, 1);
  t.like(joined(eight, 12).groups[1]?.versions[0], { dataFragments: 2, parityFragments: 2 });
});

test("groups that an operator made don't grow by themselves, and none is made while another has room", (t) => {
  const members = Array.from({ length: 8 }, (_, index) => member(index + 1));
  const made = { members, groups: [groupOf(1, "main", [1, 2, 3, 4, 5, 6, 7, 8])] };
  const fast = { members: [...members, member(9), member(10)], groups: [...made.groups, groupOf(2, "fast", [9, 10])] };
  t.deepEqual(shape(joined(fast, 13)), ["main: 1 2 3 4 5 6 7 8", "fast: 9 10", "group3: 11 12 13"]);
  t.is(withSpareGroup({ members, groups: [groupOf(1, "main", [1, 2, 3, 4, 5])] } as unknown as ClusterMap, anyone), undefined);
});

test("who stores nothing, has no store yet or leaves is in no new group", (t) => {
  const eight = joined(ONE, 8);
  for (const fields of [{ roles: ["manager" as const] }, { store: null }, { leaving: true }])
    t.is(joined(eight, 14, fields).groups.length, 1);
});

/** Eight in a group, and three in none. */
function withThreeSpare(): ClusterMap {
  const eight = joined(ONE, 8);
  return { ...eight, version: 1, members: [...eight.members, ...[9, 10, 11].map((id) => member(id))] };
}

test("who something still lies on under an older version is in no new group", (t) => {
  const map = withThreeSpare();
  t.is(withSpareGroup(map, anyone)?.groups.length, 2);
  const [main] = map.groups as [Group];
  const older = groupOf(1, "main", [1, 2, 9]).versions;
  t.is(withSpareGroup({ ...map, groups: [{ ...main, versions: [...older, ...main.versions] }] }, anyone), undefined);
});

test("servers make a group by themselves only of those that are reached, and of one that comes back later", async (t) => {
  let current = withThreeSpare();
  const compareAndSwap = async (_expected: number, next: ClusterMap) => {
    current = next;
  };
  const map = new MapCache({ read: async () => current, compareAndSwap }, current);
  let isUp = false;
  const call = async (to: MemberId, message: string, { member: about }: { readonly member: MemberId }) => {
    if (message !== "reaches" || to === 10) throw new DazzleError("unreachable", `${message} to m${to}`);
    return { reply: { reached: isUp || about !== 10 } };
  };
  const world = new World(1);
  const { clock, logger } = world.spawn("m9").ports;
  const spares = new SpareServers({ map, peers: { call } as unknown as Peers, self: 9 as MemberId, clock, logger });
  await world.advance(60_000);
  t.deepEqual(shape(current), ["main: 1 2 3 4 5 6 7 8"]);
  isUp = true;
  await world.advance(60_000);
  spares.stop();
  t.deepEqual(shape(current), ["main: 1 2 3 4 5 6 7 8", "group2: 9 10 11"]);
});
