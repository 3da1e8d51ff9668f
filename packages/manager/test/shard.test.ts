import { type Delta, decodeInode, decodeSections } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Imap, type NamedEntry } from "../src/imap/imap.ts";
import { RunCache } from "../src/imap/run-cache.ts";
import { LogProgress } from "../src/shard/log-progress.ts";
import { Shard } from "../src/shard/shard.ts";
import { Cluster, SMALL } from "./support/cluster.ts";
import { ino, inodeOf, transactionOf } from "./support/transactions.ts";

const SLOTS = { low: 2, high: 0 };

function newShard(): {
  shard: Shard;
  emptied: string[];
  named: string[];
  apply(log: number, sequence: number, deltas: readonly Delta[]): Promise<void>;
} {
  const emptied: string[] = [];
  const cache = new RunCache({ capacityBytes: 0, read: () => Promise.reject(new Error("nothing is read here")) });
  const named: string[] = [];
  const events = {
    emptied: (_slot: number, log: number, sequence: number) => emptied.push(`${log}/${sequence}`),
    named: (parent: number, { name, child }: NamedEntry) => named.push(`${parent}/${name}=${child}`),
  };
  const shard = new Shard({ slot: 1, term: 1, imap: new Imap({ cache, runs: [] }), numbersLimit: 0, events });
  const apply = async (log: number, sequence: number, deltas: readonly Delta[]) => {
    for (const { bytes } of decodeSections(transactionOf(deltas)))
      await shard.apply({ log, sequence, group: 1, groupVersion: 1, slots: SLOTS }, bytes, () => undefined);
  };
  return { shard, emptied, named, apply };
}

test("an older transaction after a newer one changes nothing, and each log counts for itself", async (t) => {
  const { shard, apply } = newShard();
  const put = (size: number): Delta[] => [{ kind: "putInode", ino: ino(65), inode: inodeOf(65, { size }) }];
  const size = async () => (await shard.imap.inode(65))?.readUInt32LE(32);
  await apply(2, 5, put(5));
  await apply(2, 4, put(4));
  await apply(2, 5, put(55));
  t.is(await size(), 5);
  await apply(3, 1, put(1));
  t.is(await size(), 1);
  t.deepEqual([shard.appliedTo(2), shard.appliedTo(3), shard.appliedTo(4)], [5, 1, 0]);
});

test("a segment is empty when the last of its blocks is written over, cut or removed", async (t) => {
  const { shard, emptied, apply } = newShard();
  const put = (block: number, length: number, offset = 0): Delta => ({
    kind: "putExtents",
    ino: ino(65),
    extents: [{ block, offset, length }],
  });
  await apply(2, 1, [put(0, 3 * 4096)]);
  await apply(2, 2, [put(1, 4096)]);
  t.is((await shard.imap.live(2, 1))?.bytes, 2 * 4096);
  await apply(2, 3, [{ kind: "cutExtents", ino: ino(65), from: 100, to: Number.MAX_SAFE_INTEGER }]);
  t.deepEqual(emptied, ["2/2"]);
  t.deepEqual(await shard.imap.live(2, 1), { bytes: 100, slots: SLOTS });
  await apply(2, 4, [put(0, 5000)]);
  t.deepEqual(emptied, ["2/2", "2/1"]);
  await apply(2, 5, [{ kind: "removeInode", ino: ino(65) }]);
  t.deepEqual(emptied, ["2/2", "2/1", "2/4"]);
  await shard.checkInvariants();
});

test("what writers of parts make of an index node is the same in whatever order it comes, and their blocks are counted", async (t) => {
  const merge = (size: number, mtimeNs: bigint): Delta => ({ kind: "mergeInode", ino: ino(65), size, mtimeNs, ctimeNs: mtimeNs });
  const put = (block: number, length: number): Delta => ({ kind: "putExtents", ino: ino(65), extents: [{ block, offset: 0, length }] });
  const own = [
    [merge(9_000, 5n), put(0, 9_000)],
    [merge(9_000, 7n), put(1, 4_096)],
  ];
  const others = [
    [merge(3_000_000, 3n), put(700, 2 * 4_096)],
    [merge(3_000_000, 6n), put(701, 100), put(300, 4_096)],
  ];
  for (const [first, second] of [
    [own, others],
    [others, own],
  ] as const) {
    const { shard, apply } = newShard();
    const inode = inodeOf(65, { size: 10, allocatedBlocks: 1, mtimeNs: 1n, ctimeNs: 9n });
    await apply(2, 1, [{ kind: "putInode", ino: ino(65), inode }, put(0, 10)]);
    for (const [step, deltas] of first.entries()) await apply(3, step + 1, deltas);
    for (const [step, deltas] of second.entries()) await apply(4, step + 1, deltas);
    const { size, mtimeNs, ctimeNs, allocatedBlocks, mode } = decodeInode((await shard.imap.inode(65)) as Buffer);
    t.deepEqual([size, mtimeNs, ctimeNs, allocatedBlocks, mode], [3_000_000, 7n, 9n, 3 + 3, inode.mode]);
    await apply(5, 1, [{ kind: "removeInode", ino: ino(65) }, merge(5, 5n)]);
    t.is(await shard.imap.inode(65), undefined);
    await shard.checkInvariants();
  }
});

test("an extent over the border of a region is found on both sides", async (t) => {
  const { shard, apply } = newShard();
  await apply(2, 1, [{ kind: "putExtents", ino: ino(65), extents: [{ block: 250, offset: 8192, length: 20 * 4096 }] }]);
  const extents = await shard.imap.extents(65, 0, 1_000);
  t.deepEqual(
    extents.map(({ block, offset, length }) => [block, offset, length]),
    [
      [250, 8192, 6 * 4096],
      [256, 8192 + 6 * 4096, 14 * 4096],
    ],
  );
  t.is((await shard.imap.live(2, 1))?.bytes, 20 * 4096);
});

test("an orphan is one until it is linked again or removed", async (t) => {
  const { shard, apply } = newShard();
  const links = (nlink: number): Delta => ({ kind: "putInode", ino: ino(65), inode: inodeOf(65, { nlink }) });
  await apply(2, 1, [links(0)]);
  t.deepEqual([...shard.orphans], [[65, 2]]);
  t.deepEqual(await shard.imap.orphans(), [[65, 2]]);
  await apply(2, 2, [links(1)]);
  t.deepEqual(await shard.imap.orphans(), []);
  await apply(2, 3, [links(0)]);
  await apply(2, 4, [{ kind: "removeInode", ino: ino(65) }]);
  t.deepEqual([shard.orphans.size, await shard.imap.orphans()], [0, []]);
});

test("a log is trimmed as far as it is stable here, and tells which slots each segment concerns", (t) => {
  const progress = new LogProgress(2, 0);
  progress.wasLogged(1, 0, 1, 10);
  progress.wasApplied(1, SLOTS);
  progress.wasLogged(2, 0, 3, 11);
  progress.wasApplied(3, { low: 4, high: 0 });
  progress.becameStable(10);
  t.is(progress.stable, 2);
  t.deepEqual([progress.stableIn(1, 1), progress.stableIn(2, 3)], [1, 0]);
  // 2 had nothing for these shards; nor had what follows.
  t.deepEqual(progress.trim(3), [
    [1, SLOTS],
    [2, { low: 0, high: 0 }],
  ]);
  progress.becameStable(11);
  t.is(progress.stableIn(2, 3), 3);
  t.deepEqual(progress.trim(4), [
    [3, { low: 4, high: 0 }],
    [4, { low: 0, high: 0 }],
  ]);
  t.deepEqual(progress.trim(4), []);
});

test("of a log of an earlier incarnation it must first be found out what is held", (t) => {
  const progress = new LogProgress(2, 7);
  t.is(progress.stable, 7);
  t.is(progress.trim(5), undefined);
  const all = { low: 0xffffffff, high: 0xffffffff };
  t.deepEqual(progress.trim(7), [
    [6, all],
    [7, all],
  ]);
});

test("of a long log that a manager hears of for the first time it must be found out as well what is held", (t) => {
  const progress = new LogProgress(2, 0);
  t.is(progress.trim(1_000_000), undefined);
  t.is(progress.trim(1_000_002)?.length, 2);
});

test("a segment is not deleted before what emptied it is stable", async (t) => {
  const world = new World(1);
  const cluster = new Cluster(world, { ...SMALL, checkpointIntervalMs: 60_000, flushIntervalMs: 5_000 });
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const { reply } = await world.run(mount.call("numbers", { slot: 1, count: 1 }));
  const file = ino(reply.first);
  await world.run(
    mount.change([
      { kind: "putInode", ino: file, inode: inodeOf(file) },
      { kind: "putExtents", ino: file, extents: [{ block: 0, offset: 0, length: 4096 }] },
    ]),
  );
  await world.run(mount.settle());
  const removed = await world.run(mount.write([{ kind: "removeInode", ino: file }]));
  let stable = 0;
  cluster.onDelete = (log, sequence) => {
    if (log === mount.log && sequence === 1) stable = cluster.manager.parts?.host.progress(log).stable ?? 0;
  };
  await world.run(mount.ship());
  await world.run(() => cluster.deleted.includes(`${mount.log}/1`), 5_000);
  t.is(stable, removed);
});

test("however little they hold, after so many segments of its log a manager writes a checkpoint", async (t) => {
  const world = new World(1);
  const tailSegments = 20;
  const cluster = new Cluster(world, { ...SMALL, checkpointIntervalMs: 3_600_000, tailSegments });
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const { reply } = await world.run(mount.call("numbers", { slot: 1, count: 1 }));
  const file = ino(reply.first);
  const { journal } = cluster.manager;
  let longest = 0;
  for (let round = 0; round < 5 * tailSegments; round++) {
    await world.run(mount.change([{ kind: "putInode", ino: file, inode: inodeOf(file) }]));
    await world.run(mount.settle());
    longest = Math.max(longest, journal.stableSequence - journal.trimmedTo);
  }
  t.true(longest >= tailSegments && longest < 2 * tailSegments, `${longest} segments were to be looked through`);
});

test("every name that a transaction sets or removes is told of", async (t) => {
  const { named, apply } = newShard();
  await apply(5, 1, [{ kind: "putEntry", ino: ino(65), name: "a", child: ino(129), type: 8 }]);
  await apply(5, 2, [{ kind: "removeEntry", ino: ino(65), name: "a" }]);
  await apply(5, 1, [{ kind: "putEntry", ino: ino(65), name: "a", child: ino(129), type: 8 }]);
  t.deepEqual(named, ["65/a=129", "65/a=0"]);
});
