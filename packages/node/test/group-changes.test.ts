import {
  type ClusterMap,
  checkMap,
  currentVersion,
  DazzleError,
  type Group,
  type GroupChange,
  type GroupId,
  type GroupVersion,
  MAP_FORMAT,
  type Member,
  type MemberId,
  type Role,
  SLOTS,
  type StoreId,
} from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { withGroupChange, withLostServer } from "../src/group-changes.ts";

const storeOf = (id: number) => String(id).repeat(32).slice(0, 32) as StoreId;

function member(id: number, change: Partial<Member> = {}): Member {
  const roles: readonly Role[] = ["storage"];
  return {
    ...{ id: id as MemberId, name: `m${id}`, addresses: [`sim:m${id}`], roles, incarnation: 1, store: storeOf(id), leaving: false },
    ...change,
  };
}

function group(ids: readonly number[], parity = 1): Group {
  const servers = ids.map((id) => ({ member: id as MemberId, store: storeOf(id) }));
  const parityFragments = Math.min(parity, ids.length - 1);
  const row = { servers, dataFragments: ids.length - parityFragments, parityFragments, frozen: null };
  return { id: 1 as GroupId, name: "main", parity, wanted: ids as MemberId[], versions: [{ ...row, version: 1 as GroupVersion }] };
}

/** Six members, three of them in the group: m5 does not store, m6 has never started. */
function clusterMap(main: Group = group([1, 2, 3]), others: readonly Group[] = []): ClusterMap {
  const members = [1, 2, 3, 4].map((id) => member(id));
  return {
    format: MAP_FORMAT,
    clusterId: "00112233445566778899aabbccddeeff",
    version: 1,
    nextLog: 1,
    nextMember: 8,
    members: [...members, member(5, { roles: ["client"] }), member(6, { store: null }), member(7)],
    groups: [main, ...others],
    slots: Array.from({ length: SLOTS }, () => ({ manager: null, term: 1, chain: [] })),
    logs: [],
    keepers: [1 as MemberId],
    formerKeepers: [],
  };
}

const ask = (change: GroupChange["change"], servers: readonly string[], more: Partial<GroupChange> = {}): GroupChange => ({
  ...{ group: "main", change, servers, parity: 1, force: false },
  ...more,
});

function changed(map: ClusterMap, asked: GroupChange, store: StoreId | null = null): ClusterMap {
  const next = withGroupChange(map, asked, store);
  if (next === undefined) throw new Error("nothing was changed");
  return next;
}

function shape(map: ClusterMap, index = 0): string {
  const { dataFragments, parityFragments, servers } = currentVersion(map.groups[index] as Group);
  return `${dataFragments}+${parityFragments} ${servers.map(({ member }) => member)} wanted ${map.groups[index]?.wanted}`;
}

function refuses(t: ExecutionContext, map: ClusterMap, asked: GroupChange, message: RegExp): void {
  const error = t.throws(() => withGroupChange(map, asked, null), { instanceOf: DazzleError }, asked.change);
  t.regex(error?.message ?? "", message);
}

test("a server is added, removed and replaced in a new version, and the parity stays", (t) => {
  const map = clusterMap();
  t.is(shape(changed(map, ask("add", ["m4"]))), "3+1 1,2,3,4 wanted 1,2,3,4");
  t.is(shape(changed(map, ask("remove", ["m2"]))), "1+1 1,3 wanted 1,3");
  t.is(shape(changed(map, ask("replace", ["m2", "m4"]))), "2+1 1,4,3 wanted 1,3,4");
  t.is(shape(changed(map, ask("parity", [], { parity: 2 }))), "1+2 1,2,3 wanted 1,2,3");
  t.is(map.groups[0]?.versions.length, 1);
});

test("a group that had too few servers for its parity gets it with the next", (t) => {
  t.is(shape(changed(clusterMap(group([1])), ask("add", ["m4"]))), "1+1 1,4 wanted 1,4");
  t.is(shape(changed(clusterMap(group([1, 2], 2)), ask("add", ["m4"]))), "1+2 1,2,4 wanted 1,2,4");
});

test("a server that was left out is removed and replaced as one that is in", (t) => {
  const out = { ...group([1, 2]), wanted: [1, 2, 3] as MemberId[] };
  t.is(shape(changed(clusterMap(out), ask("remove", ["m3"]))), "1+1 1,2 wanted 1,2");
  t.is(shape(changed(clusterMap(out), ask("replace", ["m3", "m4"]))), "2+1 1,2,4 wanted 1,2,4");
});

test("a second group takes servers that are in none", (t) => {
  const next = changed(clusterMap(), ask("create", ["m4", "m7"], { group: "fast" }));
  t.is(shape(next, 1), "1+1 4,7 wanted 4,7");
  t.is(next.groups[1]?.id, 2 as GroupId);
  refuses(t, next, ask("add", ["m7"]), /m7 is in the group fast.*remove-server fast m7 first/);
  refuses(t, next, ask("create", ["m4"], { group: "fast" }), /fast is there already/);
});

test("a group with a bound has as many data fragments as it asks for, where its servers and its parity leave room for them", (t) => {
  const wide = { group: "wide" };
  const create = ask("create", ["m1", "m2", "m3", "m4", "m7"], wide);
  const made = withGroupChange({ ...clusterMap(), groups: [] }, create, null, 3) as ClusterMap;
  t.is(shape(made), "3+1 1,2,3,4,7 wanted 1,2,3,4,7");
  t.is(made.groups[0]?.dataMax, 3);
  t.notThrows(() => checkMap(made));
  t.throws(() => checkMap({ ...made, groups: made.groups.map((row) => ({ ...row, dataMax: 0 })) }), {
    message: /to have 0 data fragments/,
  });
  t.is(shape(changed(made, ask("parity", [], { ...wide, parity: 2 }))), "3+2 1,2,3,4,7 wanted 1,2,3,4,7");
  const four = changed(made, ask("remove", ["m7"], wide));
  t.is(shape(four), "3+1 1,2,3,4 wanted 1,2,3,4");
  t.is(shape(changed(four, ask("parity", [], { ...wide, parity: 2 }))), "2+2 1,2,3,4 wanted 1,2,3,4");
  const three = changed(four, ask("remove", ["m2"], wide));
  t.is(shape(three), "2+1 1,3,4 wanted 1,3,4");
  t.is(shape(changed(changed(three, ask("add", ["m2"], wide)), ask("add", ["m7"], wide))), "3+1 1,3,4,2,7 wanted 1,3,4,2,7");
  t.is(shape(changed(three, ask("replace", ["m3", "m7"], wide))), "2+1 1,7,4 wanted 1,4,7");
});

test("a bound that the servers of a new group leave no room for is refused", (t) => {
  const create =
    (data: number, parity = 1) =>
    () =>
      withGroupChange(clusterMap(), ask("create", ["m4", "m7"], { group: "wide", parity }), null, data);
  t.throws(create(2), { message: /the group wide has 2 servers, too few for 2 data and 1 parity fragments: that needs 3/ });
  t.throws(create(1, 2), { message: /has 2 servers, too few for 1 data and 2 parity fragments: that needs 3/ });
  t.throws(create(0), { message: /a group has 1 to 253 data fragments, not 0/ });
  t.throws(create(1.5), { message: /not 1.5/ });
  t.notThrows(create(1));
});

test("each wrong wish is refused with what is in the way", (t) => {
  const map = clusterMap();
  refuses(t, map, ask("add", ["m3"]), /m3 is in the group main already/);
  refuses(t, map, ask("add", ["m9"]), /no member m9: there are m1, m2/);
  refuses(t, map, ask("add", ["m5"]), /m5 does not store/);
  refuses(t, map, ask("add", ["m6"]), /m6 has no store: start dazzle node there/);
  refuses(t, map, ask("add", ["m4"], { group: "none" }), /no group none: there are main/);
  refuses(t, { ...map, members: map.members.map((row) => ({ ...row, leaving: row.id === 4 })) }, ask("add", ["m4"]), /m4 is leaving/);
  refuses(t, map, ask("remove", ["m4"]), /m4 is not in the group main: its servers are m1, m2, m3/);
  refuses(t, map, ask("replace", ["m4", "m7"]), /m4 is not in the group main/);
  refuses(t, map, ask("replace", ["m1", "m3"]), /m3 is in the group main already/);
  refuses(t, map, ask("replace", ["m1", "m1"]), /m1 does not answer/);
  refuses(t, map, ask("parity", [], { parity: 3 }), /at most 2 parity, not 3/);
  refuses(t, clusterMap(group([1, 2])), ask("parity", [], { parity: 2 }), /has 2 servers, too few for 2 parity: that needs 3/);
  refuses(t, map, ask("create", ["m4"], { group: "fast" }), /has 1 server, too few for 1 parity: that needs 2/);
  refuses(t, map, ask("create", ["m4", "m4"], { group: "fast" }), /m4 is named twice/);
  refuses(t, map, ask("create", ["m4", "m7"], { group: "a b" }), /"a b" is no name for a group/);
  refuses(t, map, ask("create", ["m3", "m7"], { group: "fast" }), /m3 is in the group main/);
});

test("the last redundancy goes by force alone, which is told what is at risk, and the last server never", (t) => {
  const two = clusterMap(group([1, 2]));
  refuses(t, two, ask("remove", ["m2"]), /0 parity in place of 1, so that the loss of 1 of its servers loses data; with --force/);
  t.is(shape(changed(two, ask("remove", ["m2"], { force: true }))), "1+0 1 wanted 1");
  refuses(t, two, ask("parity", [], { parity: 0 }), /0 parity in place of 1.*--force/);
  t.is(shape(changed(two, ask("parity", [], { parity: 0, force: true }))), "2+0 1,2 wanted 1,2");
  refuses(t, clusterMap(group([1])), ask("remove", ["m1"], { force: true }), /m1 can't be removed: it is the last server/);
});

test("the same wish again changes nothing while things are moved", (t) => {
  const wishes = [ask("add", ["m4"]), ask("remove", ["m2"]), ask("replace", ["m2", "m4"]), ask("parity", [], { parity: 2 })];
  for (const wish of wishes) t.is(withGroupChange(changed(clusterMap(), wish), wish, null), undefined, wish.change);
  const done = changed(clusterMap(), ask("remove", ["m2"]));
  const [main] = done.groups as [Group];
  const moved = { ...done, groups: [{ ...main, versions: main.versions.slice(-1) }] };
  refuses(t, moved, ask("remove", ["m2"]), /m2 is not in the group main/);
});

test("an emptied storage directory is admitted by replacing the server by itself", (t) => {
  const map = clusterMap();
  const wish = ask("replace", ["m2", "m2"]);
  t.throws(() => withGroupChange(map, wish, storeOf(2)), { message: /m2 has the store that the group main lists/ });
  const next = changed(map, wish, storeOf(8));
  t.is(shape(next), "2+1 1,2,3 wanted 1,3,2");
  t.deepEqual(
    currentVersion(next.groups[0] as Group).servers.map(({ store }) => store),
    [storeOf(1), storeOf(8), storeOf(3)],
  );
  t.like(next.members[1], { store: storeOf(8), incarnation: 2 });
  t.is(withGroupChange(next, wish, storeOf(8)), undefined);
});

test("a server that is declared lost serves no store, and its groups go on without it", (t) => {
  const next = withLostServer(clusterMap(), "m2", false) as ClusterMap;
  t.is(shape(next), "1+1 1,3 wanted 1,3");
  t.is(next.members[1]?.store, null);
  t.is(withLostServer(next, "m2", false), undefined);
  t.throws(() => withLostServer(clusterMap(), "m6", false), { message: /m6 stores nothing that could be lost/ });
  t.throws(() => withLostServer(clusterMap(group([1, 2])), "m2", false), { message: /m2 can't be declared lost.*0 parity in place of 1/ });
  t.throws(() => withLostServer(clusterMap(group([1])), "m1", true), { message: /it is the last server/ });
});
