import { BLOCK_BYTES, ROOT, unpackEntries, unpackExtents } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { StripedCluster, type StripedMount } from "./support/striped-cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

const FILE_BYTES = 64 * 1024;
const SEEDS = Number(process.env.DAZZLE_SEEDS ?? 3);

async function writeFiles(mount: StripedMount, names: readonly string[], slot: number, ship = true): Promise<number[]> {
  const { reply } = await mount.call("numbers", { slot, count: names.length });
  const files = names.map((_, index) => reply.first + 64 * index);
  for (const [index, name] of names.entries()) {
    const file = files[index] as number;
    await mount.write(
      FILE_BYTES,
      (offset) => [
        { kind: "putInode", ino: ino(file), inode: inodeOf(file, { size: FILE_BYTES }) },
        { kind: "putEntry", ino: ROOT, name, child: file, type: 8 },
        { kind: "putExtents", ino: ino(file), extents: [{ block: 0, offset, length: FILE_BYTES }] },
      ],
      ship,
    );
  }
  return files;
}

const many = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${String(index).padStart(3, "0")}`);

async function namesOf(mount: StripedMount): Promise<string[]> {
  await mount.call("acquire", { ino: ROOT, exclusive: false });
  const { tail } = await mount.call("entries", { ino: ROOT, after: "", limit: 1000, inodes: true });
  return unpackEntries(Buffer.concat(tail)).map(({ name, inode }) => `${name} ${inode?.size}`);
}

test("after a power cut of everything, what was stable is there: shipped, logged alone, checkpointed or not", async (t) => {
  for (let seed = 1; seed <= 3; seed++) {
    const world = new World(seed);
    const cluster = new StripedCluster(world);
    await world.run(cluster.start());
    const mount = await world.run(cluster.mount("mount"));
    const written: string[] = [];
    for (let round = 0; round < 3; round++) {
      const names = many(`shipped ${round} `, 40);
      await world.run(writeFiles(mount, names, 1 + round));
      written.push(...names);
      await world.advance(world.random.below(3_000));
    }
    const alone = many("alone ", 5);
    await world.run(writeFiles(mount, alone, 7, false));
    written.push(...alone);
    world.powerCut();
    await world.run(cluster.start());
    await world.run(cluster.manager.opened);
    await world.run(() => mount.state === "closed", 5_000);
    const next = await world.run(cluster.mount("next"));
    t.deepEqual(
      await world.run(namesOf(next)),
      written.sort().map((name) => `${name} ${FILE_BYTES}`),
      `seed ${seed}`,
    );
  }
});

test("removing everything gives the space back within 10 s", async (t) => {
  const world = new World(5);
  const cluster = new StripedCluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const names = many("file ", 100);
  const files = await world.run(writeFiles(mount, names, 3));
  await world.run(mount.settle());
  const full = cluster.usedBytes;
  t.true(full > 100 * FILE_BYTES);
  const { tail } = await world.run(mount.call("extents", { ino: files[0] as number, from: 0, to: FILE_BYTES / BLOCK_BYTES }));
  t.is(unpackExtents(Buffer.concat(tail)).length, 1);
  await world.run(
    mount.write(
      0,
      () => [
        ...names.map((name) => ({ kind: "removeEntry" as const, ino: ROOT, name })),
        ...files.map((file) => ({ kind: "removeInode" as const, ino: ino(file) })),
      ],
      true,
    ),
  );
  for (let second = 0; second < 9; second++) {
    await world.advance(1_000);
    await world.run(mount.call("renew", { trimmedTo: mount.trimmedTo, settle: false }));
  }
  t.true(cluster.usedBytes < full / 10, `${cluster.usedBytes} of ${full} bytes are used`);
});

test("a clean stop leaves nothing to replay, and old logs leave the map when nothing of them is needed", async (t) => {
  const world = new World(6);
  const cluster = new StripedCluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const names = many("file ", 30);
  const files = await world.run(writeFiles(mount, names, 3));
  await world.run(mount.settle());
  await world.run(mount.call("closeMount", { end: mount.lastShipped }));
  t.is(mount.state, "closed");
  const first = cluster.manager;
  await world.run(first.close());
  t.is(cluster.map.current.logs.find(({ id }) => id === first.log)?.state, "ended");
  for (const node of cluster.nodes.values()) node.kill();
  mount.instance.kill();
  await world.run(cluster.start());
  await world.run(cluster.manager.opened);
  const next = await world.run(cluster.mount("next"));
  t.is((await world.run(namesOf(next))).length, 30);
  const remove = names.map((name) => ({ kind: "removeEntry" as const, ino: ROOT, name }));
  await world.run(next.write(0, () => [...remove, ...files.map((file) => ({ kind: "removeInode" as const, ino: ino(file) }))], true));
  for (let second = 0; second < 60; second++) {
    await world.advance(1_000);
    await world.run(next.settle());
  }
  const { logs } = cluster.map.current;
  t.false(logs.some(({ id }) => id === mount.log));
  // Its runs are still read.
  t.is(logs.find(({ id }) => id === first.log)?.state, "closed");
  t.true(cluster.map.current.slots.every(({ chain }) => chain.length === 1));
});

test("managers that end a mount's log at the same time agree: each has its part of a prefix of what the mount did, and of no more", async (t) => {
  for (let seed = 10; seed < 10 + SEEDS; seed++) {
    const world = new World(seed);
    const cluster = new StripedCluster(world, [1, 2, 3]);
    await world.run(cluster.start());
    await world.run(cluster.opened(), 60_000);
    const mount = await world.run(cluster.mount("mount"));
    // The directory is with one manager, the files are with all three.
    const names = many("file ", 30);
    const files: number[] = [];
    for (const slot of [2, 3, 4]) {
      const { reply } = await world.run(mount.call("numbers", { slot, count: 10 }));
      for (let index = 0; index < reply.count; index++) files.push(reply.first + 64 * index);
    }
    let acknowledged = 0;
    const write = async (index: number) => {
      const file = files[(index * 11) % files.length] as number;
      await mount.write(
        FILE_BYTES,
        (offset) => [
          { kind: "putInode", ino: ino(file), inode: inodeOf(file, { size: FILE_BYTES }) },
          { kind: "putEntry", ino: ROOT, name: names[index] as string, child: file, type: 8 },
          { kind: "putExtents", ino: ino(file), extents: [{ block: 0, offset, length: FILE_BYTES }] },
        ],
        index % 3 !== 0,
      );
      acknowledged = index + 1;
    };
    const writing = (async () => {
      for (const index of names.keys()) await write(index);
    })();
    writing.catch(() => {});
    await world.run(() => acknowledged >= 10);
    await world.advance(world.random.below(20));
    mount.kill();
    const moving = cluster.move([2, 3], 1);
    moving.catch(() => {});
    if (seed % 2 === 0) cluster.kill(3);
    const promised = acknowledged;
    await world.run(() => mount.state === "closed", 300_000);
    const next = await world.run(cluster.mount("next"), 300_000);
    const ask: StripedMount["call"] = (name, request) => next.patiently(() => next.call(name, request));
    await world.run(ask("acquire", { ino: ROOT, exclusive: false }), 300_000);
    const listing = await world.run(ask("entries", { ino: ROOT, after: "", limit: 1000, inodes: false }), 300_000);
    const found = unpackEntries(Buffer.concat(listing.tail));
    t.true(found.length >= promised, `seed ${seed}: ${found.length} files of ${promised}`);
    t.deepEqual(
      found.map(({ name }) => name),
      names.slice(0, found.length),
      `seed ${seed}`,
    );
    for (const { child } of found) {
      await world.run(ask("acquire", { ino: child, exclusive: false }), 300_000);
      const { tail } = await world.run(ask("extents", { ino: child, from: 0, to: FILE_BYTES / BLOCK_BYTES }), 300_000);
      const [extent] = unpackExtents(Buffer.concat(tail));
      t.is(extent?.log, mount.log);
    }
    for (const file of files.filter((number) => !found.some(({ child }) => child === number)))
      await t.throwsAsync(world.run(ask("acquire", { ino: file, exclusive: false }), 300_000), { code: "notFound" }, `seed ${seed}`);
  }
});
