import { packExtents, ROOT, unpackEntries, unpackExtents } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

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
