import { LIMITS } from "@dazzle/core";
import { History, SimCluster, SMALL_LIMITS, Workload, World } from "@dazzle/sim";
import test from "ava";
import { Mover } from "./support/mover.ts";
import { LIMIT_MS, ROOT } from "./support/planted.ts";

/** What is moved is in the managers' logs alone. */
const LIMITS_HERE = { ...SMALL_LIMITS, checkpointIntervalMs: 10 * LIMIT_MS, memtableBytes: LIMITS.memtableBytes };
/** Until what was emptied is deleted. */
const DELETED_MS = 10_000;

for (const seed of [1, 2])
  test(`a cluster in which blocks are moved under a mount that works is clean, also when every manager has read its log anew, seed=${seed}`, async (t) => {
    const world = new World(seed);
    const cluster = new SimCluster(world, { limits: LIMITS_HERE, nodes: 3, managers: 3, parity: 1 });
    await cluster.startAll();
    const { client } = await cluster.mount();
    const history = new History(ROOT, { mode: 0o755, uid: 0, gid: 0 });
    const workload = new Workload({
      fileSystem: client.fileSystem,
      history,
      mount: "m",
      random: world.random.fork("w"),
      fileBytes: 60_000,
    });
    const moved = new Set<number>();
    let isOver = false;
    const working = (async () => {
      for (let step = 0; step < 400 && !isOver; step++) await workload.step();
    })();
    const mover = await world.run(Mover.start(cluster), LIMIT_MS);
    const moving = (async () => {
      while (!isOver) for (const sequence of await mover.move(client.log)) moved.add(sequence);
    })();
    const { findings, unchecked } = await cluster.fsck("data");
    t.deepEqual([findings, unchecked], [[], []]);
    isOver = true;
    await world.run(Promise.all([working, moving]), LIMIT_MS);
    await world.run(client.sync(), LIMIT_MS);
    await world.advance(DELETED_MS);
    t.true(moved.size > 0);
    for (const number of cluster.numbers) cluster.kill(number);
    await cluster.startAll();
    const anew = await cluster.fsck("data");
    t.deepEqual([anew.findings, anew.unsettled, anew.unchecked], [[], [], []]);
  });
