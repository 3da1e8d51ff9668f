import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster } from "./support/cluster.ts";

test("no index number is ever leased twice, whenever the manager is killed", async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const world = new World(seed);
    const cluster = new Cluster(world);
    await world.run(cluster.start());
    const mount = await world.run(cluster.mount("mount"));
    const next = new Map<number, number>();
    for (let round = 0; round < 5; round++) {
      for (let step = world.random.below(12); step > 0; step--) {
        const slot = world.random.below(2);
        const leasing = mount.call("numbers", { slot, count: 1 + world.random.below(60_000) }).catch(() => undefined);
        if (world.random.below(4) === 0) await world.run(mount.call("renew", { trimmedTo: 0, settle: true }));
        if (world.random.below(6) === 0) cluster.manager.parts?.checkpointer.start();
        const answer = await world.run(leasing);
        if (answer === undefined) continue;
        const { first, count } = answer.reply;
        t.true(first >= (next.get(slot) ?? 2), `seed ${seed}: ${first} of slot ${slot} was given out`);
        t.is(first % 64, slot);
        next.set(slot, first + 64 * count);
      }
      await world.advance(world.random.below(20));
      await world.run(cluster.restart());
      await world.run(mount.open());
      await world.run(cluster.manager.opened);
    }
  }
});

test("0 and 1 are never leased", async (t) => {
  const world = new World(1);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  t.is((await world.run(mount.call("numbers", { slot: 0, count: 1 }))).reply.first, 64);
  t.is((await world.run(mount.call("numbers", { slot: 1, count: 1 }))).reply.first, 65);
});
