import { type Caller, type FileSystem, isDazzleError, memberId } from "@dazzle/core";
import { nodeName, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const LIMIT_MS = 180_000;
const NODES = [1, 2, 3];
/** More than fit one page. */
const MANY = 3_000;
/** What the mounts of a directory create together, each file in so long. */
const FILLED = 4_000;
const CREATE_MS = 0.1;
/** More by hand: `ONE_DIRECTORY=100-119 npx ava packages/sim/test/one-directory.test.ts`. */
const [FIRST, LAST] = (process.env.ONE_DIRECTORY ?? "1-2").split("-").map(Number) as [number, number];

async function start(seed: number, managers: number, count: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: NODES.length, parity: 1, managers });
  await cluster.startAll();
  if (managers > 1) await world.advance(30_000);
  const mounts: SimMount[] = [];
  for (let mount = 0; mount < count; mount++) mounts.push(await cluster.mount());
  const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
  return { world, cluster, mounts, run };
}

const create = async (fileSystem: FileSystem, directory: number, name: string) => {
  const { attributes } = await fileSystem.makeNode(CALLER, directory, name, 0o100644, 0);
  fileSystem.forget(attributes.ino, 1);
};

const find = async (fileSystem: FileSystem, directory: number, name: string) => {
  const { attributes } = await fileSystem.lookup(CALLER, directory, name);
  if (attributes.ino !== 0) fileSystem.forget(attributes.ino, 1);
  return attributes.ino;
};

test("mounts that take turns in a large directory ask once a turn what changed, and for no name", async (t) => {
  const { mounts, run } = await start(1, 1, 3);
  const [first] = mounts as [SimMount];
  const directory = (await run(async () => first.client.fileSystem.makeDirectory(CALLER, ROOT, "d", 0o755))).attributes.ino;
  await run(async () => {
    for (let file = 0; file < MANY; file++) await create(first.client.fileSystem, directory, `old-${file}`);
  });
  const asked = (name: string) => mounts.reduce((sum, { client }) => sum + (client.counters()[`messages.${name}`] ?? 0), 0);
  const turns = async (round: number) => {
    for (const [index, { client }] of mounts.entries())
      for (let file = 0; file < 20; file++) {
        const name = `m${index}-${round}-${file}`;
        t.is(await run(() => find(client.fileSystem, directory, name)), 0);
        await run(() => create(client.fileSystem, directory, name));
      }
  };
  await turns(0);
  const before = [asked("lookup"), asked("entries"), asked("nameChanges")] as const;
  for (let round = 1; round < 6; round++) await turns(round);
  t.deepEqual([asked("lookup"), asked("entries"), asked("nameChanges")], [before[0], before[1], before[2] + 5 * mounts.length]);
  for (const { client } of mounts) {
    const { fileSystem } = client;
    for (let round = 0; round < 6; round++) t.not(await run(() => find(fileSystem, directory, `m0-${round}-19`)), 0);
    const handle = await run(async () => fileSystem.openDirectory(CALLER, directory));
    const rows = await run(async () => fileSystem.readDirectory(CALLER, directory, handle, 0, 100_000, false));
    t.is(new Set(rows.map(({ name }) => name)).size, MANY + 6 * 3 * 20 + 2);
  }
});

test("mounts that create files in a large directory that they do not know ask for its names in a few questions", async (t) => {
  const { world, mounts, run } = await start(1, 1, 4);
  const [first, ...others] = mounts as [SimMount, ...SimMount[]];
  const directory = (await run(async () => first.client.fileSystem.makeDirectory(CALLER, ROOT, "d", 0o755))).attributes.ino;
  await run(async () => {
    for (let file = 0; file < MANY; file++) await create(first.client.fileSystem, directory, `old-${file}`);
  });
  const work = async ({ client: { fileSystem } }: SimMount, index: number) => {
    for (let file = 0; file < 100; file++) {
      await create(fileSystem, directory, `p${index}-${file}`);
      await new Promise<void>((resolve) => world.after(CREATE_MS, resolve));
    }
  };
  await run(() => Promise.all(others.map(work)));
  for (const [index, { client }] of others.entries()) {
    const counters = client.counters();
    // Of 1,024 first, for what may be one look, then of 4,096.
    t.true((counters["messages.entries"] ?? 0) <= 2 && (counters["messages.lookup"] ?? 0) <= 1, `mount ${index}`);
    await t.throwsAsync(
      run(() => create(client.fileSystem, directory, `old-${MANY - 1}`)),
      { code: "exists" },
    );
  }
});

test("mounts that fill a directory together are at half the rate of one alone or more, for a few messages a turn", async (t) => {
  const { world, mounts, run } = await start(1, NODES.length, 4);
  const pause = () => new Promise<void>((resolve) => world.after(CREATE_MS, resolve));
  const fill = async (directory: number, mount: number, files: number) => {
    const { fileSystem } = (mounts[mount] as SimMount).client;
    for (let file = 0; file < files; file++) {
      // As the kernel asks.
      await fileSystem.getAttributes(CALLER, directory, undefined);
      await find(fileSystem, directory, `m${mount}-${file}`);
      await create(fileSystem, directory, `m${mount}-${file}`);
      await pause();
    }
  };
  const times: number[] = [];
  const asked = (names: readonly string[]) => {
    const counters = mounts.map(({ client }) => client.counters());
    return names.reduce((sum, name) => sum + counters.reduce((all, each) => all + (each[`messages.${name}`] ?? 0), 0), 0);
  };
  const sent = () => asked(["acquire", "peek", "nameChanges", "entries", "lookup"]);
  let before = 0;
  for (const filling of [[0], [0, 1, 2, 3]]) {
    const { attributes } = await run(async () =>
      (mounts[0] as SimMount).client.fileSystem.makeDirectory(CALLER, ROOT, `d${filling.length}`, 0o755),
    );
    before = sent();
    const startMs = world.nowMs;
    await run(() => Promise.all(filling.map((mount) => fill(attributes.ino, mount, FILLED / filling.length))));
    times.push(world.nowMs - startMs);
  }
  // The clock is simulated: the same seed takes the same time on any machine.
  const [alone, together] = times as [number, number];
  t.true(together < 2 * alone, `${together} ms together, ${alone} ms alone`);
  t.true(sent() - before < FILLED / 40, `${sent() - before} messages for ${FILLED} files`);
  // Each looks once at what it has yet to change.
  t.true(asked(["peek"]) <= mounts.length, `${asked(["peek"])} looks`);
});

const NAMES = Array.from({ length: 12 }, (_, index) => `n${index}`);

/** One operation on few names of two directories; what it is answered is not looked at. */
async function change(world: World, fileSystem: FileSystem, directories: readonly number[]): Promise<void> {
  const { random } = world;
  const [parent, name] = [random.pick(directories), random.pick(NAMES)];
  try {
    switch (random.below(5)) {
      case 0:
        await fileSystem.unlink(CALLER, parent, name);
        break;
      case 1:
        await fileSystem.rename(CALLER, parent, name, random.pick(directories), random.pick(NAMES), 0);
        break;
      case 2:
        await find(fileSystem, parent, name);
        break;
      default:
        await create(fileSystem, parent, name);
    }
  } catch (error) {
    if (!isDazzleError(error)) throw error;
  }
}

async function namesSeen(fileSystem: FileSystem, directories: readonly number[]): Promise<string[]> {
  const seen: string[] = [];
  for (const directory of directories)
    for (const name of NAMES) seen.push(`${directory}/${name}=${await find(fileSystem, directory, name)}`);
  return seen;
}

for (let seed = FIRST; seed <= LAST; seed++)
  test(`mounts of one directory know the same names although slots move, managers die and mounts are expelled, seed=${seed}`, async (t) => {
    const { world, cluster, mounts, run } = await start(seed, NODES.length, 3 + (seed % 2));
    const { random } = world;
    const fileSystems = mounts.map(({ mount }) => mount.fileSystem);
    const [first] = fileSystems as [FileSystem];
    const directories: number[] = [];
    for (const name of ["p", "q"]) directories.push((await run(async () => first.makeDirectory(CALLER, ROOT, name, 0o755))).attributes.ino);
    const move = () =>
      cluster
        .node(1)
        .peers.call(memberId(1), "moveSlot", { slot: random.pick(directories) % 64, member: random.pick(NODES) }, { deadlineMs: LIMIT_MS })
        .catch((error: unknown) => {
          if (!isDazzleError(error)) throw error;
        });
    for (let round = 0; round < 30; round++) {
      const disturbed: Promise<unknown>[] = [];
      if (round % 3 === 0) disturbed.push(move());
      if (round === 8) world.after(random.between(0, 30), () => cluster.kill(2));
      if (round === 12) world.after(random.between(0, 30), () => void cluster.launchNode(2));
      if (round === 20) world.network.partition([(mounts[1] as SimMount).instance.name], NODES.map(nodeName));
      if (round === 23) world.network.heal();
      const cut = round >= 20 && round < 23;
      const working = fileSystems.filter((_, index) => !cut || index !== 1);
      // What the one that is cut off has begun waits until it has rejoined.
      if (round === 20) disturbed.push(change(world, fileSystems[1] as FileSystem, directories));
      const work = async (fileSystem: FileSystem) => {
        for (let step = 0; step < 6; step++) await change(world, fileSystem, directories);
      };
      await run(() => Promise.all(working.map(work)));
      if (!cut) await run(() => Promise.all(disturbed));
      if (round % 2 === 0) continue;
      const seen: string[][] = [];
      for (const fileSystem of working) seen.push(await run(() => namesSeen(fileSystem, directories)));
      for (const other of seen) t.deepEqual(other, seen[0], `seed=${seed} round=${round}`);
    }
    // One that never knew anything asks for all of it.
    const fresh = (await cluster.mount()).mount.fileSystem;
    const truth = await run(() => namesSeen(fresh, directories));
    for (const fileSystem of fileSystems) t.deepEqual(await run(() => namesSeen(fileSystem, directories)), truth, `seed=${seed}`);
    t.true(mounts.some(({ client }) => (client.counters()["messages.nameChanges"] ?? 0) > 10));
  });
