import {
  type Ballot,
  type ClusterMap,
  checkMap,
  type Handlers,
  LIMITS,
  MapCache,
  MapRegister,
  type MemberId,
  Peers,
  withLog,
} from "@dazzle/core";
import { Acceptor, FIRST_BALLOT, initialMap, keeperHandlers, LeaseBook } from "@dazzle/manager";
import { type Instance, World } from "@dazzle/sim";
import test from "ava";

const MEMBER = 1 as MemberId;
const FIRST = initialMap({
  clusterId: "0123456789abcdef0123456789abcdef",
  members: [{ id: MEMBER, name: "node", addresses: ["unix:a"], roles: ["keeper"], incarnation: 1, leaving: false, store: null }],
  manager: MEMBER,
});

function withNewLog(map: ClusterMap): ClusterMap {
  const row = { kind: "mount", member: MEMBER, process: "p", state: "live", groups: [], end: null, label: "" } as const;
  return { ...map, nextLog: map.nextLog + 1, logs: [...map.logs, { ...row, id: map.nextLog as never }] };
}

const ballot = (counter: number, proposer = "one"): Ballot => ({ counter, proposer });

/** A process whose own keeper is the only one. */
function cacheOf({ ports }: Instance, acceptor: Acceptor): MapCache {
  const leases = new LeaseBook({ clock: ports.clock, limits: LIMITS, map: () => map.current });
  const handlers: Handlers = keeperHandlers(
    () => acceptor,
    () => leases,
  );
  const map: MapCache = new MapCache(new MapRegister({ ...ports, peers: () => peers, map: FIRST }), FIRST);
  const peers: Peers = new Peers({ ...ports, map, handlers, self: MEMBER });
  return map;
}

function created({ disk }: Instance): Promise<Acceptor> {
  return Acceptor.create(disk, "map", { map: FIRST, accepted: FIRST_BALLOT });
}

test("what a keeper promised and accepted is there after a power cut", async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const world = new World(seed);
    let node = world.spawn("node");
    let keeper = await world.run(created(node));
    await t.throwsAsync(world.run(created(node)), { code: "exists" });
    let told = keeper.state;
    for (let counter = 2; counter < 12; counter++) {
      const { version } = keeper.state.map;
      const changing = world.random.chance(0.5)
        ? keeper.prepare(ballot(counter))
        : keeper.accept(ballot(counter), { ...withNewLog(keeper.state.map), version: version + 1 });
      changing.then(
        (state) => {
          told = state;
        },
        () => {},
      );
      if (world.random.chance(0.5)) {
        await world.run(changing);
        continue;
      }
      await world.advance(world.random.below(3));
      world.powerCut();
      node = world.spawn("node");
      keeper = (await world.run(Acceptor.open(node.disk, "map"))) as Acceptor;
      t.true(keeper.state.promised.counter >= told.promised.counter, `seed ${seed}`);
      t.true(keeper.state.accepted.counter >= told.accepted.counter, `seed ${seed}`);
      t.notThrows(() => checkMap(keeper.state.map));
    }
  }
});

test("a keeper takes nothing of an earlier ballot than it promised, and of one ballot what comes", async (t) => {
  const world = new World(1);
  const keeper = await world.run(created(world.spawn("node")));
  const next = { ...withNewLog(FIRST), version: 2 };
  t.like(await world.run(keeper.prepare(ballot(5, "b"))), { promised: ballot(5, "b"), accepted: FIRST_BALLOT });
  t.like(await world.run(keeper.prepare(ballot(5, "a"))), { promised: ballot(5, "b") });
  t.like(await world.run(keeper.accept(ballot(5, "a"), next)), { promised: ballot(5, "b"), map: FIRST });
  t.like(await world.run(keeper.accept(ballot(4, "z"), next)), { promised: ballot(5, "b"), map: FIRST });
  t.like(await world.run(keeper.accept(ballot(5, "b"), next)), { promised: ballot(5, "b"), accepted: ballot(5, "b"), map: next });
  t.like(await world.run(keeper.accept(ballot(6, "a"), FIRST)), { promised: ballot(6, "a"), accepted: ballot(6, "a"), map: FIRST });
  t.like(await world.run(keeper.prepare(ballot(5, "b"))), { promised: ballot(6, "a") });
  await t.throwsAsync(world.run(keeper.accept(ballot(7), { ...next, clusterId: "ff".repeat(16) })), { code: "wrongCluster" });
  await t.throwsAsync(world.run(keeper.accept(ballot(7), { ...next, slots: [] })), { code: "badMessage" });
});

test("a map that contradicts itself or what was decided is refused", async (t) => {
  const world = new World(1);
  const node = world.spawn("node");
  const keeper = await world.run(created(node));
  const map = cacheOf(node, keeper);
  await world.run(map.change(withNewLog));
  await world.run(map.change((now) => withLog(now, 1, { state: "ended", end: 7 })));
  const wrong: Array<(now: ClusterMap) => ClusterMap> = [
    (now) => withLog(now, 1, { end: 8 }),
    (now) => withLog(now, 1, { state: "live", end: null }),
    (now) => ({ ...now, nextLog: 1 }),
    (now) => ({ ...now, logs: [...now.logs, ...now.logs] }),
    (now) => ({ ...now, members: [...now.members, ...now.members] }),
    (now) => ({ ...now, slots: now.slots.slice(1) }),
    (now) => ({ ...now, slots: now.slots.map((slot) => ({ ...slot, term: 0 })) }),
    (now) => ({ ...now, clusterId: "ff".repeat(16) }),
    (now) => ({ ...now, format: 9 as 2 }),
    (now) => ({ ...now, keepers: [] }),
    (now) => ({ ...now, keepers: [2 as MemberId] }),
  ];
  for (const change of wrong) await t.throwsAsync(world.run(map.change(change)), { code: "badMessage" }, String(change));
  t.is(keeper.state.map.version, 3);
});

test("keepers change by way of a map that names both sets", async (t) => {
  const world = new World(1);
  const node = world.spawn("node");
  const keeper = await world.run(created(node));
  const map = cacheOf(node, keeper);
  const ids = [1, 2, 3, 4] as MemberId[];
  const members = ids.map((id) => ({ ...FIRST.members[0]!, id, name: `node${id}`, addresses: [`unix:${id}`] }));
  await world.run(map.change((now) => ({ ...now, nextMember: 5, members })));
  const sets = (keepers: number[], formerKeepers: number[]) => (now: ClusterMap) => ({
    ...now,
    keepers: keepers as MemberId[],
    formerKeepers: formerKeepers as MemberId[],
  });
  for (const change of [sets([1, 2, 3], []), sets([1, 2, 3], [2]), sets([1, 2], [1]), sets([1, 1, 2], [1])])
    await t.throwsAsync(world.run(map.change(change)), { code: "badMessage" });
  const next = { ...map.current, keepers: ids.slice(0, 3), formerKeepers: ids.slice(0, 1), version: map.version + 1 };
  // The new keepers are not there: nobody can decide it, and it may still come.
  await t.throwsAsync(world.run(map.change(() => next)), { code: "unreachable" });
  t.deepEqual(keeper.state.map, next);
});

test("a damaged register is told, not served", async (t) => {
  const world = new World(1);
  const node = world.spawn("node");
  await world.run(created(node));
  const bytes = (await world.run(node.disk.readWhole("map"))) as Uint8Array;
  bytes[100] = (bytes[100] as number) ^ 1;
  await world.run(node.disk.replace("map", bytes));
  await t.throwsAsync(world.run(Acceptor.open(node.disk, "map")), { code: "corrupt" });
});

test("who reads the map while others come between all the time has what they decide", async (t) => {
  const world = new World(1);
  const { ports } = world.spawn("reader");
  const [row] = FIRST.members;
  const members = [1, 2, 3].map((id) => ({ ...(row as (typeof FIRST.members)[0]), id: id as MemberId, name: `m${id}` }));
  const map = { ...FIRST, members, keepers: members.map(({ id }) => id) };
  let looks = 0;
  const callMember = async ({ id }: { readonly id: number }, message: string, request: { readonly ballot?: Ballot }) => {
    if (message === "mapState") looks++;
    // What is on its way is at each keeper under another ballot, for longer than a reader only looks.
    const accepted = ballot(5, looks > 5 * members.length ? "writer" : `writer ${id}`);
    return { reply: { promised: ballot((request.ballot?.counter ?? 5) + 1, "another"), accepted, map }, tail: [] };
  };
  const peers = { callMember, self: null } as unknown as Peers;
  const register = new MapRegister({ ...ports, peers: () => peers, map });
  t.is(await world.run(register.read()), map);
});
