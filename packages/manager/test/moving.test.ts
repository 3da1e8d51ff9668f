import { type ClusterMap, deferred, type MemberId, sleep, withLog } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster, SMALL } from "./support/cluster.ts";
import { FileModel } from "./support/file-model.ts";
import type { TestMount } from "./support/test-mount.ts";

const SEEDS = Number(process.env.DAZZLE_SEEDS ?? 3);
const LIMIT_MS = 300_000;
const MANAGERS = [1, 2, 3] as MemberId[];
/** Slots of the model's files. */
const SLOTS_USED = [1, 2, 3, 40];

interface Bench {
  readonly world: World;
  readonly cluster: Cluster;
  readonly mount: TestMount;
  readonly model: FileModel;
}

async function begin(seed: number, limits = SMALL): Promise<Bench> {
  const world = new World(seed);
  const cluster = new Cluster(world, limits, MANAGERS);
  await world.run(cluster.start());
  await world.run(cluster.opened());
  const mount = await world.run(cluster.mount("mount"));
  mount.keepAlive();
  const numbers: number[] = [];
  for (const slot of SLOTS_USED) {
    const { reply } = await world.run(mount.call("numbers", { slot, count: 200 }));
    for (let index = 0; index < reply.count; index++) numbers.push(reply.first + 64 * index);
  }
  return { world, cluster, mount, model: new FileModel(world.random, numbers) };
}

async function write({ world, mount, model }: Bench, count: number): Promise<void> {
  for (; count > 0; count--) await world.run(mount.write(model.transaction(mount.log, mount.lastShipped + 1)));
}

function ship({ world, mount }: Bench): Promise<void> {
  return world.run(
    mount.patiently(() => mount.ship()),
    LIMIT_MS,
  );
}

/** What was shipped is stable at the managers, and the mount has forgotten it. */
function settle({ world, mount }: Bench): Promise<void> {
  return world.run(
    mount.patiently(() => mount.settle()),
    LIMIT_MS,
  );
}

/** The mount goes on writing, each transaction forgotten once it is stable, until `done` says so. */
async function work({ world, mount, model }: Bench, done: () => boolean): Promise<void> {
  while (!done()) {
    await mount.write(model.transaction(mount.log, mount.lastShipped + 1));
    await mount.patiently(() => mount.ship());
    if (world.random.below(3) === 0) await mount.patiently(() => mount.settle());
    if (world.random.below(8) === 0) await sleep(mount.instance.ports.clock, world.random.below(30));
  }
}

/** What the mount is told differently, once it has shipped again what was not stable where a manager died. */
async function differences(bench: Bench): Promise<string[]> {
  const { world, mount, model } = bench;
  await ship(bench);
  return world.run(
    mount.patiently(() => model.differences(mount)),
    LIMIT_MS,
  );
}

/** Nothing goes to a manager that is given up. */
function expelled(log: number) {
  return (now: ClusterMap) => withLog(now, log, { state: "expelled" });
}

/** One where the model has files. */
function slotOfModel(cluster: Cluster, owner: MemberId): number {
  return SLOTS_USED.find((slot) => cluster.map.current.slots[slot]?.manager === owner) as number;
}

function linksOf(cluster: Cluster, slot: number): number {
  return cluster.map.current.slots[slot]?.chain.length ?? 0;
}

test("a slot moves with everything that was applied, also what is logged while it is about to move", async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster, mount } = bench;
    let moved = false;
    const leased = new Set<number>();
    const moves = async () => {
      for (const to of [2, 0, 1, 2]) {
        await cluster.move([1, 2, 40], MANAGERS[to] as MemberId);
        const { reply } = await mount.patiently(() => mount.call("numbers", { slot: 40, count: 50 }));
        for (let index = 0; index < reply.count; index++) {
          const number = reply.first + 64 * index;
          t.false(leased.has(number), `number ${number} is leased twice`);
          leased.add(number);
        }
      }
      moved = true;
    };
    const working = work(bench, () => moved);
    await world.run(Promise.all([moves(), working]), LIMIT_MS);
    await settle(bench);
    t.deepEqual(await differences(bench), [], `seed ${seed}`);
    await world.run(cluster.checkInvariants());
    // Asked again, because the answer was lost.
    await world.run(cluster.move([1, 2, 40], MANAGERS[2] as MemberId), LIMIT_MS);
    t.is(cluster.map.current.slots[1]?.manager, MANAGERS[2]);
    await world.run(() => [1, 2, 40].every((slot) => linksOf(cluster, slot) === 1), LIMIT_MS);
  }
});

test("a slot is opened from the logs of two owners before, where the second died before its first checkpoint", async (t) => {
  let deepest = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const bench = await begin(seed, { ...SMALL, checkpointIntervalMs: 60_000 });
    const { world, cluster, mount } = bench;
    await write(bench, 30);
    await ship(bench);
    await settle(bench);
    const slot = [1, 40].find((one) => cluster.map.current.slots[one]?.manager !== 3) as number;
    const before = cluster.managerOf(cluster.map.current.slots[slot]?.manager as number);
    await write(bench, 5);
    const moved = cluster.move([slot], MANAGERS[2] as MemberId).then(() => {
      deepest = Math.max(deepest, linksOf(cluster, slot));
      cluster.killNode(MANAGERS[2] as MemberId);
    });
    const shipped = mount.patiently(() => mount.ship());
    await world.run(moved, LIMIT_MS);
    // The first owner goes on, and has no use any more for what it logged of the slot.
    for (let round = 0; round < 3; round++) {
      await world.run(before.parts.checkpointer.run(), LIMIT_MS);
      await world.advance(1_000);
    }
    await world.run(shipped, LIMIT_MS);
    t.deepEqual(await differences(bench), [], `seed ${seed}`);
    t.not(cluster.map.current.slots[slot]?.manager, MANAGERS[2]);
    await world.run(cluster.checkInvariants());
  }
  t.true(deepest >= 2, `the chains had ${deepest} links`);
});

test("the slots of a manager that does not answer go to the others, and back when it is there again", async (t) => {
  const bench = await begin(5);
  const { world, cluster } = bench;
  await write(bench, 20);
  await ship(bench);
  cluster.killNode(MANAGERS[1] as MemberId);
  await world.run(() => cluster.map.current.slots.every(({ manager }) => manager !== 2), LIMIT_MS);
  const counts = () => MANAGERS.map((member) => cluster.map.current.slots.filter(({ manager }) => manager === member).length);
  t.deepEqual(counts(), [32, 0, 32]);
  t.deepEqual(await differences(bench), []);
  await world.run(cluster.startNode(MANAGERS[1] as MemberId), LIMIT_MS);
  await world.run(() => Math.min(...counts()) === 21, LIMIT_MS);
  t.deepEqual(await differences(bench), []);
  await world.run(cluster.checkInvariants());
});

test("a member that leaves gives its slots away while they are used", async (t) => {
  const bench = await begin(9);
  const { world, cluster } = bench;
  const leave = (leaving: boolean) =>
    cluster.map.change((map) => ({ ...map, members: map.members.map((row) => (row.id === 2 ? { ...row, leaving } : row)) }));
  const countOf = (member: number) => cluster.map.current.slots.filter(({ manager }) => manager === member).length;
  await world.run(leave(true));
  let left = false;
  const working = work(bench, () => left);
  await world.run(() => countOf(2) === 0, LIMIT_MS);
  left = true;
  await world.run(working, LIMIT_MS);
  t.deepEqual([countOf(1), countOf(3)], [32, 32]);
  t.is(cluster.managerOf(2).state, "open");
  t.deepEqual(await differences(bench), []);
  await world.run(leave(false));
  await world.run(() => countOf(2) === 21, LIMIT_MS);
  t.deepEqual(await differences(bench), []);
});

test("a manager that starts again in time takes its own slots", async (t) => {
  const bench = await begin(6);
  const { world, cluster } = bench;
  await write(bench, 20);
  await ship(bench);
  cluster.killNode(MANAGERS[1] as MemberId);
  await world.advance(400);
  await world.run(cluster.startNode(MANAGERS[1] as MemberId), LIMIT_MS);
  t.deepEqual(await differences(bench), []);
  t.is(cluster.map.current.slots[1]?.manager, MANAGERS[1]);
  t.is(cluster.managerOf(2).parts.table.size, 21);
});

test("a manager whose lease ran out answers nothing, and its slots open elsewhere when its lease is over", async (t) => {
  const bench = await begin(7);
  const { world, cluster, mount } = bench;
  await write(bench, 20);
  await ship(bench);
  await settle(bench);
  const cutOff = cluster.managerOf(2);
  t.is(cluster.map.current.slots[1]?.manager, MANAGERS[1]);
  world.network.partition(["node2"], ["node", "node3"]);
  // The mount reaches it as before.
  await world.advance(SMALL.managerLeaseMs / 3);
  await world.run(mount.callAt(MANAGERS[1] as MemberId, "renew", { trimmedTo: 0, settle: false }));
  await world.advance(SMALL.managerLeaseMs);
  let answered = false;
  void mount.callAt(MANAGERS[1] as MemberId, "renew", { trimmedTo: 0, settle: false }).then(
    () => {
      answered = true;
    },
    () => {},
  );
  await world.run(
    () => [1, 40].every((slot) => cluster.managers.some((manager) => manager !== cutOff && manager.parts.table.isOpen(slot))),
    LIMIT_MS,
  );
  t.false(cutOff.parts.lease.held(world.nowMs));
  t.false(answered);
  t.deepEqual(await differences(bench), []);
  world.network.heal();
  const failure = await world.run(cutOff.failed, LIMIT_MS);
  t.regex(String(failure), /expelled/);
  t.false(answered);
});

test("slots are read, and mounts say what they hold, while the lease of the manager before runs: they are answered for, and leave its chain, when it is over", async (t) => {
  for (let seed = 30; seed < 30 + SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster } = bench;
    await write(bench, 20);
    await ship(bench);
    await settle(bench);
    const cutOff = cluster.managerOf(2);
    world.network.partition(["node2"], ["node", "node3"]);
    const slotsOf = (state: string) =>
      cluster.managers
        .filter((manager) => manager !== cutOff)
        .flatMap(({ parts: { table } }) => [1, 40].filter((slot) => table.stateOf(slot) === state));
    const isHeld = () => cutOff.parts.lease.held(world.nowMs);
    let claimed = 0;
    while (slotsOf("open").length < 2) {
      await world.advance(20);
      if (!isHeld()) continue;
      t.deepEqual(slotsOf("open"), [], `seed ${seed} at ${world.nowMs}`);
      const claiming = slotsOf("claiming");
      const heirs = cluster.managers.filter((manager) => manager !== cutOff);
      const heard = claiming.filter((slot) => heirs.every(({ parts: { claims } }) => claims.termOf(slot) === undefined));
      claimed = Math.max(claimed, heard.length);
      for (const { parts, state } of heirs) if (state !== "failed" && claimed === 2) await world.run(parts.checkpointer.run());
      for (const slot of claiming)
        t.true(
          cluster.map.current.slots[slot]?.chain.some(({ log }) => log === cutOff.log),
          `seed ${seed}`,
        );
    }
    t.is(claimed, 2, `seed ${seed}`);
    await world.run(() => [1, 40].every((slot) => cluster.map.current.slots[slot]?.chain.length === 1), LIMIT_MS);
    t.deepEqual(await differences(bench), []);
    world.network.heal();
  }
});

test("a manager that stops leaves those before it in the chains of its slots while their leases may run, however slowly it writes its last checkpoint", async (t) => {
  for (let seed = 40; seed < 40 + SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster } = bench;
    await write(bench, 20);
    await ship(bench);
    await settle(bench);
    const killed = cluster.managerOf(2);
    const mayServe = () => killed.parts.lease.held(world.nowMs);
    const slots = cluster.map.current.slots.flatMap(({ manager }, slot) => (manager === MANAGERS[1] ? [slot] : []));
    cluster.killNode(MANAGERS[1] as MemberId);
    const heirs = cluster.managers.filter((manager) => manager !== killed);
    await world.run(() => slots.every((slot) => heirs.some(({ parts }) => parts.table.stateOf(slot) === "claiming")), LIMIT_MS);
    const stopping = heirs.map((heir) => {
      const { checkpointer } = heir.parts;
      const run = checkpointer.run.bind(checkpointer);
      checkpointer.run = () => new Promise<void>((resolve) => world.after(700, resolve)).then(run);
      return heir.close();
    });
    t.true(mayServe(), `seed ${seed}`);
    for (; mayServe(); await world.advance(20)) {
      const isChained = (slot: number) => cluster.map.current.slots[slot]?.chain.some(({ log }) => log === killed.log);
      t.deepEqual(
        slots.filter((slot) => isChained(slot) !== true),
        [],
        `seed ${seed} at ${world.nowMs}`,
      );
    }
    await world.run(Promise.all(stopping), LIMIT_MS);
  }
});

test("slots that can't be read stay closed, and say why; the others are served", async (t) => {
  const bench = await begin(8);
  const { world, cluster, mount } = bench;
  await write(bench, 20);
  await ship(bench);
  await settle(bench);
  const { log } = cluster.managerOf(2);
  cluster.killNode(MANAGERS[1] as MemberId);
  for (const sequence of cluster.logs.sequencesOf(log)) cluster.logs.delete(log, sequence, 0);
  await world.run(() => cluster.map.current.slots.every(({ manager }) => manager !== 2), LIMIT_MS);
  const heir = cluster.managerOf(cluster.map.current.slots[1]?.manager as number);
  await world.run(() => heir.parts.table.waiting.length > 0, LIMIT_MS);
  t.regex(heir.parts.table.waiting.map(({ reason }) => reason).join(), /segment/);
  await world.advance(20_000);
  for (const manager of cluster.managers) {
    t.not(manager.state, "failed");
    for (const [slot, row] of cluster.map.current.slots.entries())
      if (row.chain.length === 1 && row.chain[0]?.log === manager.log) t.true(manager.parts.table.isOpen(slot), `slot ${slot}`);
  }
  await t.throwsAsync(world.run(mount.acquire(1), LIMIT_MS), { code: "notReady", message: /slot 1 is loading.*segment/ });
});

test("a manager stops while its slots wait for a mount, and loses nothing by it", async (t) => {
  const bench = await begin(10);
  const { world, cluster, mount } = bench;
  await write(bench, 20);
  await ship(bench);
  await settle(bench);
  world.network.partition(["mount"], ["node2"]);
  cluster.killNode(MANAGERS[1] as MemberId);
  await world.run(cluster.startNode(MANAGERS[1] as MemberId), LIMIT_MS);
  const waiting = cluster.managerOf(2);
  await world.run(() => waiting.state === "waiting for mounts", LIMIT_MS);
  await world.run(waiting.close(), LIMIT_MS);
  await t.throwsAsync(waiting.opened, { code: "notReady" });
  world.network.heal();
  cluster.killNode(MANAGERS[1] as MemberId);
  await world.run(cluster.startNode(MANAGERS[1] as MemberId), LIMIT_MS);
  t.deepEqual(await differences(bench), []);
  t.is(mount.state, "live");
});

test("slots move and managers are killed while a mount works: nothing that was told is lost", async (t) => {
  for (let seed = 20; seed < 20 + SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster } = bench;
    for (let round = 0; round < 4; round++) {
      let over = false;
      const working = work(bench, () => over);
      const killed = world.random.below(2) === 0 ? MANAGERS[1 + world.random.below(2)] : undefined;
      const slots = [1, 2, 3, 40].filter(() => world.random.below(2) === 0);
      const to = MANAGERS[world.random.below(3)] as MemberId;
      const moving = cluster.move(slots, to).catch(() => {});
      await world.advance(world.random.below(40));
      if (killed !== undefined) {
        cluster.killNode(killed);
        await world.advance(world.random.below(2) === 0 ? 500 : 8_000);
        await world.run(cluster.startNode(killed), LIMIT_MS);
      }
      // A process that is gone answers nobody.
      if (to !== killed) await world.run(moving, LIMIT_MS);
      over = true;
      await world.run(working, LIMIT_MS);
      t.deepEqual(await differences(bench), [], `seed ${seed} round ${round}`);
      await world.run(cluster.checkInvariants());
    }
  }
});

test("a slot that can't move goes on here, however many transactions wait", async (t) => {
  for (const isRemoved of [true, false]) {
    const bench = await begin(13);
    const { world, cluster, mount } = bench;
    const owner = cluster.managerOf(2);
    const { checkpointer, yielder, host, table } = owner.parts;
    const slot = slotOfModel(cluster, MANAGERS[1] as MemberId);
    await write(bench, 10);
    const released = deferred();
    const fill = () => {
      for (let before = -1; host.waiting > before; ) {
        before = host.waiting;
        host.between(() => released.promise).catch(() => {});
      }
    };
    const run = checkpointer.run.bind(checkpointer);
    checkpointer.run = async () => {
      await run();
      await mount.ship();
      cluster.logs.writers.get(owner.log)?.silence();
      if (!isRemoved) fill();
    };
    const remove = host.remove.bind(host);
    host.remove = (one) => {
      fill();
      return remove(one);
    };
    const moved = yielder.yield([slot], { member: MANAGERS[2] as MemberId, log: cluster.managerOf(3).log }, checkpointer);
    const refused = t.throwsAsync(moved, { message: isRemoved ? /storage is silent/ : /transactions wait here/ });
    await world.run(() => table.stateOf(slot) === "leaving", LIMIT_MS);
    await world.advance(1_000);
    released.resolve();
    await world.run(refused, LIMIT_MS);
    t.is(table.stateOf(slot), "open");
    t.true(host.has(slot));
  }
});

test("mounts that open while a slot is about to move may hold something in it, where it stays after all", async (t) => {
  const { world, cluster } = await begin(12);
  const owner = cluster.managerOf(2);
  const slot = cluster.map.current.slots.findIndex(({ manager }) => manager === MANAGERS[1]);
  const to = { member: MANAGERS[2] as MemberId, log: cluster.managerOf(3).log };
  const map = cluster.mapOf(2);
  const decided = deferred();
  const change = map.change.bind(map);
  map.change = async (edit) => {
    await decided.promise;
    return change(edit);
  };
  const moved = owner.parts.yielder.yield([slot], to, owner.parts.checkpointer).then(
    () => "moved",
    (error: Error) => error.message,
  );
  await world.run(() => !owner.parts.host.has(slot), LIMIT_MS);
  const late = await world.run(cluster.mount("late"), LIMIT_MS);
  t.is(owner.parts.mounts.session(late.log)?.state, "open");
  await world.run(cluster.map.change(expelled(to.log)), LIMIT_MS);
  decided.resolve();
  t.regex(await world.run(moved, LIMIT_MS), /is not there any more/);
  t.is(owner.parts.table.stateOf(slot), "open");
  t.true(owner.parts.host.shard(slot).holds.has(late.log));
});

test("a slot that stays because storage was silent tells of nothing as stable that is not: it is there when its manager dies", async (t) => {
  for (let seed = 50; seed < 50 + SEEDS; seed++) {
    const bench = await begin(seed);
    const { world, cluster, mount } = bench;
    const owner = cluster.managerOf(2);
    const slot = slotOfModel(cluster, MANAGERS[1] as MemberId);
    await write(bench, 20);
    await ship(bench);
    await settle(bench);
    await write(bench, 10);
    const { checkpointer, yielder } = owner.parts;
    const run = checkpointer.run.bind(checkpointer);
    checkpointer.run = async () => {
      await run();
      // Everything is served until the slot leaves.
      await mount.ship();
      cluster.logs.writers.get(owner.log)?.silence();
    };
    const moved = yielder.yield([slot], { member: MANAGERS[2] as MemberId, log: cluster.managerOf(3).log }, checkpointer);
    await t.throwsAsync(world.run(moved, LIMIT_MS), { message: /storage is silent/ });
    t.is(owner.parts.table.stateOf(slot), "open");
    await world.run(
      mount.patiently(() => mount.open()),
      LIMIT_MS,
    );
    cluster.killNode(MANAGERS[1] as MemberId);
    t.deepEqual(await differences(bench), [], `seed ${seed}`);
  }
});
