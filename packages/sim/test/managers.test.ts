import { SLOTS } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, type Workload, World } from "@dazzle/sim";
import test from "ava";
import { workloadsOn } from "./support/workloads.ts";

const LIMIT_MS = 120_000;
const STEPS = 200;
const NODES = [1, 2, 3];

/** Slots by node. */
function counts(cluster: SimCluster): number[] {
  const { slots } = cluster.node(1).map.current;
  return NODES.map((number) => slots.filter(({ manager }) => manager === number).length);
}

async function begin(seed: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers: 3, parity: 1 });
  await cluster.startAll();
  await world.run(() => Math.min(...counts(cluster)) >= Math.floor(SLOTS / 3), LIMIT_MS);
  const mounts = [await cluster.mount(), await cluster.mount()] as const;
  const workloads = workloadsOn(world, mounts);
  const steps = async (count: number) => {
    for (let step = 0; step < count; step++) await world.run((workloads[step % 2] as Workload).step(), LIMIT_MS);
    for (const { client } of mounts) client.checkInvariants();
  };
  const verify = async () => {
    for (const workload of workloads) await world.run(workload.verify(), LIMIT_MS);
    for (const number of NODES) await world.run(cluster.node(number).checkInvariants(), LIMIT_MS);
  };
  return { world, cluster, steps, verify };
}

test("slots are spread evenly over three managers, and two mounts agree with one filesystem while they move", async (t) => {
  for (const seed of [1]) {
    const { world, cluster, steps, verify } = await begin(seed);
    t.is(Math.max(...counts(cluster)), 22);
    let over = false;
    let moves = 0;
    const moving = (async () => {
      while (!over) {
        const slot = world.random.below(8);
        const member = 1 + world.random.below(3);
        await cluster.node(1).peers.call(cluster.node(1).map.current.members[0]?.id as never, "moveSlot", { slot, member });
        moves++;
      }
    })();
    await steps(STEPS);
    over = true;
    await world.run(moving, LIMIT_MS);
    t.true(moves > 3, `${moves} moves`);
    await verify();
  }
});

test("two mounts agree with one filesystem while managers are killed and start again", async (t) => {
  for (const seed of [11]) {
    const { world, cluster, steps, verify } = await begin(seed);
    for (let round = 0; round < 3; round++) {
      const number = 2 + world.random.below(2);
      cluster.kill(number);
      const soon = world.random.below(2) === 0;
      await steps(STEPS / 8);
      await world.advance(soon ? 500 : 10_000);
      await cluster.startNode(number);
      await steps(STEPS / 8);
    }
    await world.run(() => Math.min(...counts(cluster)) >= Math.floor(SLOTS / 3), LIMIT_MS);
    await verify();
    t.pass();
  }
});

test("mounts that do nothing are found by the new managers of what they hold", async (t) => {
  const { world, cluster, steps, verify } = await begin(21);
  await steps(20);
  const mountsLive = () => cluster.node(1).map.current.logs.filter(({ kind, state }) => kind === "mount" && state === "live").length;
  for (const number of [2, 3]) {
    cluster.kill(number);
    await world.advance(20_000);
    await cluster.startNode(number);
    await world.run(() => Math.min(...counts(cluster)) >= Math.floor(SLOTS / 3), LIMIT_MS);
    await world.advance(20_000);
  }
  t.is(mountsLive(), 2);
  await steps(20);
  await verify();
});

test("a node that can't reach the map's keepers as its manager starts goes on, and its manager starts once it can", async (t) => {
  const { world, cluster } = await begin(3);
  cluster.kill(3);
  await cluster.startNode(3);
  world.network.partition(["node3"], ["node1"]);
  let failed: Error | null = null;
  let open = false;
  cluster.node(3).managing.then(
    () => {
      open = true;
    },
    (error: Error) => {
      failed = error;
    },
  );
  await world.advance(20_000);
  t.is(failed, null);
  t.false(open);
  world.network.heal();
  await world.run(() => open || failed !== null, LIMIT_MS);
  t.is(failed, null);
});
