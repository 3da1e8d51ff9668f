import { type FileSystem, joined } from "@dazzle/core";
import { runScenario, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const LIMIT_MS = 60_000;

function newCluster(seed: number) {
  const world = new World(seed);
  return { world, cluster: new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 }) };
}

async function write(fileSystem: FileSystem, name: string, bytes: Buffer): Promise<void> {
  const { entry, file } = await fileSystem.create(CALLER, ROOT, name, 0o644, O_RDWR);
  const { ino } = entry.attributes;
  await fileSystem.write(CALLER, ino, file.handle, 0, bytes, { open: O_RDWR, killPrivileges: false });
  await fileSystem.fsync(CALLER, ino, file.handle, false);
  await fileSystem.release(ino, file.handle, undefined);
}

async function read(fileSystem: FileSystem, name: string): Promise<Buffer> {
  const { attributes } = await fileSystem.lookup(CALLER, ROOT, name);
  const { handle } = await fileSystem.open(CALLER, attributes.ino, 0);
  const bytes = Buffer.from(joined(await fileSystem.read(CALLER, attributes.ino, handle, 0, attributes.size)));
  await fileSystem.release(attributes.ino, handle, undefined);
  return bytes;
}

test("a file that was synced is there after a power cut of everything, and after a clean end", async (t) => {
  const { world, cluster } = newCluster(1);
  const bytes = Buffer.from(world.random.bytes(100_000));
  await cluster.startAll();
  let mount: SimMount = await cluster.mount();
  await world.run(write(mount.client.fileSystem, "f", bytes), LIMIT_MS);
  world.powerCut();
  await cluster.startAll();
  mount = await cluster.mount();
  t.true((await world.run(read(mount.client.fileSystem, "f"), LIMIT_MS)).equals(bytes));
  await world.run(mount.client.close(), LIMIT_MS);
  for (const number of [3, 2, 1]) {
    await world.run(cluster.node(number).stop(), LIMIT_MS);
    cluster.kill(number);
  }
  await cluster.startAll();
  mount = await cluster.mount();
  t.true((await world.run(read(mount.client.fileSystem, "f"), LIMIT_MS)).equals(bytes));
});

test("what a mount wrote another one reads at once", async (t) => {
  const { world, cluster } = newCluster(2);
  await cluster.startAll();
  const [one, other] = [await cluster.mount(), await cluster.mount()];
  const bytes = Buffer.from(world.random.bytes(30_000));
  await world.run(write(one.client.fileSystem, "f", bytes), LIMIT_MS);
  t.true((await world.run(read(other.client.fileSystem, "f"), LIMIT_MS)).equals(bytes));
});

test("one seed decides everything that a cluster does", async (t) => {
  const runs = [await runScenario({ seed: 3, operations: 300 }), await runScenario({ seed: 3, operations: 300 })];
  t.deepEqual(runs[0], runs[1]);
});
