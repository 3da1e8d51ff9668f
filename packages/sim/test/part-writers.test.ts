import { isDazzleError, memberId } from "@dazzle/core";
import { checkTokens, nodeName, PartWriters, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const LIMIT_MS = 180_000;
const ROUNDS = 40;
/** More by hand: `PARTS=100-119 npx ava packages/sim/test/part-writers.test.ts`. */
const [FIRST, LAST] = (process.env.PARTS ?? "19-20").split("-").map(Number) as [number, number];

async function start(seed: number, managers: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers, parity: 1 });
  await cluster.startAll();
  // The slots are spread.
  await world.advance(30_000);
  const mounts: SimMount[] = [];
  for (let mount = 0; mount < 3 + (seed % 2); mount++) mounts.push(await cluster.mount());
  const writers = new PartWriters(
    mounts.map(({ mount }) => mount.fileSystem),
    world.random.fork("parts"),
  );
  await world.run(writers.prepare(ROOT), LIMIT_MS);
  const check = () => {
    const clients = mounts.flatMap(({ mount }) => mount.present ?? []);
    for (const client of clients) client.checkInvariants();
    checkTokens(clients);
  };
  /** How often a mount took a part of a file. */
  const ranges = () => mounts.reduce((sum, { mount }) => sum + (mount.counters()["messages.acquireRange"] ?? 0), 0);
  return { world, cluster, mounts, writers, check, ranges };
}

for (let seed = FIRST; seed <= LAST; seed++) {
  test(`mounts that write parts of the same files are answered as by one filesystem, seed=${seed}`, async (t) => {
    const { world, writers, check, ranges } = await start(seed, 1);
    for (let round = 0; round < ROUNDS; round++) {
      await world.run(writers.round(), LIMIT_MS);
      if (round % 4 === 3) await world.run(writers.look(), LIMIT_MS);
      check();
    }
    t.true(ranges() > ROUNDS / 4, `${ranges()} ranges`);
  });

  test(`writers of parts stay one filesystem's while slots move and a manager dies and comes back, seed=${seed}`, async (t) => {
    const { world, cluster, writers, check } = await start(seed, 3);
    const random = world.random.fork("moves");
    const move = () =>
      cluster
        .node(1)
        .peers.call(memberId(random.pick([1, 3])), "takeSlots", { slots: [random.below(8)] }, { deadlineMs: LIMIT_MS })
        .catch((error: unknown) => {
          if (!isDazzleError(error)) throw error;
        });
    for (let round = 0; round < ROUNDS; round++) {
      const moving = round % 3 === 0 ? move() : Promise.resolve();
      if (round === 10) world.after(random.between(0, 30), () => cluster.kill(2));
      if (round === 25) world.after(random.between(0, 30), () => void cluster.launchNode(2));
      await world.run(writers.round(), LIMIT_MS);
      await world.run(moving, LIMIT_MS);
      if (round % 4 === 3) await world.run(writers.look(), LIMIT_MS);
      check();
    }
    t.pass();
  });

  test(`of what a writer of parts did, and did not sync, a prefix is left when it dies or is cut off, seed=${seed}`, async (t) => {
    const { world, cluster, mounts, writers, check } = await start(seed, 1);
    const random = world.random.fork("ends");
    const nodes = cluster.numbers.map(nodeName);
    for (let round = 0; round < ROUNDS / 4; round++) {
      const index = random.below(mounts.length);
      const { instance, mount } = mounts[index] as SimMount;
      const dies = random.chance(0.5);
      const expulsions = mount.expulsions;
      const end = async () => {
        await new Promise<void>((resolve) => world.after(random.between(0, 60), resolve));
        if (dies) return void instance.kill();
        world.network.partition([instance.name], nodes);
        await new Promise<void>((resolve) => world.after(20_000, resolve));
        world.network.heal();
        // By then it knows whether it was expelled.
        await new Promise<void>((resolve) => world.after(10_000, resolve));
      };
      await world.run(writers.round({ index, rejoins: !dies, ended: end() }), LIMIT_MS);
      if (dies) {
        const next = await cluster.mount();
        mounts[index] = next;
        await world.run(writers.open(index, next.mount.fileSystem), LIMIT_MS);
      } else {
        await world.run(mount.whenPresent(mount.deadlineMs), LIMIT_MS);
        await world.run(writers.close(index), LIMIT_MS);
        await world.run(writers.open(index), LIMIT_MS);
        t.true(mount.expulsions >= expulsions);
      }
      await world.run(writers.look(), LIMIT_MS);
      for (let quiet = 0; quiet < 2; quiet++) await world.run(writers.round(), LIMIT_MS);
      await world.run(writers.look(), LIMIT_MS);
      check();
    }
  });
}
