import { type ClusterMap, MapCache, type MemberId, withLog } from "@dazzle/core";
import { checkMap, initialMap, keeperHandlers, LocalMapStore } from "@dazzle/manager";
import { World } from "@dazzle/sim";
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

test("a change that was answered is there after a power cut, and one register never serves two writers the same version", async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const world = new World(seed);
    let node = world.spawn("node");
    let store = await world.run(LocalMapStore.create(node.disk, "map", FIRST));
    await t.throwsAsync(world.run(LocalMapStore.create(node.disk, "map", FIRST)), { code: "exists" });
    let answered = 1;
    for (let round = 0; round < 8; round++) {
      const expected = store.current.version;
      const next = { ...withNewLog(store.current), version: expected + 1 };
      const write = () => store.compareAndSwap(expected, next).catch((error) => error);
      const writes = Promise.all([write(), write()]);
      if (world.random.below(2) === 0) {
        const outcomes = await world.run(writes);
        t.is(outcomes[0], undefined);
        t.is(outcomes[1].code, "versionConflict");
        answered = expected + 1;
        continue;
      }
      await world.advance(world.random.below(3));
      world.powerCut();
      node = world.spawn("node");
      store = (await world.run(LocalMapStore.open(node.disk, "map"))) as LocalMapStore;
      t.true(store.current.version >= answered, `seed ${seed}`);
      t.notThrows(() => checkMap(store.current));
    }
  }
});

test("a map that contradicts itself or what was decided is refused", async (t) => {
  const world = new World(1);
  const store = await world.run(LocalMapStore.create(world.spawn("node").disk, "map", FIRST));
  const map = new MapCache(store, store.current);
  const one = await world.run(map.change(withNewLog));
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
  ];
  for (const change of wrong) await t.throwsAsync(world.run(map.change(change)), { code: "badMessage" }, String(change));
  await t.throwsAsync(world.run(store.compareAndSwap(one.version, { ...one, version: one.version + 1 })), { code: "versionConflict" });
  const current = store.current;
  await t.throwsAsync(world.run(store.compareAndSwap(current.version, { ...current, version: current.version + 2 })), {
    code: "badMessage",
  });
  const handlers = keeperHandlers(store);
  const context = { peer: undefined, signal: new AbortController().signal, tail: [] };
  t.deepEqual(await handlers.mapRead?.({}, context), { reply: { map: current } });
});

test("a damaged register is told, not served", async (t) => {
  const world = new World(1);
  const { disk } = world.spawn("node");
  await world.run(LocalMapStore.create(disk, "map", FIRST));
  const bytes = (await world.run(disk.readWhole("map"))) as Uint8Array;
  bytes[100] = (bytes[100] as number) ^ 1;
  await world.run(disk.replace("map", bytes));
  await t.throwsAsync(world.run(LocalMapStore.open(disk, "map")), { code: "corrupt" });
});
