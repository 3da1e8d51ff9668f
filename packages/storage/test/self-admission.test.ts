import {
  type ClusterMap,
  currentVersion,
  type Group,
  type GroupServer,
  type GroupVersion,
  type GroupVersionRow,
  type MapCache,
  type MemberId,
  type StoreId,
} from "@dazzle/core";
import test from "ava";
import { SelfAdmission } from "../src/index.ts";
import { SimBench } from "./support/bench.ts";
import { clusterMap, type MemoryMapStore, mapCache, OTHER_STORE, SELF, versionRow } from "./support/cluster.ts";

interface Setting {
  readonly bench: SimBench;
  readonly cache: MapCache;
  readonly register: MemoryMapStore;
  readonly admission: SelfAdmission;
}

function storeOf(map: ClusterMap): StoreId {
  return currentVersion(groupOf(map)).servers.find(({ member }) => member === SELF)?.store as StoreId;
}

function groupOf(map: ClusterMap): Group {
  return map.groups[0] as Group;
}

/** The group as its writers leave it when this server does not answer. */
function withoutSelf(map: ClusterMap): ClusterMap {
  const group = groupOf(map);
  const current = currentVersion(group);
  const left = { ...versionRow(current.version + 1, []), servers: current.servers.filter(({ member }) => member !== SELF) };
  return { ...map, groups: [{ ...group, versions: [...group.versions, { ...left, dataFragments: 1, parityFragments: 0 }] }] };
}

async function setting(name: string, change: (map: ClusterMap) => ClusterMap = (map) => map): Promise<Setting> {
  const bench = await SimBench.open(name);
  const { cache, register } = mapCache(change(clusterMap(bench.store.storeId)));
  const { clock, logger } = bench.node.ports;
  const admission = new SelfAdmission({ store: bench.store, map: cache, self: SELF, clock, logger });
  admission.start();
  return { bench, cache, register, admission };
}

test("a server that is wanted and left out comes back by itself, with a pause that doubles", async (t) => {
  const { bench, cache, register } = await setting("doubles");
  await bench.world.advance(10_000);
  t.is(cache.version, 1);
  for (const pauseMs of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
    await bench.run(cache.change(withoutSelf));
    const { version } = currentVersion(groupOf(cache.current));
    await bench.world.advance(pauseMs - 50);
    t.is(currentVersion(groupOf(cache.current)).version, version, `not before ${pauseMs} ms`);
    await bench.world.advance(100);
    t.is(currentVersion(groupOf(register.map)).version as number, version + 1);
  }
  const row = currentVersion(groupOf(register.map));
  t.deepEqual(
    row.servers.map(({ store }) => store),
    [bench.store.storeId, OTHER_STORE],
  );
  t.like(row, { dataFragments: 1, parityFragments: 1, frozen: null });
  t.is(bench.store.fence.version >= cache.version - 1, true);
  await bench.world.advance(61_000);
  await bench.run(cache.change(withoutSelf));
  await bench.world.advance(1_050);
  t.is(currentVersion(groupOf(register.map)).servers.length, 2);
});

test("it stays out where it is not wanted, where its store is another, and once it is stopped", async (t) => {
  const unwanted = (map: ClusterMap) => ({ ...map, groups: [{ ...groupOf(map), wanted: [2 as MemberId] }] });
  const emptied = (map: ClusterMap) => {
    const group = groupOf(map);
    return { ...map, members: [], groups: [{ ...group, versions: [versionRow(1, ["d".repeat(32) as StoreId, OTHER_STORE])] }] };
  };
  for (const change of [unwanted, emptied]) {
    const { bench, cache } = await setting("out", (map) => withoutSelf(change(map)));
    await bench.world.advance(5_000);
    t.is(cache.version, 1);
  }
  const { bench, cache, admission } = await setting("stopped", withoutSelf);
  admission.stop();
  await bench.world.advance(5_000);
  t.is(cache.version, 1);
});

test("it comes back to the place it had in the widest version, whoever was left out before it and is back", async (t) => {
  const { bench, register } = await setting("place", (map) => {
    const group = groupOf(map);
    const servers = [2, 3, 1, 4, 5].map((id) => ({
      member: id as MemberId,
      store: id === SELF ? storeOf(map) : (`${id}`.repeat(32) as StoreId),
    }));
    const version = (number: number, members: readonly number[]) => ({
      ...versionRow(number, []),
      servers: members.map((id) => servers.find(({ member }) => member === id) as GroupServer),
      ...{ dataFragments: 1, parityFragments: 1 },
    });
    const versions = [version(1, [2, 3, 1, 4, 5]), version(2, [2, 3, 1, 5]), version(3, [2, 3, 5]), version(4, [2, 3, 4, 5])];
    return { ...map, groups: [{ ...group, versions }] };
  });
  await bench.world.advance(1_050);
  const { version, servers } = currentVersion(groupOf(register.map));
  t.is(version, 5 as GroupVersion);
  t.deepEqual(
    servers.map(({ member }) => member as number),
    [2, 3, 1, 4, 5],
  );
});

test("a server that was replaced by itself comes back while versions still name the store that it had", async (t) => {
  const replaced = (map: ClusterMap) => {
    const [present] = groupOf(map).versions as [GroupVersionRow];
    const former = versionRow(1, ["d".repeat(32) as StoreId, OTHER_STORE]);
    return { ...map, groups: [{ ...groupOf(map), versions: [former, { ...present, version: 2 as GroupVersion }] }] };
  };
  const { bench, register } = await setting("replaced", (map) => withoutSelf(replaced(map)));
  await bench.world.advance(1_050);
  t.deepEqual(
    currentVersion(groupOf(register.map)).servers.map(({ store }) => store),
    [bench.store.storeId, OTHER_STORE],
  );
});

test("an emptied directory stays out while the map lists the store that was there", async (t) => {
  const bench = await SimBench.open("emptied");
  const former = "d".repeat(32) as StoreId;
  const map = clusterMap(former);
  const { cache } = mapCache(withoutSelf({ ...map, groups: [{ ...groupOf(map), versions: [versionRow(1, [former, OTHER_STORE])] }] }));
  const { clock, logger } = bench.node.ports;
  new SelfAdmission({ store: bench.store, map: cache, self: SELF, clock, logger }).start();
  await bench.world.advance(5_000);
  t.is(cache.version, 1);
});

test("a store that failed stays out, and tries again", async (t) => {
  const { bench, cache } = await setting("unhealthy", withoutSelf);
  await bench.run(bench.store.close());
  await bench.world.advance(20_000);
  t.is(cache.version, 1);
});

test("it fails no attempt for a map that moved on meanwhile, and adds no number twice", async (t) => {
  const { bench, cache, register } = await setting("moved", withoutSelf);
  register.map = { ...register.map, version: register.map.version + 1, nextLog: 21 };
  await bench.world.advance(1_200);
  const group = groupOf(register.map);
  t.is(register.map.nextLog, 21);
  t.deepEqual(
    group.versions.map(({ version }) => version),
    [1, 2, 3] as never,
  );
  t.is(cache.version, register.map.version);
});
