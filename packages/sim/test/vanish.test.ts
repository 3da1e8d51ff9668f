import { BLOCK_BYTES, type Caller, type FileSystem, findLog, LIMITS, LOCK_END, SLOTS, slotOf } from "@dazzle/core";
import { nodeName, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { PageCache } from "./support/kernel.ts";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const FLAGS = { open: O_RDWR, killPrivileges: false };
const NODES = 5;
const SETTLE_LIMIT_MS = 120_000;
/** A lease and 2 s, of virtual time. */
const PAUSE_LIMIT_MS = LIMITS.mountLeaseMs + 2_000;
const READ_EVERY_MS = 20;
const LONG = process.env.DAZZLE_LONG === "1" ? Array.from({ length: 20 }, (_, index) => index + 1) : null;

type Disappearance = "the power" | "the link";
type Work = "alone" | "beside the others";

function page(count: number): Buffer {
  return Buffer.alloc(BLOCK_BYTES, `${count}\n`);
}

async function open(fileSystem: FileSystem, path: readonly string[]): Promise<{ ino: number; handle: number }> {
  let ino = ROOT;
  for (const name of path) ino = (await fileSystem.lookup(CALLER, ino, name)).attributes.ino;
  return { ino, handle: (await fileSystem.open(CALLER, ino, O_RDWR)).handle };
}

/** A machine that is everything at once (keeper, manager, storage server, mount), and four like it. Its mount has worked in a directory of its own
 * alone, in slots of its own manager, so that no other manager knows it; or also in those of the others. */
async function begin(seed: number, machine: number, works: Work) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: NODES, parity: 1, managers: NODES, keepers: 3 });
  await cluster.startAll();
  const map = () => cluster.node(NODES).map.current;
  const isSettled = () => {
    const { slots, keepers, formerKeepers } = map();
    const counts = cluster.numbers.map((number) => slots.filter(({ manager }) => manager === number).length);
    return keepers.length === 3 && formerKeepers.length === 0 && Math.min(...counts) >= Math.floor(SLOTS / NODES);
  };
  await world.run(isSettled, SETTLE_LIMIT_MS);
  const victim = await cluster.mount(machine);
  const others: SimMount[] = [];
  for (const number of cluster.numbers) if (number !== machine) others.push(await cluster.mount(number));
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), SETTLE_LIMIT_MS) as Promise<T>;
  const { fileSystem } = victim.mount;
  const directory = (await run(() => fileSystem.makeDirectory(CALLER, ROOT, "mine", 0o755))).attributes.ino;
  const { entry, file } = await run(() => fileSystem.create(CALLER, directory, "count", 0o644, O_RDWR));
  const { ino } = entry.attributes;
  await run(() => fileSystem.write(CALLER, ino, file.handle, 0, page(0), FLAGS));
  await run(() => fileSystem.fsync(CALLER, ino, file.handle, false));
  const lock = { start: 0, end: LOCK_END, type: "write", pid: 1 } as const;
  await run(() => fileSystem.setLock(CALLER, ino, file.handle, 1n, lock, false, false));
  for (const { mount } of others) {
    const handle = await run(() => mount.fileSystem.openDirectory(CALLER, ROOT));
    await run(() => mount.fileSystem.readDirectory(CALLER, ROOT, handle, 0, 4096, false));
    if (works === "alone") continue;
    const theirs = (await run(() => mount.fileSystem.makeDirectory(CALLER, ROOT, `of ${mount.client.log}`, 0o755))).attributes.ino;
    await run(() => fileSystem.create(CALLER, theirs, "of the victim", 0o644, O_RDWR));
  }
  return { world, cluster, map, run, victim, others, ino, handle: file.handle, lock };
}

/** Takes the machine away, and answers what the others did then and how long each of it took, in virtual ms. Nobody reads anything stale meanwhile, on neither
 * side. */
async function vanish(seed: number, machine: number, how: Disappearance, works: Work) {
  const { world, cluster, map, victim, others, ino, handle, lock } = await begin(seed, machine, works);
  const owner = map().slots[slotOf(ino)]?.manager;
  let [count, stopping] = [0, false];
  const kernel = new PageCache(victim.mount.fileSystem, world, CALLER);
  const reader = async () => {
    while (!stopping && victim.instance.alive) {
      const least = count;
      const bytes = await kernel.read(ino, handle, 0).catch(() => undefined);
      const found = bytes === undefined ? least : Number.parseInt(bytes.toString("latin1"), 10);
      if (found < least) return world.fail(new Error(`${found} was read after ${least} was written, seed=${seed}`));
      await new Promise<void>((resolve) => world.after(READ_EVERY_MS, resolve));
    }
  };
  void reader();
  await world.advance(world.random.below(3_000));
  const rest = [...cluster.numbers.filter((number) => number !== machine).map(nodeName), ...others.map(({ instance }) => instance.name)];
  world.network.partition([nodeName(machine), victim.instance.name], rest);
  if (how === "the power") {
    cluster.kill(machine);
    victim.instance.kill();
  }
  const beganMs = world.nowMs;
  const took: Record<string, number> = {};
  const timed = async (what: string, action: () => Promise<unknown>) => {
    await action();
    took[what] = world.nowMs - beganMs;
  };
  const [one, two, three, four] = others.map(({ mount }) => mount.fileSystem) as [FileSystem, FileSystem, FileSystem, FileSystem];
  const doings = [
    timed("a file in the root directory", async () => one.create(CALLER, ROOT, "of another", 0o644, O_RDWR)),
    timed("a write to what was held there", async () => {
      const opened = await open(two, ["mine", "count"]);
      await two.write(CALLER, opened.ino, opened.handle, 0, page(++count), FLAGS);
      await two.fsync(CALLER, opened.ino, opened.handle, false);
    }),
    timed("a lock that was held there", async () => {
      const opened = await open(three, ["mine", "count"]);
      await three.setLock(CALLER, opened.ino, opened.handle, 1n, lock, true, false);
    }),
    timed("a file beside what was held there", async () => {
      const { attributes } = await four.lookup(CALLER, ROOT, "mine");
      await four.create(CALLER, attributes.ino, "beside", 0o644, O_RDWR);
    }),
  ];
  await world.run(Promise.all(doings), SETTLE_LIMIT_MS);
  stopping = true;
  return { took, owner };
}

for (const [machine, how, works, usual] of [
  [1, "the power", "alone", 1],
  [1, "the link", "alone", 1],
  [1, "the link", "beside the others", 2],
  [2, "the power", "beside the others", 1],
  [2, "the link", "alone", 2],
] as const)
  for (const seed of LONG ?? [usual])
    test(`${how} of machine ${machine} is cut, where a mount worked ${works}: the others go on within a lease and 2 s, seed=${seed}`, async (t) => {
      const { took, owner } = await vanish(seed, machine, how, works);
      t.is(owner as number | null, machine);
      t.log(JSON.stringify(took));
      for (const [what, ms] of Object.entries(took)) t.true(ms <= PAUSE_LIMIT_MS, `${what}: ${ms} ms`);
    });

for (const seed of LONG ?? [1])
  test(`a mount goes on whose machine lost its node alone, and which no other manager knew, seed=${seed}`, async (t) => {
    const { world, cluster, map, run, victim, ino, handle } = await begin(seed, 2, "alone");
    const { fileSystem } = victim.mount;
    await run(() => fileSystem.write(CALLER, ino, handle, 0, page(1), FLAGS));
    cluster.kill(2);
    await world.run(() => map().slots[slotOf(ino)]?.manager !== 2, SETTLE_LIMIT_MS);
    await world.advance(2 * PAUSE_LIMIT_MS);
    await run(() => fileSystem.write(CALLER, ino, handle, 0, page(2), FLAGS));
    await run(() => fileSystem.fsync(CALLER, ino, handle, false));
    t.is(victim.mount.expulsions, 0);
    t.is(findLog(map(), victim.client.log)?.state, "live");
  });
