import { type Caller, type FileSystem, joined } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const LIMIT_MS = 60_000;
const BYTES = 20_000;

async function started(seed: number, mounts: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const all = [];
  for (let number = 0; number < mounts; number++) all.push(await cluster.mount());
  const run = <T>(action: () => T | Promise<T>) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const content = Buffer.from(world.random.bytes(BYTES));
  const fileSystem = (mount: number) => all[mount]?.client.fileSystem as FileSystem;
  const counters = (mount: number) => all[mount]?.client.counters() as Record<string, number>;
  const make = async (mount: number, name: string) => {
    const created = await run(() => fileSystem(mount).create(CALLER, ROOT, name, 0o644, O_RDWR));
    const flags = { open: O_RDWR, killPrivileges: false };
    await run(() => fileSystem(mount).write(CALLER, created.entry.attributes.ino, created.file.handle, 0, content, flags));
  };
  const read = async (mount: number, name: string) => {
    const { attributes } = await run(() => fileSystem(mount).lookup(CALLER, ROOT, name));
    const { handle } = await run(() => fileSystem(mount).open(CALLER, attributes.ino, 0));
    const bytes = joined(await run(() => fileSystem(mount).read(CALLER, attributes.ino, handle, 0, BYTES)));
    await run(() => fileSystem(mount).release(attributes.ino, handle, undefined));
    return bytes;
  };
  return { world, cluster, mounts: all, content, counters, make, read };
}

test("what one mount has just written another reads from its memory, and a third from theirs", async (t) => {
  const { content, counters, make, read } = await started(1, 3);
  for (let file = 0; file < 4; file++) {
    await make(0, `f${file}`);
    for (const mount of [1, 2]) t.true(content.equals(await read(mount, `f${file}`)), `mount ${mount} file ${file}`);
  }
  for (const mount of [1, 2]) {
    // The first read makes the connection.
    t.true((counters(mount)["peer.bytes"] as number) >= 2 * BYTES, JSON.stringify(counters(mount)));
    t.is(counters(mount)["peer.failed"], 0);
  }
  t.is(
    (counters(0)["peer.served"] as number) + (counters(1)["peer.served"] as number) + (counters(2)["peer.served"] as number),
    (counters(1)["peer.hits"] as number) + (counters(2)["peer.hits"] as number),
  );
});

test("a peer that is gone, or hangs, costs a moment: storage answers", async (t) => {
  for (const way of ["killed", "cut off"]) {
    const { world, mounts, content, counters, make, read } = await started(2, 3);
    for (let file = 0; file < 4; file++) await make(0, `f${file}`);
    await read(1, "f0");
    t.true(content.equals(await read(1, "f1")));
    t.true((counters(1)["peer.hits"] as number) > 0);
    for (const name of ["f2", "f3"]) await read(2, name);
    const [first, third] = [mounts[0]?.instance.name as string, mounts[2]?.instance.name as string];
    if (way === "killed") mounts[2]?.instance.kill();
    else world.network.partition([mounts[1]?.instance.name as string], [first, third]);
    for (const name of ["f2", "f3"]) t.true(content.equals(await read(1, name)), way);
  }
});
