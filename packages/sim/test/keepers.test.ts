import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { readFile, writeFile } from "./support/files.ts";

const LIMIT_MS = 120_000;

test("a cluster goes on without its first machine, which began it and kept its map, and takes it back", async (t) => {
  const world = new World(1);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 4, parity: 1, managers: 4, keepers: 3 });
  await cluster.startAll();
  const map = () => cluster.node(2).map.current;
  await world.run(() => map().keepers.length === 3 && map().formerKeepers.length === 0, LIMIT_MS);
  const { client } = await cluster.mount();
  await world.run(writeFile(client.fileSystem, "before", "of before"), LIMIT_MS);
  cluster.kill(1);
  await world.run(writeFile(client.fileSystem, "without", "of without"), LIMIT_MS);
  const other = await cluster.mount();
  for (const name of ["before", "without"])
    t.is((await world.run(readFile(other.client.fileSystem, name), LIMIT_MS)).toString(), `of ${name}`);
  await cluster.startNode(1);
  cluster.kill(2);
  await world.run(writeFile(other.client.fileSystem, "after", "of after"), LIMIT_MS);
  for (const name of ["before", "without", "after"])
    t.is((await world.run(readFile(client.fileSystem, name), LIMIT_MS)).toString(), `of ${name}`);
});
