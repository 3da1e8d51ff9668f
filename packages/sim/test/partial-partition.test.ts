import { BLOCK_BYTES, DazzleError, type FileSystem, joined, LIMITS, type MemberId, type Network, SLOTS, slotOf } from "@dazzle/core";
import { nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { CALLER, O_RDWR, ROOT } from "./support/files.ts";
import { PageCache } from "./support/kernel.ts";

const FLAGS = { open: O_RDWR, killPrivileges: false };
const NODES = 4;
const LIMIT_MS = 120_000;
const PARTITION_MS = 60_000;
const PAUSE_MS = 500;
const READ_EVERY_MS = 20;
/** Two managers, of which one is no keeper, and two that are. */
const PAIRS = [
  [1, 4],
  [2, 3],
] as const;

function without(network: Network, blocked: () => readonly string[]): Network {
  return {
    ...network,
    listen: (address, accept) => network.listen(address, accept),
    connect: async (address, deadlineMs) => {
      if (blocked().includes(address)) throw new DazzleError("unreachable", `no route to ${address}`);
      return network.connect(address, deadlineMs);
    },
  };
}

async function begin(seed: number) {
  const world = new World(seed);
  const blocked = new Map<string, string>();
  const cluster = new SimCluster(world, {
    limits: SMALL_LIMITS,
    nodes: NODES,
    parity: 1,
    managers: NODES,
    keepers: 3,
    disguise: {
      network: (network, { name }) =>
        without(network, () => {
          const address = blocked.get(name);
          return address === undefined ? [] : [address];
        }),
    },
  });
  await cluster.startAll();
  const map = () => cluster.node(NODES).map.current;
  const isSpread = () =>
    cluster.numbers.every((number) => map().slots.filter(({ manager }) => manager === number).length >= Math.floor(SLOTS / NODES));
  await world.run(() => map().keepers.length === 3 && map().formerKeepers.length === 0 && isSpread(), LIMIT_MS);
  const { client } = await cluster.mount();
  return { world, cluster, map, isSpread, blocked, fileSystem: client.fileSystem };
}

async function makeAndRead(fileSystem: FileSystem, number: number): Promise<string> {
  const directory = (await fileSystem.makeDirectory(CALLER, ROOT, `d${number}`, 0o755)).attributes.ino;
  const { entry, file } = await fileSystem.create(CALLER, directory, "f", 0o644, O_RDWR);
  const { ino } = entry.attributes;
  await fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from("text"), FLAGS);
  await fileSystem.fsync(CALLER, ino, file.handle, false);
  return joined(await fileSystem.read(CALLER, ino, file.handle, 0, 10)).toString();
}

for (const [one, other] of PAIRS)
  for (const way of ["neither reaches the other", "one does not reach the other"] as const)
    test(`two managers of which ${way} go on both, while they hold their leases, seed=${one} managers=${one},${other}`, async (t) => {
      const { world, cluster, map, isSpread, blocked, fileSystem } = await begin(one);
      const managers = () => map().logs.flatMap(({ kind, state, id }) => (kind === "manager" && state === "live" ? [id] : []));
      const before = managers();
      blocked.set(nodeName(one), `sim:${nodeName(other)}`);
      if (way === "neither reaches the other") blocked.set(nodeName(other), `sim:${nodeName(one)}`);
      world.network.cut([nodeName(one)], [nodeName(other)]);
      const endMs = world.nowMs + PARTITION_MS;
      let longestMs = 0;
      for (let number = 0; world.nowMs < endMs; number++) {
        const beganMs = world.nowMs;
        t.is(await world.run(makeAndRead(fileSystem, number), LIMIT_MS), "text");
        longestMs = Math.max(longestMs, world.nowMs - beganMs);
        await world.advance(PAUSE_MS);
      }
      t.true(isSpread());
      t.deepEqual(managers(), before);
      t.true(longestMs < LIMITS.managerLeaseMs, `${longestMs} ms`);
      t.true(world.log.some(({ message }) => message === "a manager that does not answer goes on"));
      // Who is gone is given up all the same, also by one that does not reach it anyway.
      cluster.kill(other);
      await world.run(() => cluster.node(one).map.current.slots.every(({ manager }) => manager !== other), LIMIT_MS);
      t.is(await world.run(makeAndRead(fileSystem, -1), LIMIT_MS), "text");
    });

for (const seed of [5, 6])
  test(`a mount that reaches no other manager than the one before reads nothing stale in a slot that moved, seed=${seed}`, async (t) => {
    const [before, after] = [NODES, 1];
    const { world, cluster, map, fileSystem } = await begin(seed);
    const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
    const page = (count: number) => Buffer.alloc(BLOCK_BYTES, `${count}`);
    const { instance, fileSystem: cut } = await cluster.mount(before);
    const directory = (await run(() => cut.makeDirectory(CALLER, ROOT, "d", 0o755))).attributes.ino;
    const { entry, file } = await run(() => cut.create(CALLER, directory, "f", 0o644, O_RDWR));
    const { ino } = entry.attributes;
    const slot = slotOf(ino);
    t.is(map().slots[slot]?.manager, before as MemberId);
    await run(() => cut.write(CALLER, ino, file.handle, 0, page(0), FLAGS));
    await run(() => cut.fsync(CALLER, ino, file.handle, false));
    await run(() => fileSystem.lookup(CALLER, ROOT, "d"));
    await run(() => fileSystem.lookup(CALLER, directory, "f"));
    const { handle } = await run(() => fileSystem.open(CALLER, ino, O_RDWR));

    const kernel = new PageCache(cut, world, CALLER);
    await run(() => kernel.read(ino, file.handle, 0));
    const keepers = cluster.numbers.filter((number) => number !== before).map(nodeName);
    world.network.partition([instance.name], keepers);
    let least = 0;
    const read = async (): Promise<never> => {
      for (;;) {
        const beganAt = least;
        const bytes = await kernel.read(ino, file.handle, 0).catch(() => page(beganAt));
        if (Number(bytes.toString("latin1", 0, 1)) < beganAt) world.fail(new Error(`stale after ${beganAt} was written, seed=${seed}`));
        await new Promise<void>((resolve) => world.after(READ_EVERY_MS, resolve));
      }
    };
    void read();
    await run(() => cluster.node(after).peers.call(after as MemberId, "moveSlot", { slot, member: after }, { deadlineMs: LIMIT_MS }));
    t.is(map().slots[slot]?.manager, after as MemberId);
    await run(() => fileSystem.write(CALLER, ino, handle, 0, page(1), FLAGS));
    least = 1;
    await world.advance(2 * LIMITS.mountLeaseMs);
    t.true(kernel.hits > 0);
  });
