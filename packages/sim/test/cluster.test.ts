import { runScenario, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { readFile, writeFile } from "./support/files.ts";

const LIMIT_MS = 60_000;

function newCluster(seed: number) {
  const world = new World(seed);
  return { world, cluster: new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 }) };
}

test("a file that was synced is there after a power cut of everything, and after a clean end", async (t) => {
  const { world, cluster } = newCluster(1);
  const bytes = Buffer.from(world.random.bytes(100_000));
  await cluster.startAll();
  let mount: SimMount = await cluster.mount();
  await world.run(writeFile(mount.client.fileSystem, "f", bytes), LIMIT_MS);
  world.powerCut();
  await cluster.startAll();
  mount = await cluster.mount();
  t.true((await world.run(readFile(mount.client.fileSystem, "f"), LIMIT_MS)).equals(bytes));
  await world.run(mount.client.close(), LIMIT_MS);
  for (const number of [3, 2, 1]) {
    await world.run(cluster.node(number).stop(), LIMIT_MS);
    cluster.kill(number);
  }
  await cluster.startAll();
  mount = await cluster.mount();
  t.true((await world.run(readFile(mount.client.fileSystem, "f"), LIMIT_MS)).equals(bytes));
});

test("what a mount wrote another one reads at once", async (t) => {
  const { world, cluster } = newCluster(2);
  await cluster.startAll();
  const [one, other] = [await cluster.mount(), await cluster.mount()];
  const bytes = Buffer.from(world.random.bytes(30_000));
  await world.run(writeFile(one.client.fileSystem, "f", bytes), LIMIT_MS);
  t.true((await world.run(readFile(other.client.fileSystem, "f"), LIMIT_MS)).equals(bytes));
});

test("one seed decides everything that a cluster does", async (t) => {
  const runs = [await runScenario({ seed: 3, operations: 300 }), await runScenario({ seed: 3, operations: 300 })];
  t.deepEqual(runs[0], runs[1]);
});
