import { type Caller, LIMITS, SLOTS, slotOf } from "@dazzle/core";
import { nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const NODES = [1, 2, 3];
const VICTIM = 3;
const SETTLE_LIMIT_MS = 120_000;
const FILES = 12;
const TOUCH_EVERY_MS = 20;
const SEEDS = process.env.DAZZLE_LONG === "1" ? Array.from({ length: 30 }, (_, index) => index + 1) : [1];
/** Of virtual time: the manager's lease, which its keepers renew for it until it fails, the half a second at which they do, and what sealing, reading and asking take with these
 * disks and this network. */
const PAUSE_LIMIT_MS = LIMITS.managerLeaseMs + 1_500;

type Failure = "is killed" | "hangs";

/** Two mounts touch files that the third machine manages, in turn, when that one fails. Answers how long the longest call took, in virtual ms. */
async function takenOver(seed: number, how: Failure): Promise<{ longestMs: number; log: readonly string[] }> {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers: 3, keepers: 3, parity: 1 });
  await cluster.startAll();
  const slotsOf = (number: number) => cluster.node(1).map.current.slots.filter(({ manager }) => manager === number).length;
  const isSettled = () => Math.min(...NODES.map(slotsOf)) >= Math.floor(SLOTS / 3) && cluster.node(1).map.current.keepers.length === 3;
  await world.run(isSettled, SETTLE_LIMIT_MS);
  const [first, second, third] = [await cluster.mount(1), await cluster.mount(2), await cluster.mount(VICTIM)];
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), SETTLE_LIMIT_MS) as Promise<T>;
  const inos: number[] = [];
  for (let number = 0; number < FILES; number++) {
    const { fileSystem } = third.mount;
    const directory = (await run(() => fileSystem.makeDirectory(CALLER, ROOT, `${number}`, 0o755))).attributes.ino;
    inos.push((await run(() => fileSystem.create(CALLER, directory, "file", 0o644, O_RDWR))).entry.attributes.ino);
  }
  await run(() => third.client.sync());
  const concerned = inos.filter((ino) => (cluster.node(1).map.current.slots[slotOf(ino)]?.manager as number) === VICTIM);
  if (concerned.length < FILES / 2) throw new Error(`only ${concerned.length} files are in slots of node ${VICTIM}, seed=${seed}`);
  let over = false;
  let longestMs = 0;
  const touching = [first, second].map(async ({ mount: { fileSystem } }) => {
    for (let count = 1; !over; count++) {
      const beganMs = world.nowMs;
      const ino = concerned[count % concerned.length] as number;
      await fileSystem.setAttributes(CALLER, ino, { mtimeNs: BigInt(count) }, undefined);
      longestMs = Math.max(longestMs, world.nowMs - beganMs);
      await new Promise<void>((resolve) => world.after(TOUCH_EVERY_MS, resolve));
    }
  });
  await world.advance(1_000 + world.random.below(1_000));
  if (how === "is killed") cluster.kill(VICTIM);
  else {
    const others = [first, second, third].map(({ instance }) => instance.name);
    world.network.partition([nodeName(VICTIM)], [nodeName(1), nodeName(2), ...others]);
  }
  await world.run(() => slotsOf(VICTIM) === 0, SETTLE_LIMIT_MS);
  await world.advance(3_000);
  over = true;
  await world.run(Promise.all(touching), SETTLE_LIMIT_MS);
  const log = world.log.filter(({ message }) => message === "slots are open").map(({ fields }) => JSON.stringify(fields));
  return { longestMs, log };
}

for (const how of ["is killed", "hangs"] as const)
  for (const seed of SEEDS)
    test(`a machine that manages, stores and keeps ${how}: two mounts go on within a lease and 1.5 s, seed=${seed}`, async (t) => {
      const { longestMs, log } = await takenOver(seed, how);
      t.log(`${longestMs} ms`, log.slice(-2));
      t.true(longestMs <= PAUSE_LIMIT_MS, `${longestMs} ms`);
    });
