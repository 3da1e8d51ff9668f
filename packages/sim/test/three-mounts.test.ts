import { memberId, SLOTS } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, type Workload, World } from "@dazzle/sim";
import test from "ava";
import { workloadsOn } from "./support/workloads.ts";

const LIMIT_MS = 180_000;
const NODES = [1, 2, 3];
const STEPS = 150;
const MOVED_SLOTS = 12;
const MOVE_LIMIT_MS = 20_000;

for (const seed of [1, 2]) {
  test(`three mounts agree with one filesystem while slots move and any of three managers dies, seed=${seed}`, async (t) => {
    const world = new World(seed);
    const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers: 3, parity: 1 });
    await cluster.startAll();
    const slotsOf = (number: number) => cluster.node(1).map.current.slots.filter(({ manager }) => manager === number).length;
    await world.run(() => NODES.every((number) => slotsOf(number) >= Math.floor(SLOTS / 3)), LIMIT_MS);
    const mounts = [await cluster.mount(), await cluster.mount(), await cluster.mount()];
    const workloads = workloadsOn(world, mounts);
    let over = false;
    let [moves, kills] = [0, 0];
    const pause = (ms: number) => new Promise<void>((resolve) => world.after(ms, resolve));
    const moving = async () => {
      while (!over) {
        // A node that is killed never answers.
        const asked = cluster
          .node(1)
          .peers.call(memberId(1), "moveSlot", { slot: world.random.below(MOVED_SLOTS), member: 1 + world.random.below(3) })
          .then(
            () => moves++,
            () => {},
          );
        await Promise.race([asked, pause(MOVE_LIMIT_MS)]);
        await pause(world.random.below(3_000));
      }
    };
    const killing = async () => {
      for (; !over; kills++) {
        await pause(1_000 + world.random.below(15_000));
        const number = 1 + world.random.below(3);
        cluster.kill(number);
        // Some are back before they are missed.
        await pause(world.random.below(2) === 0 ? 300 : 9_000);
        await cluster.launchNode(number);
      }
    };
    const disturbed = Promise.all([moving(), killing()]);
    for (let step = 0; step < STEPS; step++) {
      await world.run((world.random.pick(workloads) as Workload).step(), LIMIT_MS);
      if (world.random.below(4) === 0) await world.advance(world.random.below(1_500));
    }
    over = true;
    await world.run(disturbed, LIMIT_MS);
    for (const workload of workloads) await world.run(workload.verify(), LIMIT_MS);
    for (const { client } of mounts) {
      client.checkInvariants();
      t.is(client.expelled, null);
    }
    for (const number of NODES) await world.run(cluster.node(number).checkInvariants(), LIMIT_MS);
    t.true(moves > 0 && kills > 0, `${moves} moves, ${kills} kills`);
  });
}
