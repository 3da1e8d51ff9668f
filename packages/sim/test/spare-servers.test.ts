import { currentVersion } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

test("three servers for which the first group has no room make a group by themselves", async (t) => {
  const world = new World(11);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 11, second: 3, parity: 1 });
  await cluster.startAll();
  await world.run(() => cluster.node(1).map.current.groups.length === 2, 60_000);
  await world.advance(3_000);
  const { groups } = cluster.node(1).map.current;
  t.deepEqual(
    groups.map((group) => `${group.name}: ${currentVersion(group).dataFragments}+${currentVersion(group).parityFragments}`),
    ["main: 7+1", "group2: 2+1"],
  );
});
