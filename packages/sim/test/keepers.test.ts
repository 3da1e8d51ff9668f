import { type FileSystem, joined } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const LIMIT_MS = 120_000;

async function write(fileSystem: FileSystem, name: string): Promise<void> {
  const { entry, file } = await fileSystem.create(CALLER, ROOT, name, 0o644, O_RDWR);
  const { ino } = entry.attributes;
  await fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from(`of ${name}`), { open: O_RDWR, killPrivileges: false });
  await fileSystem.fsync(CALLER, ino, file.handle, false);
  await fileSystem.release(ino, file.handle, undefined);
}

async function read(fileSystem: FileSystem, name: string): Promise<string> {
  const { attributes } = await fileSystem.lookup(CALLER, ROOT, name);
  const { handle } = await fileSystem.open(CALLER, attributes.ino, 0);
  const bytes = joined(await fileSystem.read(CALLER, attributes.ino, handle, 0, attributes.size));
  await fileSystem.release(attributes.ino, handle, undefined);
  return Buffer.from(bytes).toString();
}

test("a cluster goes on without its first machine, which began it and kept its map, and takes it back", async (t) => {
  const world = new World(1);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 4, parity: 1, managers: 4, keepers: 3 });
  await cluster.startAll();
  const map = () => cluster.node(2).map.current;
  await world.run(() => map().keepers.length === 3 && map().formerKeepers.length === 0, LIMIT_MS);
  const { client } = await cluster.mount();
  await world.run(write(client.fileSystem, "before"), LIMIT_MS);
  cluster.kill(1);
  await world.run(write(client.fileSystem, "without"), LIMIT_MS);
  const other = await cluster.mount();
  for (const name of ["before", "without"]) t.is(await world.run(read(other.client.fileSystem, name), LIMIT_MS), `of ${name}`);
  await cluster.startNode(1);
  cluster.kill(2);
  await world.run(write(other.client.fileSystem, "after"), LIMIT_MS);
  for (const name of ["before", "without", "after"]) t.is(await world.run(read(client.fileSystem, name), LIMIT_MS), `of ${name}`);
});
