import { type Connection, DazzleError, sleep } from "@dazzle/core";
import { SimulationError, World } from "@dazzle/sim";
import test from "ava";

/** A few processes that talk, write and wait; answers what happened. */
async function busyWorld(seed: number): Promise<{ fingerprint: number; nowMs: number; heard: string[] }> {
  const world = new World(seed);
  world.network.faults.resetChance = 0.02;
  const heard: string[] = [];
  const server = world.spawn("server");
  await world.run(
    server.ports.network.listen("sim:server", (connection) => connection.onFrame(({ header }) => heard.push(header.toString()))),
  );
  for (const name of ["one", "two", "three"]) {
    const { ports, disk } = world.spawn(name);
    void (async () => {
      const file = await disk.open("f", { create: true });
      const connection = await ports.network.connect("sim:server", 1_000);
      for (let round = 0; round < 20; round++) {
        await file.write([ports.random.bytes(1_000)], round * 1_000);
        connection.send({ header: Buffer.from(`${name} ${round}`), tail: [] });
        await sleep(ports.clock, ports.random.below(10));
        if (round % 5 === 0) await file.sync();
      }
    })();
  }
  await world.advance(500);
  world.powerCut();
  return { fingerprint: world.fingerprint, nowMs: world.nowMs, heard };
}

test("one seed decides everything", async (t) => {
  const first = await busyWorld(7);
  t.deepEqual(await busyWorld(7), first);
  t.not((await busyWorld(8)).fingerprint, first.fingerprint);
  t.true(first.heard.length > 20);
});

test("events fire in the order of time and insertion, with every promise settled in between", async (t) => {
  const world = new World(1);
  const { clock } = world.spawn("a").ports;
  const order: string[] = [];
  clock.after(20, () => order.push("late"));
  clock.after(10, async () => {
    order.push("early");
    for (let hop = 0; hop < 1_000; hop++) await null;
    order.push("settled");
  });
  clock.soon(() => order.push("soon 1"));
  clock.soon(() => order.push("soon 2"));
  clock.after(5, () => order.push("never")).cancel();
  await world.run(() => order.length === 5);
  t.deepEqual(order, ["soon 1", "soon 2", "early", "settled", "late"]);
});

test("what is due at the same time happens in the order in which it was asked for", async (t) => {
  const world = new World(2);
  const { clock } = world.spawn("a").ports;
  const order: number[] = [];
  for (let index = 0; index < 100; index++) clock.soon(() => order.push(index));
  await world.run(() => order.length === 100);
  t.deepEqual(order, [...order.keys()]);
});

test("thousands of cancelled timers leave the others in order", async (t) => {
  const world = new World(2);
  const { clock } = world.spawn("a").ports;
  const fired: number[] = [];
  for (let at = 0; at < 5_000; at++) {
    const timer = clock.after(world.random.below(1_000) * 10, () => fired.push(clock.nowMs()));
    if (at % 50 !== 0) timer.cancel();
  }
  await world.run(() => fired.length === 100);
  t.deepEqual(
    fired,
    [...fired].sort((one, other) => one - other),
  );
});

test("a run that cannot end says so, with the seed", async (t) => {
  const world = new World(42);
  const { clock } = world.spawn("a").ports;
  await t.throwsAsync(world.run(new Promise(() => {})), { instanceOf: SimulationError, message: /seed=42 .*nothing is left/ });
  await t.throwsAsync(world.run(sleep(clock, 5_000), 1_000), { message: /not come in 1000 ms/ });
  clock.soon(() => {
    throw new Error("a bug");
  });
  await t.throwsAsync(world.run(sleep(clock, 10)), { message: /a handler threw: a bug/ });
});

test("a killed process neither hears its timers nor its disk nor its network, and others learn of it", async (t) => {
  const world = new World(3);
  const server = world.spawn("server");
  const client = world.spawn("client");
  const closed: string[] = [];
  await world.run(server.ports.network.listen("sim:server", (connection) => connection.onClose((reason) => closed.push(reason))));
  const connection = await world.run(client.ports.network.connect("sim:server", 1_000));
  const file = await world.run(client.disk.open("f", { create: true }));
  const self = client.ports.processes.self;
  const events: string[] = [];
  connection.onClose(() => events.push("close"));
  client.ports.clock.after(1, () => events.push("timer"));
  file.write([Buffer.alloc(10)], 0).finally(() => events.push("write"));
  t.false(server.ports.processes.isGone(self));
  client.kill();
  t.true(server.ports.processes.isGone(self));
  t.false(server.ports.processes.isGone("a stranger"));
  file.sync().finally(() => events.push("sync"));
  client.ports.network.connect("sim:server", 5).finally(() => events.push("connect"));
  client.ports.clock.soon(() => events.push("soon"));
  await world.advance(1_000);
  t.deepEqual(events, []);
  t.deepEqual(closed, ["the other process ended"]);
  const again = world.spawn("client");
  t.not(again.ports.processes.self, self);
  t.true(again.alive && !client.alive);
});

test("an address is free again once its process is dead", async (t) => {
  const world = new World(4);
  const first = world.spawn("a");
  await world.run(first.ports.network.listen("sim:x", () => {}));
  const second = world.spawn("b");
  const error = await t.throwsAsync<DazzleError>(world.run(second.ports.network.listen("sim:x", () => {})));
  t.true(error instanceof DazzleError && error.message.includes("sim:x"));
  first.kill();
  await t.notThrowsAsync(world.run(second.ports.network.listen("sim:x", (_: Connection) => {})));
});

test("clocks run apart by no more than the drift, and start anywhere", async (t) => {
  const drift = 0.01;
  const rates: number[] = [];
  for (let seed = 0; seed < 20; seed++) {
    const world = new World(seed, { clockDrift: drift });
    const clocks = ["a", "b"].map((name) => world.spawn(name).ports.clock);
    const before = clocks.map((clock) => clock.nowMs());
    await world.advance(1e6);
    const [one, other] = clocks.map((clock, index) => clock.nowMs() - (before[index] as number)) as [number, number];
    rates.push(Math.max(one / other, other / one));
    t.true(Math.abs((before[0] as number) - (before[1] as number)) > 1_000);
  }
  t.true(Math.max(...rates) <= 1 + drift && Math.max(...rates) > 1 + drift / 3, `${Math.max(...rates)}`);
});

test("a timer waits by its own process's clock", async (t) => {
  const world = new World(5, { clockDrift: 0.01 });
  const { clock } = world.spawn("a").ports;
  const startMs = clock.nowMs();
  await world.run(sleep(clock, 100_000));
  const tookMs = clock.nowMs() - startMs;
  t.true(tookMs >= 100_000 && tookMs < 100_002, `${tookMs}`);
});

test("a wall clock jumps alone", (t) => {
  const world = new World(6);
  const [one, other] = [world.spawn("a").ports.clock, world.spawn("b").ports.clock];
  const startMs = one.nowMs();
  world.jumpWallClock("a", -5_000);
  t.is(other.wallTimeNs() - one.wallTimeNs(), 5_000_000_000n);
  t.is(one.nowMs(), startMs);
});

test("a process that is frozen does nothing and hears nothing, and all of it afterwards", async (t) => {
  const world = new World(7);
  const [frozen, other] = [world.spawn("frozen"), world.spawn("other")];
  const heard: string[] = [];
  await world.run(
    frozen.ports.network.listen("sim:frozen", (connection) => connection.onFrame(({ header }) => heard.push(header.toString()))),
  );
  const connection = await world.run(other.ports.network.connect("sim:frozen", 1_000));
  frozen.ports.clock.after(10, () => heard.push("timer"));
  frozen.freeze(500);
  connection.send({ header: Buffer.from("frame"), tail: [] });
  await world.advance(499);
  t.deepEqual(heard, []);
  await world.advance(10);
  t.deepEqual(heard.sort(), ["frame", "timer"]);
});

test("so many events happen", async (t) => {
  const world = new World(8);
  const { clock } = world.spawn("a").ports;
  const fired: number[] = [];
  for (const delayMs of [10, 20, 30]) clock.after(delayMs, () => fired.push(delayMs));
  await world.happen(2);
  t.deepEqual(fired, [10, 20]);
});
