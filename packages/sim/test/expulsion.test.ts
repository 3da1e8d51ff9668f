import { type Caller, type FileSystem, findLog, joined } from "@dazzle/core";
import { SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const FLAGS = { open: O_RDWR, killPrivileges: false };
const LIMIT_MS = 120_000;
const NODES = ["node1", "node2", "node3"];

async function start(seed: number, mounts: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: NODES.length, parity: 1 });
  await cluster.startAll();
  const started: SimMount[] = [];
  for (let index = 0; index < mounts; index++) started.push(await cluster.mount());
  return { world, cluster, mounts: started, run: <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS) };
}

async function create(fileSystem: FileSystem, name: string, text: string) {
  const { entry, file } = await fileSystem.create(CALLER, ROOT, name, 0o644, O_RDWR);
  const { ino } = entry.attributes;
  await fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from(text), FLAGS);
  return { ino, handle: file.handle };
}

async function read(fileSystem: FileSystem, ino: number, handle: number): Promise<string> {
  return joined(await fileSystem.read(CALLER, ino, handle, 0, 1_000)).toString();
}

test("a mount that can't renew its lease serves nothing until it can, and goes on then", async (t) => {
  const { world, cluster, mounts, run } = await start(1, 1);
  const { client, instance } = mounts[0] as SimMount;
  const { fileSystem } = client;
  const { ino, handle } = await run(() => create(fileSystem, "f", "cached"));
  await run(async () => fileSystem.fsync(CALLER, ino, handle, false));
  t.is(await run(() => read(fileSystem, ino, handle)), "cached");
  world.network.partition([instance.name], NODES);
  t.is(await run(() => read(fileSystem, ino, handle)), "cached");
  await world.advance(SMALL_LIMITS.mountLeaseMs);
  let answered = false;
  const reading = read(fileSystem, ino, handle).finally(() => {
    answered = true;
  });
  await world.advance(SMALL_LIMITS.mountLeaseMs);
  t.false(answered);
  t.true(world.log.some(({ message }) => message === "a manager does not renew the lease: requests wait"));
  world.network.heal();
  t.is(await world.run(reading, LIMIT_MS), "cached");
  t.is(findLog(cluster.node(1).map.current, client.log)?.state, "live");
});

test("requests that wait for a lease fail in the end, and one line names what is awaited", async (t) => {
  const { world, mounts, run } = await start(2, 1);
  const { client, instance } = mounts[0] as SimMount;
  const { fileSystem } = client;
  const { ino, handle } = await run(() => create(fileSystem, "f", "cached"));
  world.network.partition([instance.name], NODES);
  await world.advance(SMALL_LIMITS.mountLeaseMs);
  const failures = await run(() =>
    Promise.all([1, 2, 3].map(() => read(fileSystem, ino, handle).then(String, (error: { errno: string }) => error.errno))),
  );
  t.deepEqual(failures, ["EIO", "EIO", "EIO"]);
  const lines = world.log.filter(({ message }) => message === "requests fail: the lease could not be renewed in time");
  t.is(lines.length, 1);
  t.regex(String(lines[0]?.fields.reason), /node1/);
});
