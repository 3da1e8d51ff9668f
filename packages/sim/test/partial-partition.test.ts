import { type Caller, DazzleError, type FileSystem, joined, LIMITS, type Network, SLOTS } from "@dazzle/core";
import { nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const NODES = 4;
const LIMIT_MS = 120_000;
const PARTITION_MS = 60_000;
const PAUSE_MS = 500;
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
  await fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from("text"), { open: O_RDWR, killPrivileges: false });
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
