import { type Connection, encodeCancel, encodeRequest, type Frame, isDazzleError, joined, RpcPeer, serve } from "@dazzle/core";
import { type Instance, World } from "@dazzle/sim";
import test from "ava";

interface Pair {
  readonly world: World;
  readonly client: Instance;
  readonly server: Instance;
  readonly near: Connection;
  readonly far: Connection;
}

async function connected(seed: number): Promise<Pair> {
  const world = new World(seed);
  const server = world.spawn("server");
  const client = world.spawn("client");
  const accepted: Connection[] = [];
  await world.run(server.ports.network.listen("sim:server", (connection) => accepted.push(connection)));
  const near = await world.run(client.ports.network.connect("sim:server", 1_000));
  return { world, client, server, near, far: accepted[0] as Connection };
}

function closesOf(connection: Connection): string[] {
  const reasons: string[] = [];
  connection.onClose((reason) => reasons.push(reason));
  return reasons;
}

const text = (value: string): Frame => ({ header: Buffer.from(value), tail: [] });

test("frames of a connection arrive once, in order, with their tail cut anew", async (t) => {
  const { world, near, far } = await connected(1);
  const sent = Array.from({ length: 200 }, (_, index) => Buffer.concat([Buffer.from(`${index}:`), world.random.bytes(index)]));
  const received: Buffer[] = [];
  far.onFrame(({ header, tail }) => received.push(Buffer.concat([header, joined(tail)])));
  for (const bytes of sent) near.send({ header: bytes.subarray(0, 2), tail: [bytes.subarray(2, 3), bytes.subarray(3)] });
  t.true(near.bufferedBytes > 10_000);
  await world.run(() => received.length === sent.length);
  t.deepEqual(received, sent);
  t.is(near.bufferedBytes, 0);
  t.true(world.counters.of("tailRecut") > 10);
});

test("connections overtake each other", async (t) => {
  const world = new World(2);
  const heard: string[] = [];
  const server = world.spawn("server");
  await world.run(server.ports.network.listen("sim:s", (connection) => connection.onFrame(({ header }) => heard.push(header.toString()))));
  const { network } = world.spawn("client").ports;
  const one = await world.run(network.connect("sim:s", 1_000));
  const other = await world.run(network.connect("sim:s", 1_000));
  for (let round = 0; round < 50; round++) {
    one.send(text(`one ${round}`));
    other.send(text(`other ${round}`));
    await world.advance(1);
  }
  await world.advance(10);
  const turns = heard.map((line) => line.split(" ")[0]);
  t.true(turns.some((name, index) => index % 2 === 0 && name === "other"));
  t.is(heard.length, 100);
});

test("a tail that changes before it arrives is the sender's bug", async (t) => {
  const { world, near } = await connected(3);
  const tail = Buffer.alloc(100, 1);
  near.send({ header: encodeRequest(1, "mapRead", 0, 1_000, {}), tail: [tail] });
  tail[50] = 2;
  await t.throwsAsync(world.advance(10), { message: /client\/1 changed a tail/ });
});

test("a tail may change once its request was cancelled, and then arrives changed", async (t) => {
  const { world, near, far } = await connected(4);
  const received: Frame[] = [];
  far.onFrame((frame) => received.push(frame));
  const tail = Buffer.alloc(100, 1);
  near.send({ header: encodeRequest(1, "mapRead", 0, 1_000, {}), tail: [tail] });
  near.send({ header: encodeCancel(1), tail: [] });
  tail.fill(2);
  await world.advance(10);
  t.deepEqual(joined(received[0]?.tail ?? []), Buffer.alloc(100, 2));
});

test("a close is heard by both ends once, after what was sent before it", async (t) => {
  const { world, near, far } = await connected(5);
  const received: string[] = [];
  far.onFrame(({ header }) => received.push(header.toString()));
  const closes = [closesOf(near), closesOf(far)];
  near.send(text("last words"));
  near.close();
  near.send(text("too late"));
  await world.advance(100);
  t.deepEqual(received, ["last words"]);
  t.deepEqual(closes, [["closed here"], ["closed by the other side"]]);
});

test("frames that came before the handler wait for it", async (t) => {
  const { world, near, far } = await connected(6);
  near.send(text("early"));
  await world.advance(10);
  const received: string[] = [];
  far.onFrame(({ header }) => received.push(header.toString()));
  t.deepEqual(received, ["early"]);
});

test("a cut is heard by both ends, or by one only once it sends", async (t) => {
  const { world, near, far } = await connected(7);
  world.network.faults.unheardChance = 0;
  const closes = [closesOf(near), closesOf(far)];
  world.network.cut(["client"], ["server"]);
  await world.advance(100);
  t.deepEqual(closes, [["connection cut"], ["connection cut"]]);

  const silent = await connected(8);
  silent.world.network.faults.unheardChance = 1;
  const unheard = closesOf(silent.near);
  silent.world.network.cut(["client"], ["server"]);
  await silent.world.advance(60_000);
  t.deepEqual(unheard, []);
  silent.near.send(text("is anybody there"));
  await silent.world.run(() => unheard.length === 1);
  t.is(silent.world.counters.of("closeUnheard"), 2);
});

test("a partition lets nothing through; what was held arrives after it healed", async (t) => {
  let held = 0;
  let broken = 0;
  for (let seed = 0; seed < 20; seed++) {
    const { world, near, far } = await connected(seed);
    const received: string[] = [];
    far.onFrame(({ header }) => received.push(header.toString()));
    const closes = closesOf(near);
    near.send(text("1"));
    world.network.partition(["client"], ["server"]);
    near.send(text("2"));
    await world.advance(1_000);
    t.deepEqual(received, []);
    world.network.heal();
    await world.advance(10_000);
    if (received.length > 0) {
      t.deepEqual(received, ["1", "2"]);
      t.deepEqual(closes, []);
      held++;
    } else broken++;
  }
  t.true(held > 0 && broken > 0, `${held} held, ${broken} broken`);
});

test("a partition that lasts breaks every connection, and connects fail or hang until their deadline", async (t) => {
  const { world, client, near } = await connected(10);
  world.network.faults.unheardChance = 0;
  const closes = closesOf(near);
  world.network.partition(["client"], ["server"]);
  await world.advance(30_000);
  t.is(closes.length, 1);
  for (let attempt = 0; attempt < 20; attempt++) {
    const error = await t.throwsAsync(world.run(client.ports.network.connect("sim:server", 500), 501));
    t.true(isDazzleError(error, "unreachable"));
  }
  t.true(world.counters.of("connectHung") > 0 && world.counters.of("connectRefused") > 0);
  world.network.heal();
  await t.notThrowsAsync(world.run(client.ports.network.connect("sim:server", 500)));
});

test("a reset loses the frame and closes both ends", async (t) => {
  const { world, near, far } = await connected(11);
  world.network.faults.resetChance = 1;
  const closes = [closesOf(near), closesOf(far)];
  near.send(text("lost"));
  await world.advance(10);
  t.deepEqual(closes, [["connection reset"], ["connection reset"]]);
  t.is(world.counters.of("connectionReset"), 1);
});

test("what a killed process sent arrives up to some point, then the close", async (t) => {
  const counts = new Set<number>();
  for (let seed = 0; seed < 30; seed++) {
    const { world, client, near, far } = await connected(seed);
    const received: string[] = [];
    far.onFrame(({ header }) => received.push(header.toString()));
    const closes = closesOf(far);
    for (const word of ["1", "2", "3"]) near.send(text(word));
    client.kill();
    await world.advance(100);
    t.deepEqual(received, ["1", "2", "3"].slice(0, received.length));
    t.deepEqual(closes, ["the other process ended"]);
    counts.add(received.length);
  }
  t.is(counts.size, 4);
});

test("a slow process is slow, and a free port is taken", async (t) => {
  const { world, near, far, client } = await connected(12);
  const received: number[] = [];
  far.onFrame(() => received.push(world.nowMs));
  world.network.slow("server", 300);
  const startMs = world.nowMs;
  near.send(text("x"));
  await world.run(() => received.length === 1);
  t.true((received[0] ?? 0) - startMs >= 300);
  const ports = client.ports.network;
  const [one, other] = [await world.run(ports.listen("tcp:h:0", () => {})), await world.run(ports.listen("tcp:h:0", () => {}))];
  t.regex(one.address, /^tcp:h:\d+$/);
  t.not(one.address, other.address);
});

test("requests are answered over it, and end when the other process does", async (t) => {
  const world = new World(13);
  const server = world.spawn("server");
  const client = world.spawn("client");
  const map = { version: 0, reach: async () => {} };
  const { network, clock } = server.ports;
  const tails: Buffer[] = [];
  const handlers = {
    mapRead: (_: object, { tail }: { tail: readonly Uint8Array[] }) => {
      tails.push(Buffer.from(joined(tail)));
      return new Promise<never>(() => {});
    },
  };
  await world.run(serve({ network, clock, map, handlers, address: "sim:server" }));
  const peer = new RpcPeer(await world.run(client.ports.network.connect("sim:server", 1_000)), client.ports.clock, {}, map);
  const refused = await t.throwsAsync(world.run(peer.call("stat", {} as never)));
  t.true(isDazzleError(refused, "badMessage"));
  const call = peer.call("mapRead", {} as never, { tail: [Buffer.from("tail")] });
  await world.run(() => tails.length === 1);
  t.is(tails[0]?.toString(), "tail");
  server.kill();
  t.true(isDazzleError(await t.throwsAsync(world.run(call)), "unreachable"));
});

test("in a one-way partition what is sent the other way arrives, and no connection is made", async (t) => {
  const { world, client, near, far } = await connected(20);
  const [here, there]: [string[], string[]] = [[], []];
  near.onFrame(({ header }) => here.push(header.toString()));
  far.onFrame(({ header }) => there.push(header.toString()));
  world.network.partitionOneWay(["client"], ["server"]);
  near.send(text("question"));
  far.send(text("news"));
  await world.advance(1_000);
  t.deepEqual([here, there], [["news"], []]);
  await t.throwsAsync(world.run(client.ports.network.connect("sim:server", 500), 1_000), { message: /unreachable/ });
  world.network.heal();
  await world.advance(1_000);
  t.deepEqual(there, ["question"]);
});
