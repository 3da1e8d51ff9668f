import { TransactionBuilder } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { EntryKind, numberKey } from "../src/imap/keys.ts";
import { packLive } from "../src/imap/values.ts";
import { Cluster } from "./support/cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

const LIMIT_MS = 120_000;
const SLOT = 2;
const BYTES = 4096;

test("what comes behind a repair stays, though a checkpoint begins at once and the manager dies", async (t) => {
  const world = new World(1);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const { reply } = await world.run(mount.call("numbers", { slot: SLOT, count: 1 }));
  const file = ino(reply.first);
  const extents = [{ block: 0, offset: 0, length: BYTES }];
  const put = [{ kind: "putInode", ino: file, inode: inodeOf(file) } as const, { kind: "putExtents", ino: file, extents } as const];
  await world.run(mount.change(put));
  await world.run(mount.settle());

  const { host, checkpointer } = cluster.manager.parts;
  const [extent] = await world.run(host.shardOf(file).imap.extents(file, 0, 1));
  const { log, sequence } = extent as NonNullable<typeof extent>;
  const slots = { low: 0xffffffff, high: 0xffffffff };
  const counted = (bytes: number) => ({ key: numberKey(EntryKind.live, log, sequence), value: packLive({ bytes, slots }) });
  const was = (await world.run(Promise.resolve(host.shard(SLOT).imap.live(log, sequence)))) ?? { bytes: 0, slots };
  t.true(await world.run(host.amend(SLOT, [{ ...counted(BYTES), value: packLive(was) }], [counted(2 * BYTES)])));

  // The log is being flushed meanwhile: what comes now lies together in its next segment.
  const other = new TransactionBuilder();
  other.add({ kind: "putInode", ino: ino(file + 64), inode: inodeOf(file + 64) });
  await world.run(host.applyOwn(other));
  const flushed = cluster.manager.journal.settle();
  const amended = host.amend(SLOT, [counted(2 * BYTES)], [counted(BYTES)]);
  const removal = new TransactionBuilder();
  removal.add({ kind: "removeInode", ino: file });
  const removed = host.applyOwn(removal);
  const checkpointed = checkpointer.run();
  t.deepEqual((await world.run(Promise.all([amended, flushed, removed, checkpointed])))[0], true);
  await world.run(cluster.restart());
  await world.run(cluster.manager.opened, LIMIT_MS);
  t.is(await world.run(Promise.resolve(cluster.manager.parts.host.shard(SLOT).imap.live(log, sequence))), undefined);
  await world.run(cluster.checkInvariants());
});
