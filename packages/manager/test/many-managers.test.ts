import { deferred, findLog, type MemberId } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster, type TestMount } from "./support/cluster.ts";
import { FileModel } from "./support/file-model.ts";

const SEEDS = Number(process.env.DAZZLE_SEEDS ?? 2);
/** Whose managers may be killed: the first is keeper and storage server as well. */
const MANAGERS = [1, 2, 3] as MemberId[];
/** Slots of the model's files. */
const SLOTS_USED = [1, 2, 3, 40, 41];
const SETTLE_LIMIT_MS = 300_000;

class Bench {
  readonly world: World;
  readonly cluster: Cluster;
  mount!: TestMount;
  model!: FileModel;

  constructor(seed: number) {
    this.world = new World(seed);
    this.cluster = new Cluster(this.world, undefined, MANAGERS);
  }

  async begin(): Promise<void> {
    await this.world.run(this.cluster.start());
    await this.world.run(this.cluster.opened(), 60_000);
    this.mount = await this.world.run(this.cluster.mount("mount"));
    this.mount.keepAlive();
    this.model = new FileModel(this.world.random, await this.numbers(this.mount));
  }

  async numbers(mount: TestMount): Promise<number[]> {
    const numbers: number[] = [];
    for (const slot of SLOTS_USED) {
      const { reply } = await this.world.run(mount.patiently(() => mount.call("numbers", { slot, count: 60 })));
      for (let index = 0; index < reply.count; index++) numbers.push(reply.first + 64 * index);
    }
    return numbers;
  }

  /** Transactions of the model, most of them shipped. */
  async work(steps: number): Promise<void> {
    const { world, mount, model } = this;
    for (; steps > 0; steps--) {
      await world.run(mount.write(model.transaction(mount.log, mount.lastShipped + 1)));
      if (world.random.below(3) > 0)
        await world.run(
          mount.patiently(() => mount.ship()),
          SETTLE_LIMIT_MS,
        );
      if (world.random.below(10) === 0) await this.settle();
    }
  }

  settle(): Promise<void> {
    const { mount } = this;
    return this.world.run(
      mount.patiently(async () => {
        await mount.ship();
        await mount.settle();
      }),
      SETTLE_LIMIT_MS,
    );
  }

  /** One of the slots in use goes to another manager, and another one comes from there. */
  startMove(): Promise<void> {
    const { world, cluster } = this;
    const slot = SLOTS_USED[world.random.below(SLOTS_USED.length)] as number;
    const to = MANAGERS[world.random.below(MANAGERS.length)] as MemberId;
    if (!cluster.isUp(to)) return Promise.resolve();
    // The other manager may be on its way out, or the slot may be moving already.
    return cluster.move([slot], to).catch(() => {});
  }

  /** Segments that a server holds and nobody needs. */
  leaks(): string[] {
    const { cluster, model } = this;
    const needed = model.liveSegments();
    const managers = cluster.managers;
    return cluster.logs.all().flatMap((log) => {
      const own = managers.find((manager) => manager.log === log);
      const kept = cluster.logs.sequencesOf(log).filter((sequence) => {
        if (needed.has(`${log}/${sequence}`) || managers.some(({ parts }) => parts.segments.has(log, sequence))) return false;
        return own === undefined || sequence <= own.journal.trimmedTo;
      });
      return kept.map((sequence) => `${log}/${sequence}`);
    });
  }
}

test("while slots move, no segment goes that any slot needs, and in the end none is left that nobody needs", async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const bench = new Bench(seed);
    await bench.begin();
    const { world, cluster, mount, model } = bench;
    cluster.onDelete = (log, sequence) => {
      if (log !== mount.log) return;
      t.true(sequence <= mount.trimmedTo, `seed ${seed}: ${log}/${sequence} is above ${mount.trimmedTo}`);
      t.false(model.liveSegments().has(`${log}/${sequence}`), `seed ${seed}: ${log}/${sequence} is live`);
    };
    for (let round = 0; round < 6; round++) {
      const moving = [bench.startMove(), bench.startMove()];
      await bench.work(30);
      await world.run(Promise.all(moving), SETTLE_LIMIT_MS);
      await bench.settle();
      await world.advance(world.random.below(3_000));
      t.deepEqual(await world.run(model.differences(mount), SETTLE_LIMIT_MS), [], `seed ${seed} round ${round}`);
    }
    await bench.settle();
    await world.run(() => bench.leaks().length === 0, SETTLE_LIMIT_MS);
    t.deepEqual(await world.run(model.differences(mount), SETTLE_LIMIT_MS), [], `seed ${seed} at the end`);
    await world.run(cluster.checkInvariants());
  }
});

test("managers that are killed while slots move lose nothing that was stable, and leave nothing behind", async (t) => {
  for (let seed = 20; seed < 20 + SEEDS; seed++) {
    const bench = new Bench(seed);
    await bench.begin();
    const { world, cluster, mount, model } = bench;
    cluster.onDelete = (log, sequence) => {
      if (log !== mount.log) return;
      t.false(model.liveSegments().has(`${log}/${sequence}`), `seed ${seed}: ${log}/${sequence} is live`);
    };
    for (let round = 0; round < 3; round++) {
      const moving = bench.startMove();
      await bench.work(20);
      const victim = MANAGERS[1 + world.random.below(2)] as MemberId;
      cluster.killNode(victim);
      await bench.work(20);
      await world.run(moving, SETTLE_LIMIT_MS);
      await bench.settle();
      t.deepEqual(await world.run(model.differences(mount), SETTLE_LIMIT_MS), [], `seed ${seed} round ${round}`);
      await world.run(cluster.startNode(victim));
    }
    await bench.settle();
    await world.run(() => bench.leaks().length === 0, SETTLE_LIMIT_MS);
    t.deepEqual(await world.run(model.differences(mount), SETTLE_LIMIT_MS), [], `seed ${seed} at the end`);
    await world.run(cluster.checkInvariants());
  }
});

test("a mount's log is closed when every slot has it, though slots move, and what was stable of it is there", async (t) => {
  for (let seed = 40; seed < 40 + SEEDS; seed++) {
    const bench = new Bench(seed);
    await bench.begin();
    const { world, cluster, mount, model } = bench;
    await bench.work(40);
    const moving = [bench.startMove(), bench.startMove()];
    mount.kill();
    if (seed % 2 === 0) cluster.killNode(2 as MemberId);
    await world.run(() => mount.state === "closed", SETTLE_LIMIT_MS);
    await world.run(Promise.all(moving), SETTLE_LIMIT_MS);
    model.dropOrphans();
    const next = await world.run(cluster.mount("next"), SETTLE_LIMIT_MS);
    t.deepEqual(await world.run(model.differences(next), SETTLE_LIMIT_MS), [], `seed ${seed}`);
    // Everything is removed, and the log with it.
    next.keepAlive();
    bench.mount = next;
    const removed = [...model.files.keys()];
    for (const transaction of model.removeAll()) await world.run(next.write(transaction));
    await bench.settle();
    t.true(removed.length > 0);
    await world.run(
      next.patiently(() => next.close()),
      SETTLE_LIMIT_MS,
    );
    await world.run(() => next.state === undefined && findLog(cluster.map.current, mount.log) === undefined, SETTLE_LIMIT_MS);
    await world.run(() => bench.leaks().length === 0, SETTLE_LIMIT_MS);
  }
});

test("a slot does not wait for a mount that is done with here while it is being opened, though another manager can't apply the mount's log", async (t) => {
  const bench = new Bench(60);
  await bench.begin();
  const { world, cluster, mount } = bench;
  await bench.work(20);
  const slot = SLOTS_USED.find((one) => cluster.map.current.slots[one]?.manager === MANAGERS[1]) as number;
  const heir = cluster.managerOf(1).parts;
  cluster.managerOf(3).parts.mounts.ended.settle = () => new Promise(() => {});
  mount.kill();
  const isSettled = () => heir.mounts.ended.isSettled(mount.log);
  await world.run(isSettled, SETTLE_LIMIT_MS);
  const began = deferred();
  const begin = heir.numbers.begin.bind(heir.numbers);
  heir.numbers.begin = async (shards) => {
    await began.promise;
    await begin(shards);
  };
  const moved = cluster.move([slot], MANAGERS[0] as MemberId);
  await world.run(() => heir.host.has(slot), SETTLE_LIMIT_MS);
  t.true(heir.host.shard(slot).holds.has(mount.log));
  await world.run(isSettled, SETTLE_LIMIT_MS);
  began.resolve();
  await world.run(moved, SETTLE_LIMIT_MS);
  t.true(heir.table.isOpen(slot));
  t.is(mount.state, "ended");
});
