import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster, type TestMount } from "./support/cluster.ts";
import { FileModel } from "./support/file-model.ts";

const SEEDS = Number(process.env.DAZZLE_SEEDS ?? 8);

async function begin(seed: number): Promise<{ world: World; cluster: Cluster; mount: TestMount; model: FileModel }> {
  const world = new World(seed);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const numbers: number[] = [];
  for (const slot of [1, 2, 3, 40]) {
    const { reply } = await world.run(mount.call("numbers", { slot, count: 100 }));
    for (let index = 0; index < reply.count; index++) numbers.push(reply.first + 64 * index);
  }
  return { world, cluster, mount, model: new FileModel(world.random, numbers) };
}

/** A transaction of the model, logged; whether it is shipped is left to the caller. */
function write({ world, mount, model }: Awaited<ReturnType<typeof begin>>): Promise<number> {
  return world.run(mount.write(model.transaction(mount.log, mount.lastShipped + 1)));
}

test("a manager that is killed at any moment loses nothing that was stable, and the rest is shipped again", async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster, mount, model } = bench;
    for (let round = 0; round < 12; round++) {
      for (let step = 5 + world.random.below(40); step > 0; step--) {
        await write(bench);
        const { sequence, previous, bytes } = mount.unstable.at(-1) as (typeof mount.unstable)[number];
        if (mount.unstable.length === 1 || world.random.below(3) > 0) await world.run(mount.ship());
        else if (world.random.below(4) === 0) await world.run(mount.shipOne(sequence, previous, bytes).catch(() => {}));
        if (world.random.below(8) === 0) await world.run(mount.settle());
        if (world.random.below(6) === 0) await world.advance(world.random.below(900));
      }
      // Now and then in the middle of a checkpoint.
      if (world.random.below(3) === 0) cluster.manager.parts?.checkpointer.start();
      await world.advance(world.random.below(8));
      const stable = new Map(mount.stableOfSlot);
      if (world.random.below(2) === 0) await world.run(cluster.checkInvariants());
      await world.run(cluster.restart());
      const opened = await world.run(mount.open());
      for (const [index, slot] of opened.slots.entries()) {
        const [applied, was] = [opened.applied[index] as number, stable.get(slot) ?? 0];
        t.true(applied >= was, `seed ${seed} round ${round}: slot ${slot} is applied up to ${applied}, ${was} was stable`);
      }
      await world.run(mount.ship());
      await world.run(cluster.manager.opened);
      t.deepEqual(await world.run(model.differences(mount)), [], `seed ${seed} round ${round}`);
      await world.run(cluster.checkInvariants());
    }
    t.true(cluster.manager.journal.stableSequence > 0);
  }
});

test("a mount that is killed is recovered from its log: the next one finds everything it had made stable", async (t) => {
  for (let seed = 100; seed < 100 + SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster, mount, model } = bench;
    for (let step = 20 + world.random.below(40); step > 0; step--) {
      await write(bench);
      if (world.random.below(2) === 0) await world.run(mount.ship());
    }
    // What is in its log and was not shipped is applied by the manager, alive or started anew.
    const together = world.random.below(2) === 0;
    mount.kill();
    if (together) await world.run(cluster.restart());
    const next = await world.run(cluster.mount("next"));
    await world.run(() => mount.state === "closed");
    model.dropOrphans();
    t.deepEqual(await world.run(model.differences(next)), [], `seed ${seed}`);
    await world.run(cluster.checkInvariants());
    for (const shard of cluster.manager.parts?.host.shards ?? []) t.is(shard.orphans.size, 0);
  }
});

test("segments go when nothing in them is needed, and none before", async (t) => {
  for (let seed = 200; seed < 200 + SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster, mount, model } = bench;
    cluster.onDelete = (log, sequence) => {
      if (log !== mount.log) return;
      t.true(sequence <= mount.trimmedTo, `seed ${seed}: ${log}/${sequence} is above ${mount.trimmedTo}`);
      t.false(model.liveSegments().has(`${log}/${sequence}`), `seed ${seed}: ${log}/${sequence} is live`);
    };
    for (let round = 0; round < 6; round++) {
      for (let step = 40; step > 0; step--) {
        await write(bench);
        await world.run(mount.ship());
        if (world.random.below(10) === 0) await world.run(mount.settle());
      }
      cluster.storageAway = world.random.below(3) === 0;
      if (world.random.below(2) === 0) {
        await world.run(cluster.restart());
        await world.run(mount.open());
        await world.run(mount.ship());
        await world.run(cluster.manager.opened);
      }
      await world.advance(2_000);
    }
    cluster.storageAway = false;
    // Within 10 s, retries for servers that were away included.
    for (let second = 0; second < 10; second++) {
      await world.run(mount.settle());
      await world.advance(1_000);
    }
    const held = cluster.logs.sequencesOf(mount.log).map((sequence) => `${mount.log}/${sequence}`);
    t.deepEqual(
      held,
      [...model.liveSegments()].sort((one, other) => Number(one.split("/")[1]) - Number(other.split("/")[1])),
      `seed ${seed}`,
    );
    t.deepEqual(await world.run(model.differences(mount)), [], `seed ${seed}`);
  }
});
