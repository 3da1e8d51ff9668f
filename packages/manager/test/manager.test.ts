import { decodeInode, packExtents, REGION_BLOCKS, ROOT, unpackEntries, unpackExtents, withLog } from "@dazzle/core";
import { managerStatus } from "@dazzle/manager";
import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster, type TestMount } from "./support/cluster.ts";
import { ino, inodeOf, transactionOf } from "./support/transactions.ts";

test("a new cluster has a root directory, and a mount sees what it shipped", async (t) => {
  const world = new World(1);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  t.true(await world.run(mount.acquire(ROOT)));
  const { reply } = await world.run(mount.call("numbers", { slot: 1, count: 10 }));
  const file = reply.first;
  t.is(file % 64, 1);
  await world.run(
    mount.change([
      { kind: "putInode", ino: ino(file), inode: inodeOf(file, { size: 5000 }) },
      { kind: "putEntry", ino: ROOT, name: "file", child: file, type: 8 },
      { kind: "putExtents", ino: ino(file), extents: [{ block: 0, offset: 0, length: 5000 }] },
    ]),
  );
  const found = await world.run(mount.call("lookup", { ino: ROOT, name: "file" }));
  t.like(found.reply, { child: file, type: 8, exclusive: true });
  const entries = await world.run(mount.call("entries", { ino: ROOT, after: "", limit: 10, inodes: true }));
  t.like(unpackEntries(Buffer.concat(entries.tail)), { length: 1, 0: { name: "file", inode: { size: 5000 } } });
  const extents = await world.run(mount.call("extents", { ino: file, from: 0, to: 100 }));
  const extent = { block: 0, log: mount.log, sequence: 1, offset: 0, length: 5000, group: 1, groupVersion: 1 };
  t.deepEqual(Buffer.concat(extents.tail), packExtents([extent]));
  t.deepEqual(unpackExtents(Buffer.concat(extents.tail)), [extent]);
  await world.run(cluster.checkInvariants());
});

async function begin(seed: number): Promise<{ world: World; cluster: Cluster; mount: TestMount; file: number }> {
  const world = new World(seed);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const { reply } = await world.run(mount.call("numbers", { slot: 9, count: 10 }));
  return { world, cluster, mount, file: reply.first };
}

test("a transaction is applied once, in order, and what can't be applied is refused whole", async (t) => {
  const { world, cluster, mount, file } = await begin(2);
  const put = (size: number) => transactionOf([{ kind: "putInode", ino: ino(file), inode: inodeOf(file, { size }) }]);
  const after = (previous: number) => new Map([[9, previous]]);
  const size = async () => decodeInode(Buffer.concat((await mount.call("acquire", { ino: file, exclusive: false })).tail)).size;
  t.like(await world.run(mount.shipOne(3, after(0), put(3))), { applied: [3] });
  t.like(await world.run(mount.shipOne(2, after(0), put(2))), { applied: [3] });
  t.like(await world.run(mount.shipOne(3, after(0), put(33))), { applied: [3] });
  t.is(await world.run(size()), 3);
  await t.throwsAsync(world.run(mount.shipOne(6, after(5), put(6))), { code: "outOfOrder" });
  await t.throwsAsync(world.run(mount.shipOne(4, after(3), Buffer.alloc(0))), { code: "badMessage" });
  const wrongSlot = put(4);
  wrongSlot.writeUInt16LE(10, 0);
  await t.throwsAsync(world.run(mount.shipOne(4, after(3), wrongSlot)), { code: "badMessage" });
  const half = Buffer.concat([put(4), put(4).subarray(0, 50)]);
  await t.throwsAsync(world.run(mount.shipOne(4, after(3), half)), { code: "badMessage" });
  const strange = put(4);
  strange[8] = 77;
  await t.throwsAsync(world.run(mount.shipOne(4, after(3), Buffer.concat([put(4), strange]))), { code: "badMessage" });
  t.is(await world.run(size()), 3);
  t.like(await world.run(mount.shipOne(5, after(3), put(5))), { applied: [5] });
  await world.run(mount.call("renew", { trimmedTo: 0, settle: true }));
  await world.run(cluster.restart());
  const opened = await world.run(mount.open());
  const at = opened.slots.indexOf(9);
  t.deepEqual([opened.applied[at], opened.stable[at]], [5, 5]);
  await world.run(cluster.manager.opened);
  t.is(await world.run(size()), 5);
});

test("a large file goes bit by bit, a kill in between does not keep it, and its segments go with it", async (t) => {
  for (const killed of [false, true]) {
    const { world, cluster, mount, file } = await begin(3);
    await world.run(mount.change([{ kind: "putInode", ino: ino(file), inode: inodeOf(file) }]));
    const regions = 300;
    for (let region = 0; region < regions; region += 100) {
      const rows = Array.from({ length: 100 }, (_, index) => ({
        block: (region + index) * REGION_BLOCKS,
        offset: index * 4096,
        length: 4096,
      }));
      await world.run(mount.change([{ kind: "putExtents", ino: ino(file), extents: rows }]));
    }
    await world.run(mount.settle());
    if (killed) await world.run(cluster.manager.parts?.checkpointer.run() as Promise<void>);
    const shard = () => cluster.manager.parts?.host.shard(9);
    const removing = mount.change([{ kind: "removeInode", ino: ino(file) }]).catch(() => {});
    await world.run(() => shard()?.condemned.size === 1);
    if (killed) {
      await world.run(cluster.restart());
      await world.run(removing);
      await world.run(mount.open());
      await world.run(mount.ship());
      await world.run(cluster.manager.opened);
    }
    await t.throwsAsync(world.run(mount.acquire(file)), { code: "notFound" });
    for (let second = 0; second < 5; second++) {
      await world.run(mount.settle());
      await world.advance(1_000);
    }
    t.is(shard()?.condemned.size, 0);
    t.deepEqual(cluster.logs.sequencesOf(mount.log), []);
    await world.run(cluster.checkInvariants());
  }
});

test("an unlinked file lives while a mount has it, and goes with the mount", async (t) => {
  const { world, cluster, mount, file } = await begin(4);
  await world.run(mount.change([{ kind: "putInode", ino: ino(file), inode: inodeOf(file, { nlink: 0 }) }]));
  await world.run(mount.settle());
  await world.run(cluster.restart());
  await world.run(mount.open());
  await world.run(cluster.manager.opened);
  await world.run(mount.acquire(file));
  t.is(cluster.manager.parts?.host.shard(9).orphans.get(file), mount.log);
  const other = await world.run(cluster.mount("other"));
  mount.kill();
  await world.run(() => mount.state === "closed");
  await world.advance(100);
  await t.throwsAsync(world.run(other.acquire(file)), { code: "notFound" });
  t.is(cluster.manager.parts?.host.shard(9).orphans.size, 0);
});

test("a mount that unmounts cleanly is closed at once, and closing twice is the same", async (t) => {
  const { world, mount, file } = await begin(5);
  const end = await world.run(mount.change([{ kind: "putInode", ino: ino(file), inode: inodeOf(file) }]));
  await t.throwsAsync(world.run(mount.call("closeMount", { end: end - 1 })), { code: "invalid" });
  await world.run(mount.call("closeMount", { end }));
  t.is(mount.state, "closed");
  await world.run(mount.call("closeMount", { end }));
  await t.throwsAsync(world.run(mount.call("openMount", {})), { code: "expelled" });
});

test("what slots that are being opened lack of a mount that unmounts is applied from its log", async (t) => {
  const { world, cluster, mount, file } = await begin(8);
  await world.run(mount.settle());
  for (const size of [1, 2, 3]) await world.run(mount.change([{ kind: "putInode", ino: ino(file), inode: inodeOf(file, { size }) }]));
  mount.claims = false;
  await world.run(cluster.restart());
  await world.run(mount.open());
  await world.run(mount.close());
  t.is(mount.state, "closed");
  const next = await world.run(cluster.mount("next"));
  const { tail } = await world.run(next.call("acquire", { ino: file, exclusive: false }));
  t.is(decodeInode(Buffer.concat(tail)).size, 3);
  await world.run(cluster.checkInvariants());
});

test("a manager that another one took the place of fails, and says so", async (t) => {
  const { world, cluster, mount } = await begin(6);
  const first = cluster.manager;
  const { map } = cluster;
  await world.run(map.change((now) => withLog(now, first.log, { state: "expelled" })));
  await world.run(first.failed);
  t.is(first.state, "failed");
  await t.throwsAsync(world.run(mount.acquire(ROOT)), { code: "notReady" });
  await world.run(first.close());
});

test("the status tells of mounts, shards and the log", async (t) => {
  const { world, cluster, mount, file } = await begin(7);
  await world.run(mount.change([{ kind: "putInode", ino: ino(file), inode: inodeOf(file) }]));
  await world.run(mount.call("report", { counters: { writes: 3 } }));
  const status = managerStatus(cluster.manager, world.nowMs);
  t.like(status, { state: "open", slots: 64, counters: { transactions: 2 } });
  t.like(status.mounts[0], { log: mount.log, state: "open", connected: true, applied: 1, counters: { writes: 3 } });
  t.deepEqual(JSON.parse(JSON.stringify(status)), status);
});
