import { BLOCK_BYTES, type Caller, type FileSystem, joined, REGION_BLOCKS } from "@dazzle/core";
import type { ManagerStatus } from "@dazzle/manager";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { PageCache } from "./support/kernel.ts";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const LIMIT_MS = 60_000;
const PLAIN = { open: O_RDWR, killPrivileges: false };
const REGION_BYTES = REGION_BLOCKS * BLOCK_BYTES;

/** Two mounts that have the same new file open, and one that looks. */
async function start(seed: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const mounts = [await cluster.mount(), await cluster.mount(), await cluster.mount()] as const;
  const systems = mounts.map(({ client }) => client.fileSystem) as [FileSystem, FileSystem, FileSystem];
  const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
  const { ino } = (await run(async () => systems[0].makeNode(CALLER, ROOT, "f", 0o100644, 0))).attributes;
  const handles: number[] = [];
  for (const system of systems) handles.push((await run(async () => system.open(CALLER, ino, O_RDWR))).handle);
  const write = async (mount: number, offset: number, bytes: Buffer) =>
    (systems[mount] as FileSystem).write(CALLER, ino, handles[mount] as number, offset, bytes, PLAIN);
  const read = async (mount: number, offset: number, length: number) =>
    joined(await (systems[mount] as FileSystem).read(CALLER, ino, handles[mount] as number, offset, length));
  const stat = async (mount: number) => (systems[mount] as FileSystem).getAttributes(CALLER, ino, undefined);
  const revokes = () => (cluster.node(1).status().manager as ManagerStatus).counters.revokes;
  const check = () => {
    for (const { client } of mounts) client.checkInvariants();
  };
  return { world, cluster, mounts, systems, run, ino, handles, write, read, stat, revokes, check };
}

const blockOf = (text: string) => Buffer.alloc(BLOCK_BYTES, text);

test("mounts that write parts of a file go on beside each other, and whoever looks at its size does not end that", async (t) => {
  const { run, ino, systems, handles, write, read, stat, revokes, check } = await start(1);
  const above = 4 * REGION_BYTES;
  await run(() => write(0, above, blockOf("0")));
  const before = revokes();
  for (let block = 1; block <= 30; block++) {
    await run(() =>
      Promise.all([write(0, above + block * BLOCK_BYTES, blockOf("above")), write(1, block * BLOCK_BYTES, blockOf("below"))]),
    );
    for (const mount of [0, 1, 2]) {
      const { attributes, attributesValidMs } = await run(() => stat(mount));
      t.deepEqual([attributes.size, attributesValidMs], [above + (block + 1) * BLOCK_BYTES, 0], `mount ${mount} after block ${block}`);
      t.true(attributes.blocks > 0);
    }
    check();
  }
  // What nobody changes meanwhile is known to both.
  for (const [mount, system] of systems.slice(0, 2).entries()) {
    await run(async () => system.listExtendedAttributes(CALLER, ino));
    const { handle } = await run(async () => system.open(CALLER, ino, O_RDWR));
    await run(async () => system.release(ino, handle, undefined));
    t.is(joined(await run(async () => system.read(CALLER, ino, handles[mount] as number, mount === 0 ? above : BLOCK_BYTES, 5))).length, 5);
  }
  t.is(revokes() - before, 1);
  // A read of all of it does end it, and then everything is exact.
  t.true((await run(() => read(2, above - 10, 30))).equals(Buffer.concat([Buffer.alloc(10), Buffer.alloc(20, "0")])));
  for (let block = 1; block <= 30; block++) {
    t.true((await run(() => read(2, block * BLOCK_BYTES, BLOCK_BYTES))).equals(blockOf("below")), `block ${block}`);
    t.true((await run(() => read(2, above + block * BLOCK_BYTES, BLOCK_BYTES))).equals(blockOf("above")), `block ${block} above`);
  }
  const { attributes } = await run(() => stat(2));
  t.deepEqual([attributes.size, attributes.blocks], [above + 31 * BLOCK_BYTES, (61 * BLOCK_BYTES) / 512]);
});

test("a mount that writes a part and reads another one's leaves a third one alone", async (t) => {
  const { run, write, read, stat, revokes, check } = await start(6);
  const at = (mount: number) => 4 * mount * REGION_BYTES;
  for (const mount of [2, 1, 0]) await run(() => write(mount, at(mount), blockOf(`${mount}`)));
  for (let block = 1; block <= 5; block++) {
    for (const mount of [0, 1, 2]) await run(() => write(mount, at(mount) + block * BLOCK_BYTES, blockOf(`${mount}`)));
    const before = revokes();
    t.true((await run(() => read(0, at(1) + block * BLOCK_BYTES, BLOCK_BYTES))).equals(blockOf("1")));
    // Its own part, and the one that it reads.
    t.is(revokes() - before, 2, `block ${block}`);
    await run(() => write(2, at(2) + block * BLOCK_BYTES, blockOf("2")));
    t.is(revokes() - before, 2, `block ${block}`);
    check();
  }
  t.is((await run(() => stat(0))).attributes.size, at(2) + 6 * BLOCK_BYTES);
  t.true((await run(() => read(1, at(2) + 5 * BLOCK_BYTES, BLOCK_BYTES))).equals(blockOf("2")));
});

test("pages of what a mount gave up for another one's writing are dropped, and its part it goes on reading", async (t) => {
  const { world, ino, systems, handles, run, write, revokes } = await start(2);
  const pages = new PageCache(systems[0], world, CALLER);
  systems[0].start(pages);
  await run(async () => systems[0].lookup(CALLER, ROOT, "f"));
  await run(() => write(0, 0, blockOf("old")));
  await run(() => write(0, 2 * REGION_BYTES, blockOf("mine")));
  const page = (number: number) => run(() => pages.read(ino, handles[0] as number, number));
  t.true((await page(0)).equals(blockOf("old")));
  await run(() => write(1, 0, blockOf("new")));
  await run(() => write(0, 2 * REGION_BYTES + BLOCK_BYTES, blockOf("mine")));
  const before = revokes();
  t.true((await page(2 * REGION_BLOCKS)).equals(blockOf("mine")));
  t.is(revokes(), before);
  t.true((await page(0)).equals(blockOf("new")));
});

test("a manager that starts anew is told of the parts, and their writers go on", async (t) => {
  const { world, cluster, run, write, read, stat, revokes, check } = await start(3);
  const above = 2 * REGION_BYTES;
  await run(() => write(0, above, blockOf("one")));
  await run(() => write(1, 0, blockOf("other")));
  cluster.kill(1);
  await run(async () => void (await cluster.launchNode(1)));
  await world.run(cluster.node(1).managing, LIMIT_MS);
  await run(() => Promise.all([write(0, above + BLOCK_BYTES, blockOf("one")), write(1, BLOCK_BYTES, blockOf("other"))]));
  t.is((await run(() => stat(2))).attributes.size, above + 2 * BLOCK_BYTES);
  t.is(revokes(), 0);
  check();
  // Who wants all of it gets it.
  t.true((await run(() => read(2, 0, 2 * BLOCK_BYTES))).equals(Buffer.alloc(2 * BLOCK_BYTES, blockOf("other"))));
  t.true((await run(() => read(2, above, 2 * BLOCK_BYTES))).equals(Buffer.concat([blockOf("one"), blockOf("one")])));
});

test("a mount that cuts the file, or writes at its end, has all of it", async (t) => {
  const { run, ino, systems, write, read, stat, check } = await start(4);
  await run(() => write(0, 2 * REGION_BYTES, blockOf("one")));
  await run(() => write(1, 0, blockOf("other")));
  await run(async () => systems[2].setAttributes(CALLER, ino, { size: 10 }, undefined));
  for (const mount of [0, 1, 2]) t.is((await run(() => stat(mount))).attributes.size, 10);
  // What was written under a part before the cut does not come back.
  await run(() => write(0, 2 * REGION_BYTES, Buffer.from("again")));
  await run(() => write(1, 100, Buffer.from("more")));
  const appending = await run(async () => systems[2].open(CALLER, ino, O_RDWR | 0o2000));
  await run(async () =>
    systems[2].write(CALLER, ino, appending.handle, 0, Buffer.from("end"), { open: O_RDWR | 0o2000, killPrivileges: false }),
  );
  t.is((await run(() => stat(0))).attributes.size, 2 * REGION_BYTES + 8);
  t.is((await run(() => read(1, 2 * REGION_BYTES, 100))).toString(), "againend");
  t.true(
    (await run(() => read(1, 0, 104))).equals(Buffer.concat([blockOf("other").subarray(0, 10), Buffer.alloc(90), Buffer.from("more")])),
  );
  check();
});

test("a write that takes away the right to run as the owner has all of the file", async (t) => {
  const { run, ino, systems, handles, write, stat } = await start(5);
  await run(async () => systems[0].setAttributes(CALLER, ino, { mode: 0o4755 }, undefined));
  await run(() => write(0, 2 * REGION_BYTES, blockOf("one")));
  await run(() => write(1, 0, blockOf("other")));
  const flags = { open: O_RDWR, killPrivileges: true };
  await run(async () => systems[1].write(CALLER, ino, handles[1] as number, 0, Buffer.from("x"), flags));
  t.is((await run(() => stat(0))).attributes.mode & 0o7777, 0o755);
});
