import { Conflicts, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const LIMIT_MS = 120_000;
const ROUNDS = 40;
/** More by hand: `CONFLICTS=100-119 npx ava packages/sim/test/conflicts.test.ts`. */
const [FIRST, LAST] = (process.env.CONFLICTS ?? "1-3").split("-").map(Number) as [number, number];

for (let seed = FIRST; seed <= LAST; seed++) {
  const count = 3 + (seed % 2);
  test(`${count} mounts that work at the same names at once are answered as by one filesystem, seed=${seed}`, async (t) => {
    const world = new World(seed);
    const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 2, parity: 1 });
    await cluster.startAll();
    const mounts = [];
    for (let mount = 0; mount < count; mount++) mounts.push(await cluster.mount());
    const conflicts = new Conflicts(
      mounts.map(({ client }) => client.fileSystem),
      world.random.fork("conflicts"),
    );
    await world.run(conflicts.prepare(ROOT), LIMIT_MS);
    for (let round = 0; round < ROUNDS; round++) {
      await world.run(conflicts.round(), LIMIT_MS);
      for (const { client } of mounts) client.checkInvariants();
    }
    t.true(conflicts.operations > ROUNDS);
  });
}
