import { type Caller, deferred, type FileSystem, type KernelNotifier, SLOTS, slotOf } from "@dazzle/core";
import { nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const VICTIM = 3;
const SEED = 1;
const LIMIT_MS = 120_000;
/** So long after it is cut off the manager is asked for what another mount has: it is given up within a second, and its lease runs for longer. */
const ASKED_AFTER_MS = 1_200;
const ANSWERED_MS = 300;
const FILES = 40;
const CHANGED_NS = 123_000n;

/** Takes a notification when it is let to. */
class SlowKernel implements KernelNotifier {
  readonly hasEpoch = true;
  readonly waiting = deferred();
  readonly goesOn = deferred();

  async invalidateInode(): Promise<boolean> {
    this.waiting.resolve();
    await this.goesOn.promise;
    return true;
  }

  async invalidateEntry(): Promise<void> {}

  async incrementEpoch(): Promise<void> {}
}

test(`what a mount gives back to a manager that is followed by another one meanwhile is not given back there, seed=${SEED}`, async (t) => {
  const world = new World(SEED);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers: 3, keepers: 3, servers: 2, parity: 1 });
  await cluster.startAll();
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const { map } = cluster.node(1);
  const slotsOf = (number: number) => map.current.slots.flatMap(({ manager }, slot) => ((manager as number) === number ? [slot] : []));
  await world.run(
    () => [1, 2, 3].every((number) => slotsOf(number).length >= Math.floor(SLOTS / 3)) && map.current.keepers.length === 3,
    LIMIT_MS,
  );
  const [first, second, third] = [await cluster.mount(1), await cluster.mount(2), await cluster.mount(VICTIM)];
  const moving = new Set(slotsOf(VICTIM));
  const inos = new Map<number, number>();
  const lookUp = async (fileSystem: FileSystem, name: string): Promise<number> => {
    const { ino } = (await fileSystem.lookup(CALLER, ROOT, name)).attributes;
    return (await fileSystem.lookup(CALLER, ino, "file")).attributes.ino;
  };
  for (let number = 0; number < FILES; number++) {
    const { ino } = (await run(() => third.fileSystem.makeDirectory(CALLER, ROOT, `${number}`, 0o755))).attributes;
    const { entry } = await run(() => third.fileSystem.create(CALLER, ino, "file", 0o644, O_RDWR));
    const file = entry.attributes.ino;
    if (!moving.has(slotOf(file)) || inos.has(slotOf(file))) continue;
    inos.set(slotOf(file), file);
    // Both know it, and its manager.
    for (const { fileSystem } of [second, first]) await run(() => lookUp(fileSystem, `${number}`));
  }
  await run(() => third.client.sync());
  await run(() => first.client.sync());
  for (const ino of inos.values()) await run(() => first.fileSystem.setAttributes(CALLER, ino, { mtimeNs: 1n }, undefined));
  await run(() => first.client.sync());
  await world.advance(2_000);
  const kernel = new SlowKernel();
  first.fileSystem.start(kernel);

  // One side has the manager and who wants what the first mount has, which alone sees both.
  world.network.partition([nodeName(VICTIM), second.instance.name], [nodeName(1), nodeName(2)]);
  await world.advance(ASKED_AFTER_MS);
  const asked = [...inos.values()].map(async (ino) => second.fileSystem.setAttributes(CALLER, ino, { mode: 0o600 }, undefined));
  await world.run(kernel.waiting.promise, LIMIT_MS);
  await world.run(() => first.client.counters().slotsClaimed === moving.size, LIMIT_MS);
  for (const ino of inos.values()) await run(() => first.fileSystem.setAttributes(CALLER, ino, { mtimeNs: CHANGED_NS }, undefined));
  const leaseEndMs = cluster.node(VICTIM).manager?.parts.lease.endMs ?? 0;
  t.true(leaseEndMs > world.nowMs + ANSWERED_MS, `its lease ends at ${leaseEndMs} ms, now is ${world.nowMs} ms`);
  kernel.goesOn.resolve();
  await world.advance(ANSWERED_MS);
  world.network.heal();
  await world.run(Promise.all(asked), LIMIT_MS);
  for (const ino of inos.values()) {
    const { mtimeNs, mode } = (await run(() => first.fileSystem.getAttributes(CALLER, ino, undefined))).attributes;
    t.deepEqual([mtimeNs, mode & 0o777], [CHANGED_NS, 0o600], `index number ${ino}`);
  }
});
