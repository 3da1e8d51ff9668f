import { type Caller, type FileSystem, isDazzleError, memberId } from "@dazzle/core";
import { Conflicts, nodeName, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const LIMIT_MS = 120_000;
const ROUNDS = 40;
/** More by hand: `CONFLICTS=100-119 npx ava packages/sim/test/conflicts.test.ts`. */
const [FIRST, LAST] = (process.env.CONFLICTS ?? "1-3").split("-").map(Number) as [number, number];

for (let seed = FIRST; seed <= LAST; seed++) {
  const count = 3 + (seed % 2);
  const managers = seed % 3 === 0 ? 3 : 1;
  test(`${count} mounts of ${managers} managers that work at the same names at once are answered as by one filesystem, seed=${seed}`, async (t) => {
    const world = new World(seed);
    const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers, parity: 1 });
    await cluster.startAll();
    // The slots are spread.
    await world.advance(30_000);
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

test("what mounts are answered stays one filesystem's although connections break and the manager starts anew", async (t) => {
  const world = new World(7);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const mounts: SimMount[] = [];
  for (let mount = 0; mount < 3; mount++) mounts.push(await cluster.mount());
  const conflicts = new Conflicts(
    mounts.map(({ client }) => client.fileSystem),
    world.random.fork("conflicts"),
  );
  await world.run(conflicts.prepare(ROOT), LIMIT_MS);
  const random = world.random.fork("faults");
  const restart = () => {
    cluster.kill(1);
    world.after(300, () => void cluster.launchNode(1));
  };
  for (let round = 0; round < ROUNDS; round++) {
    if (round % 10 === 5) world.after(random.between(0, 40), restart);
    else if (round % 2 === 0)
      world.after(random.between(0, 40), () => world.network.cut([random.pick(mounts).instance.name], [nodeName(1)]));
    await world.run(conflicts.round(), LIMIT_MS);
    for (const { client } of mounts) client.checkInvariants();
  }
  t.pass();
});

test("what mounts are answered stays one filesystem's although slots move, a manager dies and comes back", async (t) => {
  const world = new World(8);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers: 3, parity: 1 });
  await cluster.startAll();
  await world.advance(30_000);
  const mounts: SimMount[] = [];
  for (let mount = 0; mount < 3; mount++) mounts.push(await cluster.mount());
  const conflicts = new Conflicts(
    mounts.map(({ client }) => client.fileSystem),
    world.random.fork("conflicts"),
  );
  await world.run(conflicts.prepare(ROOT), LIMIT_MS);
  const random = world.random.fork("moves");
  const move = () =>
    cluster
      .node(1)
      .peers.call(memberId(random.pick([1, 3])), "takeSlots", { slots: [random.below(4)] }, { deadlineMs: LIMIT_MS })
      .catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
      });
  for (let round = 0; round < ROUNDS; round++) {
    const moving = round % 4 === 0 ? move() : Promise.resolve();
    if (round === 10) world.after(random.between(0, 30), () => cluster.kill(2));
    if (round === 25) world.after(random.between(0, 30), () => void cluster.launchNode(2));
    await world.run(conflicts.round(), LIMIT_MS);
    await world.run(moving, LIMIT_MS);
    for (const { client } of mounts) client.checkInvariants();
  }
  t.pass();
});

/** All directories below this one, by index number, with their paths. Throws where one is met twice. */
async function directoriesBelow(fileSystem: FileSystem, ino: number, path = "", found = new Map<number, string>()) {
  const handle = await fileSystem.openDirectory(CALLER, ino);
  const rows = await fileSystem.readDirectory(CALLER, ino, handle, 0, 100, false);
  fileSystem.releaseDirectory(ino, handle);
  for (const { name, ino: child } of rows) {
    if (name === "." || name === "..") continue;
    if (found.has(child)) throw new Error(`${child} is at ${found.get(child)} and at ${path}/${name}`);
    found.set(child, `${path}/${name}`);
    await directoriesBelow(fileSystem, child, `${path}/${name}`, found);
  }
  return found;
}

test("directories that mounts move into one another at once never make a loop", async (t) => {
  let [moved, refused] = [0, 0];
  for (const seed of [1, 2, 3]) {
    const world = new World(seed);
    const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 2, parity: 1 });
    await cluster.startAll();
    const mounts: FileSystem[] = [];
    for (let mount = 0; mount < 3; mount++) mounts.push((await cluster.mount()).client.fileSystem);
    const random = world.random.fork("moves");
    const [first] = mounts as [FileSystem];
    const inos: number[] = [];
    const make = async (name: string) => first.makeDirectory(CALLER, ROOT, name, 0o755);
    for (let index = 0; index < 6; index++) inos.push((await world.run(make(`d${index}`), LIMIT_MS)).attributes.ino);
    const move = async (mount: FileSystem) => {
      const index = random.below(inos.length);
      const ino = inos[index] as number;
      try {
        const { attributes } = await mount.lookup(CALLER, ino, "..");
        const to = random.pick([ROOT, ...inos]);
        await mount.rename(CALLER, attributes.ino, `d${index}`, to, `d${index}`, 0);
        moved++;
      } catch (error) {
        // Into itself, or it has been moved meanwhile.
        if (!isDazzleError(error, "invalid", "notFound")) throw error;
        refused++;
      }
    };
    for (let round = 0; round < 30; round++) {
      await world.run(Promise.all(mounts.map(move)), LIMIT_MS);
      if (round % 5 !== 4) continue;
      for (const mount of mounts) {
        const found = await world.run(directoriesBelow(mount, ROOT), LIMIT_MS);
        t.deepEqual([...found.keys()].sort(), [...inos].sort(), `seed=${seed} round=${round}: ${[...found.values()].join(" ")}`);
      }
    }
  }
  t.true(moved > 50 && refused > 50, `${moved} moved, ${refused} refused`);
});
