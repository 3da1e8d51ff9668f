import { isSameSet, keepersOf, type MemberId } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { KeeperMachines, type MapUser, withLogOf } from "./support/keeper-machines.ts";
import { MapHistory } from "./support/map-history.ts";

const SEEDS = process.env.DAZZLE_LONG === "1" ? 200 : 2;
const ROUNDS = 30;
const USERS = 3;
/** Of virtual time, after which a register without faults must have answered. */
const LIMIT_MS = 120_000;

async function up(world: World, machines: number, keepers: readonly number[]): Promise<KeeperMachines> {
  const started = new KeeperMachines(world, machines, keepers);
  started.startAll();
  await world.run(() => started.members.every((member) => started.isUp(member)));
  return started;
}

/** Whatever can go wrong does, while users read and change; then nothing does, and everybody gets on. */
async function misfortunes(seed: number | string, keepers: readonly number[], counts: Map<string, number>): Promise<void> {
  const world = new World(seed);
  const { random, network } = world;
  const machines = await up(world, 5, keepers);
  const history = new MapHistory(world);
  let names = 0;
  const employ = (): MapUser => {
    const user = machines.user(`u${names++}`);
    void history.work(user);
    return user;
  };
  const users = Array.from({ length: USERS }, employ);
  const everyone = () => [...machines.members.map((member) => `k${member}`), ...users.map(({ instance }) => instance.name)];
  const some = () => random.shuffle(everyone()).slice(0, 1 + random.below(5));
  const things: Record<string, () => void> = {
    kill: () => machines.kill(random.pick(machines.members)),
    lose: () => machines.kill(random.pick(machines.members), true),
    start: () => machines.startAll(),
    restart: () => machines.startAll(),
    partition: () => network.partition(some(), some()),
    heal: () => network.heal(),
    slow: () => network.slow(random.pick(everyone()), random.below(2_000)),
    fast: () => {
      for (const name of everyone()) network.slow(name, 0);
    },
    resets: () => Object.assign(network.faults, { resetChance: random.pick([0, 0.02]), refuseChance: random.pick([0, 0.1]) }),
    leave: () => machines.leave(random.pick(machines.members)),
    replaceUser: () => {
      const place = random.below(users.length);
      users[place]?.instance.kill();
      users[place] = employ();
    },
    nothing: () => {},
  };
  for (let round = 0; round < ROUNDS; round++) {
    const what = random.pick(Object.keys(things));
    counts.set(what, (counts.get(what) ?? 0) + 1);
    things[what]?.();
    await world.advance(random.below(1_500));
  }
  network.heal();
  Object.assign(network.faults, { resetChance: 0, refuseChance: 0 });
  things.fast?.();
  things.start?.();
  await world.run(Promise.all(users.map((user, place) => changed(history, user, `last ${place}`))), LIMIT_MS);
  await world.run(() => machines.newest.formerKeepers.length === 0, LIMIT_MS);
  for (const user of users) history.check(await world.run(user.register.read(), LIMIT_MS));
  const { keepers: final } = machines.newest;
  if (!isSameSet(final, machines.first.keepers)) counts.set("changed", (counts.get("changed") ?? 0) + 1);
  counts.set("done", (counts.get("done") ?? 0) + history.done.size);
  counts.set("reads", (counts.get("reads") ?? 0) + history.reads);
  world.powerCut();
}

async function changed(history: MapHistory, user: MapUser, label: string): Promise<void> {
  for (;;) {
    try {
      return await history.change(user, label);
    } catch {
      await new Promise<void>((resolve) => user.instance.ports.clock.after(500, resolve));
    }
  }
}

for (const keepers of [[1], [1, 2, 3], [1, 2, 3, 4, 5]]) {
  test(`${keepers.length} keepers: the register is one map for everybody, whatever fails, and goes on afterwards`, async (t) => {
    const counts = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) await misfortunes(`${keepers.length} keepers, ${seed}`, keepers, counts);
    t.log(JSON.stringify(Object.fromEntries(counts)));
    t.true((counts.get("done") ?? 0) > 2 * USERS * SEEDS);
    t.true((counts.get("reads") ?? 0) > USERS * SEEDS);
    // One keeper becomes three in any case.
    if (keepers.length === 1) t.is(counts.get("changed"), SEEDS);
  });
}

test("one dead keeper of three costs no wait", async (t) => {
  const world = new World(1);
  const machines = await up(world, 3, [1, 2, 3]);
  const user = machines.user("user");
  await world.run(user.map.change((now) => withLogOf(now, "before")));
  // It takes what is sent to it, and answers nothing.
  world.network.slow("k2", 1_000_000);
  const beganMs = world.nowMs;
  await world.run(user.map.change((now) => withLogOf(now, "after")));
  await world.run(user.register.read());
  t.true(world.nowMs - beganMs < 500, `${world.nowMs - beganMs} ms`);
});

test("without a majority a read fails and names who is missing, and a change takes place once there is one again", async (t) => {
  const world = new World(1);
  const machines = await up(world, 3, [1, 2, 3]);
  const user = machines.user("user");
  machines.kill(1);
  machines.kill(3);
  const error = await t.throwsAsync(world.run(user.register.read()), { code: "unreachable" });
  t.regex(String(error?.message), /k1/);
  t.regex(String(error?.message), /k3/);
  await t.throwsAsync(world.run(user.map.change((now) => withLogOf(now, "one"))), { code: "unreachable" });
  machines.start(3);
  await world.run(() => machines.isUp(3));
  await world.advance(2_000);
  const map = await world.run(user.map.change((now) => (now.logs.length > 0 ? undefined : withLogOf(now, "one"))));
  t.is(map.logs.length, 1);
});

test("from three machines on there are three keepers, and one that leaves is replaced", async (t) => {
  const world = new World(1);
  const machines = await up(world, 2, [1]);
  await world.advance(20_000);
  t.deepEqual(machines.newest.keepers, [1]);
  const more = await up(new World(2), 4, [1]);
  const settled = (keepers: number[]) => () => isSameSet(more.newest.keepers, keepers) && more.newest.formerKeepers.length === 0;
  await more.world.run(settled([1, 2, 3]), LIMIT_MS);
  more.leave(2);
  await more.world.run(settled([1, 3, 4]), LIMIT_MS);
  // Those who only know the first map, and its keeper, find the others.
  const user = more.user("user");
  t.true(isSameSet(keepersOf(await more.world.run(user.register.read())), [1, 3, 4]));
});

test("five keep the map where five are asked for, and three when that is asked for again", async (t) => {
  const world = new World(3);
  const machines = await up(world, 5, [1]);
  const { peers } = machines.user("user");
  const settled = (count: number) => () => machines.newest.keepers.length === count && machines.newest.formerKeepers.length === 0;
  const ask = (count: number) => world.run(peers.call(1 as MemberId, "askKeepers", { count }), LIMIT_MS);
  await world.run(settled(3), LIMIT_MS);
  await ask(5);
  await world.run(settled(5), LIMIT_MS);
  // One that leaves is missed until there are five again: an even number would not outlive more.
  machines.leave(5);
  await world.run(settled(3), LIMIT_MS);
  await t.throwsAsync(
    ask(5)
      .then(() => ask(3))
      .then(() => ask(5)),
    { message: /there are 4/ },
  );
  await t.throwsAsync(ask(4), { message: /3 or 5 members keep the map, not 4/ });
  await ask(3);
  await world.advance(10_000);
  t.is(machines.newest.keepers.length, 3);
});

test("where there are to be three keepers in place of five, those that answer stay", async (t) => {
  const world = new World(4);
  const machines = await up(world, 5, [1, 2, 3, 4, 5]);
  const { peers } = machines.user("user");
  for (const member of [1, 2]) machines.kill(member);
  await world.run(peers.call(4 as MemberId, "askKeepers", { count: 3 }), LIMIT_MS);
  await world.run(() => machines.newest.keepers.length === 3 && machines.newest.formerKeepers.length === 0, LIMIT_MS);
  t.true(isSameSet(machines.newest.keepers, [3, 4, 5]));
});

test("a process that slept while every keeper it knew was replaced finds the map by the others", async (t) => {
  const world = new World(1);
  const machines = await up(world, 4, [1]);
  const user = machines.user("user");
  await world.run(() => machines.newest.keepers.length === 3 && machines.newest.formerKeepers.length === 0, LIMIT_MS);
  machines.leave(1);
  await world.run(() => !keepersOf(machines.newest).includes(1 as never), LIMIT_MS);
  machines.kill(1);
  t.true(isSameSet((await world.run(user.register.read())).keepers, [2, 3, 4]));
});

test("an emptied keeper votes no more, says so, and does not begin anew", async (t) => {
  const world = new World(1);
  const machines = await up(world, 3, [1, 2, 3]);
  machines.kill(2);
  machines.empty(2);
  machines.start(2);
  await world.run(() => world.log.some(({ message }) => message.startsWith("this keeper's directory was emptied")), LIMIT_MS);
  machines.kill(3);
  const user = machines.user("user");
  await t.throwsAsync(world.run(user.register.read()), { code: "unreachable", message: /k2: notReady/ });
  machines.start(3);
  await world.advance(5_000);
  t.is((await world.run(user.register.read())).version, 1);
});
