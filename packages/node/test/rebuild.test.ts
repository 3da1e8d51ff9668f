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

/** The fragment that SELF holds. */
const HELD = {
  ...{ log: LOG, sequence: 1, group: GROUP, groupVersion: 1, index: 0, dataFragments: 1, parityFragments: 0 },
  ...{ payloadBytes: 4_096, dataBytes: 4_096, bytesSince: 0, summaryOffset: 4_000 },
};

type Answer = (member: MemberId, request: unknown) => unknown;

function rebuildOf(begun: ClusterMap, answers: Partial<Record<MessageName, Answer>>) {
  const world = new World(1);
  const { ports } = world.spawn("node");
  let current = begun;
  const compareAndSwap = async (_expected: number, next: ClusterMap) => {
    current = next;
  };
  const map = new MapCache({ read: async () => current, compareAndSwap }, current);
  const all: typeof answers = {
    adopt: (member) => ({ version: map.version, store: storeOf(member), boot: "boot" }),
    list: (member) => ({
      fragments: member === SELF ? [HELD] : [],
      more: false,
      stableSequence: 0,
      trimmedTo: 0,
      vouched: true,
      boot: "boot",
    }),
    ...answers,
  };
  const peers = {
    call: async (member: MemberId, message: MessageName, request: unknown) => {
      const answer = all[message];
      if (answer === undefined) throw new DazzleError("unreachable", `${message} to m${member}`);
      return { reply: answer(member, request), tail: [] };
    },
    connected: () => undefined,
  } as unknown as Peers;
  const rebuild = new Rebuild({ map, peers, ports, limits: LIMITS, self: SELF, store: { storeId: storeOf(SELF), operations: 0 } });
  return { world, rebuild, versions: () => current.groups[0]?.versions.map((row) => Number(row.version)) };
}

test("a segment that always fails to move keeps its own version in the map, and no other", async (t) => {
  const { world, rebuild, versions } = rebuildOf(clusterMap(), {});
  rebuild.start();
  await world.run(() => versions()?.length !== 3, 60_000);
  await world.advance(60_000);
  rebuild.stop();
  t.deepEqual(versions(), [1, 3]);
  t.like(rebuild.status[0], { group: "main", versions: [1], segmentsLeft: 1, lost: 0 });
  t.regex(rebuild.status[0]?.waits.join() ?? "", /unreachable/);
});

test("what lies under a version that has left the map is deleted within a minute of when who is silent answers", async (t) => {
  const map = clusterMap();
  const groups = map.groups.map((group) => ({ ...group, versions: group.versions.slice(-1) }));
  let isSilent = true;
  const deleted: unknown[] = [];
  const { world, rebuild } = rebuildOf(
    { ...map, groups },
    {
      liveAmong: () => {
        if (isSilent) throw new DazzleError("unreachable", "liveAmong");
        const slots = Array.from({ length: SLOTS }, (_, slot) => slot);
        return { live: [], trimmedTo: 1, slots, terms: slots.map(() => 1) };
      },
      delete: (member, request) => deleted.push([member, request]),
    },
  );
  rebuild.start();
  await world.advance(40_000);
  t.deepEqual(deleted, []);
  isSilent = false;
  await world.advance(60_000);
  rebuild.stop();
  t.like(deleted, [[SELF, { log: LOG, sequences: [1], groupVersion: 1 }]]);
});

const THIRD = 3 as MemberId;
const EMPTY_LIST = { fragments: [], more: false, stableSequence: 0, trimmedTo: 0, vouched: true, boot: "boot" };

/** A group of three from which the third was taken out, and where everything was moved. */
function drainedMap(wanted: readonly MemberId[]): ClusterMap {
  const map = clusterMap();
  const members = [...map.members, { ...(map.members[0] as Member), id: THIRD, name: "m3", store: storeOf(3) }];
  const versions = [
    { ...version(1, [SELF, OTHER, THIRD]), dataFragments: 2, frozen: {} },
    { ...version(2, [SELF, OTHER]), frozen: null },
  ];
  return { ...map, members, nextMember: 4, groups: map.groups.map((group) => ({ ...group, wanted, versions })) };
}

for (const isWanted of [false, true])
  test(`a server that can't look what it holds ${isWanted ? "is waited for where its group wants it" : "keeps no version in the map that wants it no more"}`, async (t) => {
    const { world, rebuild, versions } = rebuildOf(drainedMap(isWanted ? [SELF, OTHER, THIRD] : [SELF, OTHER]), {
      list: () => EMPTY_LIST,
      heldUnder: (member) => {
        if (member === THIRD) throw new DazzleError("diskFailed", "heldUnder");
        return { store: storeOf(member), segments: 0, vouched: true };
      },
    });
    rebuild.start();
    await world.advance(3_600_000);
    rebuild.stop();
    t.deepEqual(versions(), isWanted ? [1, 2] : [2]);
  });

test("a server whose disk hangs after a look does not tell what that found for ever", async (t) => {
  let isHanging = false;
  const { world, rebuild } = rebuildOf(clusterMap(), {
    adopt: (member) => {
      if (member === SELF && isHanging) throw new DazzleError("timedOut", "adopt");
      return { version: 100, store: storeOf(member), boot: "boot" };
    },
  });
  const held = (group: number, number: number) => rebuild.handlers.heldUnder?.({ group, version: number }, {} as never);
  t.throws(() => held(GROUP, 1), { code: "notReady" });
  rebuild.start();
  await world.advance(60_000);
  t.like(held(GROUP, 1), { reply: { segments: 1 } });
  isHanging = true;
  await world.advance(60_000);
  rebuild.stop();
  t.throws(() => held(GROUP, 1), { code: "diskFailed" });
  t.like(held(GROUP, 2), { reply: { segments: 0 } });
});

test("a server that has yet to look what it holds keeps a version in the map until it has looked", async (t) => {
  let hasLooked = false;
  const { world, rebuild, versions } = rebuildOf(drainedMap([SELF, OTHER]), {
    list: () => EMPTY_LIST,
    heldUnder: (member) => {
      if (member === THIRD && !hasLooked) throw new DazzleError("notReady", "heldUnder");
      return { store: storeOf(member), segments: 0, vouched: true };
    },
  });
  rebuild.start();
  await world.advance(60_000);
  t.deepEqual(versions(), [1, 2]);
  t.regex(rebuild.status[0]?.waits.join() ?? "", /m3 has not looked yet/);
  hasLooked = true;
  await world.advance(60_000);
  rebuild.stop();
  t.deepEqual(versions(), [2]);
});

for (const doubtful of [SELF, OTHER])
  test(`where a server does not vouch for what it lists, one that is silent keeps a version in the map: m${doubtful}`, async (t) => {
    let isSilent = true;
    const vouches = (member: MemberId) => member !== doubtful;
    const { world, rebuild, versions } = rebuildOf(drainedMap([SELF, OTHER]), {
      list: (member) => ({ ...EMPTY_LIST, vouched: vouches(member) }),
      heldUnder: (member) => {
        if (member === THIRD && isSilent) throw new DazzleError("unreachable", "heldUnder");
        return { store: storeOf(member), segments: 0, vouched: vouches(member) };
      },
    });
    const held = (number: number) => rebuild.handlers.heldUnder?.({ group: GROUP, version: number }, {} as never);
    rebuild.start();
    await world.advance(60_000);
    t.deepEqual(versions(), [1, 2]);
    t.like(held(1), { reply: { segments: 0, vouched: vouches(SELF) } });
    isSilent = false;
    await world.advance(60_000);
    rebuild.stop();
    t.deepEqual(versions(), [2]);
  });

test("a server whose storage directory was emptied does not pass for one that has yet to look", (t) => {
  const map = clusterMap();
  const members = map.members.map((member) => (member.id === SELF ? { ...member, store: storeOf(THIRD) } : member));
  const { rebuild } = rebuildOf({ ...map, members }, {});
  t.throws(() => rebuild.handlers.heldUnder?.({ group: GROUP, version: 1 }, {} as never), { code: "diskFailed" });
});
