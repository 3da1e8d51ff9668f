import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const LIMIT_MS = 60_000;

test("a version that was replaced by an admission is frozen, so that no log waits for its servers", async (t) => {
  const world = new World(1);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const { map } = cluster.node(1);
  const versions = () => map.current.groups[0]?.versions ?? [];
  const { client } = await cluster.mount();
  cluster.kill(3);
  for (let round = 0; versions().length < 2; round++) {
    const { entry } = await world.run(client.fileSystem.create({ uid: 0, gid: 0, pid: 1 }, 1, `file${round}`, 0o644, 2), LIMIT_MS);
    t.truthy(entry);
    await world.run(client.sync(), LIMIT_MS);
  }
  await cluster.startNode(3);
  await world.run(() => versions().length >= 3, LIMIT_MS);
  await world.run(
    () =>
      versions()
        .slice(0, -1)
        .every(({ frozen }) => frozen !== null),
    LIMIT_MS,
  );
  t.is(versions().at(-1)?.frozen, null);
});
