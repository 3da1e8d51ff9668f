import { type DiskFile, encodeCancel, encodeRequest } from "@dazzle/core";
import { Counters, FAULTS, type Instance, World } from "@dazzle/sim";
import test from "ava";

const ROUNDS = 40;
const SECTOR_BYTES = 512;

/** One process writes and talks to another while everything goes wrong. Its failures are expected. */
async function unlucky(seed: number, counters: Counters): Promise<void> {
  const world = new World(seed);
  Object.assign(world.network.faults, { resetChance: 0.02, refuseChance: 0.1 });
  const server = world.spawn("server");
  await world.run(server.ports.network.listen("sim:server", (connection) => connection.onFrame(() => {})));
  let node = start(world);
  for (let round = 0; round < ROUNDS; round++) {
    await world.advance(world.random.below(40));
    const kind = world.random.below(10);
    if (kind === 0) world.network.cut(["node"], ["server"]);
    if (kind === 1) world.network.partition(["node"], ["server"]);
    if (kind === 2) world.network.heal();
    if (kind === 3 && (node.drive.tree.file("f")?.size ?? 0) > 0) node.drive.flip("f", 0);
    if (kind === 9 && (node.drive.tree.file("f")?.size ?? 0) >= SECTOR_BYTES) node.drive.blank("f", 0, SECTOR_BYTES);
    if (kind === 4) node.drive.capacityBytes = world.random.pick([16 * 1024, 2 ** 40]);
    if (kind === 7) node.freeze(20);
    if (kind === 8) world.jumpWallClock("node", -1_000);
    if (kind !== 5 && kind !== 6) continue;
    node.kill();
    if (kind === 6) node.drive.crash();
    node = start(world);
  }
  world.powerCut();
  for (const [fault, count] of Object.entries(world.counters.all())) counters.count(fault as (typeof FAULTS)[number], count);
}

function start(world: World): Instance {
  const node = world.spawn("node");
  Object.assign(node.drive.faults, { readErrorChance: 0.05, writeErrorChance: 0.05, syncErrorChance: 0.05, commitErrorChance: 0.01 });
  for (const work of [writes, commits, talks]) node.ports.clock.soon(() => forever(node, work));
  return node;
}

function forever(node: Instance, work: (node: Instance) => Promise<void>): void {
  void work(node)
    .catch(() => {})
    .then(() => node.ports.clock.after(5, () => forever(node, work)));
}

async function writes({ disk, ports }: Instance): Promise<void> {
  const file: DiskFile = await disk.open("f", { create: true });
  await disk.replace("r", ports.random.bytes(1_000));
  await file.write([ports.random.bytes(6_000)], ports.random.below(20_000));
  file.readNow(Buffer.alloc(10), 0);
  await file.read(Buffer.alloc(10), 0);
  if (ports.random.below(2) === 0) await file.sync();
  await file.truncate(ports.random.below(20_000));
  await file.punchHole(0, 5_000);
  await disk.open(`g${ports.random.below(3)}`, { create: true });
  await disk.remove(`g${ports.random.below(3)}`);
  if (ports.random.below(4) === 0) await disk.syncDirectory("");
}

async function commits({ disk, ports }: Instance): Promise<void> {
  const index = await disk.openIndex("index");
  await Promise.all(Array.from({ length: 5 }, (_, round) => index.commit([[Buffer.from(`key ${round}`), ports.random.bytes(10)]])));
}

async function talks({ ports }: Instance): Promise<void> {
  const connection = await ports.network.connect("sim:server", 100);
  for (let id = 1; id < 20; id++) {
    const tail = Buffer.from(ports.random.bytes(100));
    connection.send({ header: encodeRequest(id, "mapRead", 0, 1_000, {}), tail: [tail] });
    if (id % 5 === 0) {
      connection.send({ header: encodeCancel(id), tail: [] });
      tail.fill(0);
    }
  }
}

test("every fault that the simulation knows happens, and is counted", async (t) => {
  const counters = new Counters();
  for (let seed = 0; seed < 12; seed++) await unlucky(seed, counters);
  t.deepEqual(
    FAULTS.filter((fault) => counters.of(fault) === 0),
    [],
  );
});
