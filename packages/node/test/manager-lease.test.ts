import { LIMITS, type LogId, type MemberId, withLog } from "@dazzle/core";
import { type LeaseOptions, leaseLeftMs, leaseOver, ManagerLease } from "@dazzle/manager";
import { World } from "@dazzle/sim";
import test from "ava";
import { KeeperMachines, type MapUser, withLogOf } from "./support/keeper-machines.ts";

const LEASE_MS = LIMITS.managerLeaseMs;
/** Of virtual time, for what must come once nothing fails any more. */
const LIMIT_MS = 120_000;
const MEMBER = 1 as MemberId;
const SEEDS = process.env.DAZZLE_LONG === "1" ? 100 : 4;

function optionsOf({ instance, map, peers }: MapUser): LeaseOptions {
  const { clock, logger } = instance.ports;
  return { map, peers, clock, logger, limits: LIMITS };
}

async function begin(world: World, keepers: readonly number[]) {
  const machines = new KeeperMachines(world, 5, keepers);
  machines.startAll();
  await world.run(() => machines.members.every((member) => machines.isUp(member)));
  const holder = machines.user("holder");
  const map = await world.run(holder.map.change((now) => withLogOf(now, "manager", "manager")));
  const log = map.logs[0]?.id as LogId;
  const lease = new ManagerLease(optionsOf(holder), MEMBER, log);
  return { machines, holder, log, lease, held: () => lease.held(world.nowMs) };
}

function expelled(user: MapUser, log: number) {
  return user.map.change((now) => withLog(now, log, { state: "expelled" }));
}

test("a lease is held while a majority of the keepers answers, and ends within one lease after", async (t) => {
  const world = new World(1);
  const { machines, lease, held } = await begin(world, [1, 2, 3]);
  t.false(held());
  await world.run(lease.whenHeld());
  machines.kill(1);
  await world.advance(5 * LEASE_MS);
  t.true(held());
  machines.kill(2);
  await world.advance(LEASE_MS);
  t.false(held());
  machines.start(1);
  await world.run(lease.whenHeld());
  t.true(held());
  lease.stop();
  t.false(held());
});

test("who waits for a lease that has run out is not told that it is held", async (t) => {
  const world = new World(1);
  const { machines, lease, held } = await begin(world, [1]);
  await world.run(lease.whenHeld());
  machines.kill(1);
  while (held()) await world.advance(1);
  let told = false;
  void lease.whenHeld().then(() => {
    told = true;
  });
  await world.advance(LEASE_MS);
  t.false(told);
});

test("a keeper promises to a live log of a manager of that member alone", async (t) => {
  const world = new World(1);
  const { holder, log, lease, held } = await begin(world, [1]);
  await world.run(lease.whenHeld());
  const other = new ManagerLease(optionsOf(holder), 2 as MemberId, log);
  const none = new ManagerLease(optionsOf(holder), MEMBER, (log + 1) as LogId);
  await t.throwsAsync(world.run(leaseLeftMs(optionsOf(holder), log)), { code: "unreachable", message: /it is expelled before/ });
  await world.advance(2 * LEASE_MS);
  t.false(other.held(world.nowMs));
  t.false(none.held(world.nowMs));
  await world.run(expelled(holder, log));
  await world.advance(LEASE_MS);
  t.false(held());
});

test("a keeper that started a moment ago tells of a whole lease that it may have promised before", async (t) => {
  const world = new World(1);
  const { machines, holder, log, lease, held } = await begin(world, [1]);
  await world.run(lease.whenHeld());
  await world.run(expelled(holder, log));
  machines.kill(1);
  machines.start(1);
  await world.run(() => machines.isUp(1));
  await world.advance(2_000);
  const asker = machines.user("asker");
  await world.run(asker.map.refresh());
  const leftMs = await world.run(leaseLeftMs(optionsOf(asker), log));
  t.true(leftMs >= LEASE_MS - 2_500 && leftMs <= LEASE_MS * 1.01);
  await world.run(leaseOver(optionsOf(asker), log));
  t.false(held());
});

test("keepers tell since when a manager's lease is over, never too long ago", async (t) => {
  const world = new World(1);
  const { machines, holder, log, lease, held } = await begin(world, [1, 2, 3]);
  await world.run(lease.whenHeld());
  const asker = machines.user("asker");
  await world.run(expelled(asker, log));
  holder.instance.kill();
  let heldMs = 0;
  for (let step = 0; step < 2 * LEASE_MS; step += 50) {
    await world.advance(50);
    if (held()) heldMs = world.nowMs;
  }
  for (let step = 0; step < 4; step++) {
    await world.advance(LEASE_MS);
    const leftMs = await world.run(leaseLeftMs(optionsOf(asker), log));
    t.true(leftMs <= 0 && world.nowMs + leftMs >= heldMs, `${leftMs} at ${world.nowMs}, held at ${heldMs}`);
    t.is(leftMs === -LIMITS.mountLeaseMs, step > 1);
  }
});

test("when somebody was told that a manager's lease is over, it is not held, whatever failed and whoever keeps the map", async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const world = new World(seed);
    const { random } = world;
    const { machines, log, lease, held } = await begin(world, [1, 2, 3]);
    await world.run(lease.whenHeld());
    const askers = ["one", "two"].map((name) => machines.user(name));
    const everyone = [...machines.members.map((member) => `k${member}`), "holder", "one", "two"];
    let over = false;
    const ask = async (asker: MapUser) => {
      for (;;) {
        try {
          await expelled(asker, log);
          await leaseOver(optionsOf(asker), log);
          over = true;
          return;
        } catch {
          await new Promise<void>((resolve) => asker.instance.ports.clock.after(200, resolve));
        }
      }
    };
    for (let round = 0; round < 40; round++) {
      const member = random.pick(machines.members);
      const kind = random.below(8);
      if (kind === 0) machines.kill(member, random.chance(0.5));
      if (kind === 1 || kind === 2) machines.startAll();
      if (kind === 3) world.network.partition(["holder"], random.shuffle([...everyone]).slice(0, 3));
      if (kind === 4) world.network.partition(random.shuffle([...everyone]).slice(0, 4), random.shuffle([...everyone]).slice(0, 3));
      if (kind === 5) world.network.heal();
      if (kind === 6) machines.leave(random.pick(machines.members));
      if (round === 10) for (const asker of askers) void ask(asker);
      for (let step = 0; step < 20; step++) {
        await world.advance(random.below(100));
        t.false(over && held(), `seed ${seed}: held at ${world.nowMs} ms, after it was over`);
      }
    }
    world.network.heal();
    machines.startAll();
    await world.run(() => over, LIMIT_MS);
    t.false(held(), `seed ${seed}`);
    lease.stop();
    world.powerCut();
  }
});
