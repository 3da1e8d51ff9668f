import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { readFile, writeFile } from "./support/files.ts";

const LIMIT_MS = 120_000;
const RESTARTS = 40;
const CHAIN_MAX = 16;

for (const when of ["as soon as it has a log", "as soon as its slots are open"])
  test(`a manager that is killed over and over, ${when}, keeps the chains in the map short`, async (t) => {
    const world = new World(1);
    const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
    await cluster.startAll();
    const names: string[] = [];
    let longest = 0;
    for (let restart = 0; restart < RESTARTS; restart++) {
      if (restart % 10 === 0) {
        const { client } = await cluster.mount();
        names.push(`f${restart}`);
        await world.run(writeFile(client.fileSystem, `f${restart}`, `of f${restart}`), LIMIT_MS);
        await world.run(client.close(), LIMIT_MS);
      }
      cluster.kill(1);
      await cluster.startNode(1);
      const node = cluster.node(1);
      await world.run(() => node.manager !== null, LIMIT_MS);
      if (when.endsWith("open")) await world.run(node.managing, LIMIT_MS);
      longest = Math.max(longest, ...node.map.current.slots.map(({ chain }) => chain.length));
    }
    t.true(longest > 2 && longest <= CHAIN_MAX, `${longest}`);
    const { client } = await cluster.mount();
    for (const name of names) t.is((await world.run(readFile(client.fileSystem, name), LIMIT_MS)).toString(), `of ${name}`);
    await world.run(cluster.node(1).checkInvariants(), LIMIT_MS);
  });
