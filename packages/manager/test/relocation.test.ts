import { BLOCK_BYTES, type Delta, decodeInode, decodeSections, FILE_END, type Move } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Imap } from "../src/imap/imap.ts";
import { RunCache } from "../src/imap/run-cache.ts";
import { Shard } from "../src/shard/shard.ts";
import { FileModel } from "./support/file-model.ts";
import { ino, inodeOf, transactionOf } from "./support/transactions.ts";

const SEEDS = Number(process.env.DAZZLE_SEEDS ?? 20);
const FILE = 65;
const MOUNT = 2;
const CLEANER = 9;
const ALL = { low: 0xffffffff, high: 0xffffffff };

class Bench {
  readonly emptied: string[] = [];
  readonly shard: Shard;

  constructor() {
    const cache = new RunCache({ capacityBytes: 0, read: () => Promise.reject(new Error("nothing is read here")) });
    const emptied = (_slot: number, log: number, sequence: number) => this.emptied.push(`${log}/${sequence}`);
    const events = { emptied, named: () => {} };
    this.shard = new Shard({ slot: 1, term: 1, imap: new Imap({ cache, runs: [] }), numbersLimit: 0, events });
  }

  async apply(sequence: number, deltas: readonly Delta[]): Promise<void> {
    for (const { bytes } of decodeSections(transactionOf(deltas)))
      await this.shard.apply({ log: MOUNT, sequence, group: 1, groupVersion: 1, slots: { low: 2, high: 0 } }, bytes, () => undefined);
  }

  relocate(sequence: number, moves: readonly Move[]): Promise<number> {
    return this.shard.relocate({ log: CLEANER, sequence, group: 3, groupVersion: 4, slots: ALL }, moves, () => undefined);
  }

  /** "block: log/sequence+offset:length" of each extent. */
  async extents(): Promise<string[]> {
    const extents = await this.shard.imap.extents(FILE, 0, 2 ** 31);
    return extents.map(({ block, log, sequence, offset, length }) => `${block}: ${log}/${sequence}+${offset}:${length}`);
  }

  async live(log: number, sequence: number): Promise<number> {
    return (await this.shard.imap.live(log, sequence))?.bytes ?? 0;
  }
}

const put = (block: number, length: number, offset = 0): Delta => ({
  kind: "putExtents",
  ino: ino(FILE),
  extents: [{ block, offset, length }],
});
const cut = (from: number, to = FILE_END): Delta => ({ kind: "cutExtents", ino: ino(FILE), from, to });
const move = (block: number, fromSequence: number, fromOffset: number, length: number, offset = 0): Move => ({
  ino: FILE,
  block,
  offset,
  length,
  fromLog: MOUNT,
  fromSequence,
  fromOffset,
});

test("blocks move where they are at their old address, the live bytes with them, and a second time nothing changes", async (t) => {
  const bench = new Bench();
  await bench.apply(1, [put(10, 4 * 4096, 8192)]);
  const moves = [move(11, 1, 8192 + 4096, 2 * 4096, 4096)];
  for (let times = 0; times < 2; times++) {
    t.is(await bench.relocate(1, moves), 2 * 4096);
    t.deepEqual(await bench.extents(), ["10: 2/1+8192:4096", "11: 9/1+4096:8192", "13: 2/1+20480:4096"]);
    t.deepEqual([await bench.live(MOUNT, 1), await bench.live(CLEANER, 1)], [2 * 4096, 2 * 4096]);
  }
  t.like((await bench.shard.imap.extents(FILE, 11, 12))[0], { group: 3, groupVersion: 4 });
  t.deepEqual(bench.emptied, []);
  t.is(await bench.relocate(2, [move(10, 1, 8192, 4096), move(13, 1, 20480, 4096, 4096)]), 2 * 4096);
  t.deepEqual(bench.emptied, ["2/1"]);
  t.deepEqual(await bench.shard.imap.live(CLEANER, 2), { bytes: 2 * 4096, slots: ALL });
  await bench.shard.checkInvariants();
});

test("blocks of several segments that come to lie together are one extent, in whatever order they are moved", async (t) => {
  for (const order of [
    [0, 1, 2],
    [2, 0, 1],
  ]) {
    const bench = new Bench();
    for (const block of [0, 1, 2]) await bench.apply(1 + block, [put(block, block === 2 ? 100 : 4096)]);
    for (const block of order) await bench.relocate(1, [move(block, 1 + block, 0, block === 2 ? 100 : 4096, 4096 * block)]);
    t.deepEqual(await bench.extents(), ["0: 9/1+0:8292"]);
    t.is(await bench.live(CLEANER, 1), 8292);
    await bench.shard.checkInvariants();
  }
});

test("what a mount wrote wins, whether it comes before the move or behind it", async (t) => {
  for (const isFirst of [true, false]) {
    const bench = new Bench();
    await bench.apply(1, [put(0, 4 * 4096)]);
    if (isFirst) await bench.apply(2, [put(1, 2 * 4096)]);
    t.is(await bench.relocate(1, [move(0, 1, 0, 4 * 4096)]), (isFirst ? 2 : 4) * 4096);
    if (!isFirst) await bench.apply(2, [put(1, 2 * 4096)]);
    t.deepEqual(await bench.extents(), ["0: 9/1+0:4096", "1: 2/2+0:8192", "3: 9/1+12288:4096"]);
    t.deepEqual(bench.emptied, ["2/1"]);
    t.deepEqual([await bench.live(MOUNT, 1), await bench.live(CLEANER, 1), await bench.live(MOUNT, 2)], [0, 8192, 8192]);
    await bench.shard.checkInvariants();
  }
});

test("what is cut off stays cut off, whether it is cut before the move or behind it", async (t) => {
  for (const isFirst of [true, false]) {
    const bench = new Bench();
    const cuts = [cut(2 * 4096 + 100), cut(0, 4096)];
    await bench.apply(1, [put(0, 4 * 4096)]);
    if (isFirst) await bench.apply(2, cuts);
    await bench.relocate(1, [move(0, 1, 0, 4 * 4096)]);
    if (!isFirst) await bench.apply(2, cuts);
    t.deepEqual(await bench.extents(), ["1: 9/1+4096:4196"]);
    t.deepEqual([await bench.live(MOUNT, 1), await bench.live(CLEANER, 1)], [0, 4196]);
    await bench.shard.checkInvariants();
  }
});

test("a block of which less was copied than the file has stays where it is", async (t) => {
  const bench = new Bench();
  await bench.apply(1, [put(0, 2 * 4096)]);
  t.is(await bench.relocate(1, [move(0, 1, 0, 4096 + 100)]), 4096);
  t.deepEqual(await bench.extents(), ["0: 9/1+0:4096", "1: 2/1+4096:4096"]);
});

test("the same blocks at another offset of the segment, or of another segment, stay", async (t) => {
  const bench = new Bench();
  await bench.apply(1, [put(0, 2 * 4096, 4096)]);
  for (const other of [move(0, 1, 0, 2 * 4096), move(1, 1, 4096, 4096), move(0, 2, 4096, 4096), { ...move(0, 1, 4096, 4096), fromLog: 3 }])
    t.is(await bench.relocate(1, [other]), 0);
  t.deepEqual(await bench.extents(), ["0: 2/1+4096:8192"]);
});

test("a run over the border of a region moves on both sides", async (t) => {
  const bench = new Bench();
  await bench.apply(1, [put(254, 4 * 4096)]);
  t.is(await bench.relocate(1, [move(254, 1, 0, 4 * 4096)]), 4 * 4096);
  t.deepEqual(await bench.extents(), ["254: 9/1+0:8192", "256: 9/1+8192:8192"]);
  t.deepEqual(bench.emptied, ["2/1"]);
});

test("blocks that were moved on are not moved back by what comes late", async (t) => {
  const bench = new Bench();
  await bench.apply(1, [put(0, 4096)]);
  await bench.relocate(1, [move(0, 1, 0, 4096)]);
  await bench.relocate(2, [{ ...move(0, 1, 0, 4096), fromLog: CLEANER }]);
  t.is(await bench.relocate(1, [move(0, 1, 0, 4096)]), 0);
  t.deepEqual(await bench.extents(), ["0: 9/2+0:4096"]);
  t.deepEqual(bench.emptied, ["2/1", "9/1"]);
});

test("blocks of a writer of a part are counted once, though they were moved", async (t) => {
  const bench = new Bench();
  const merge: Delta = { kind: "mergeInode", ino: ino(FILE), size: 8192, mtimeNs: 1n, ctimeNs: 1n };
  await bench.apply(1, [{ kind: "putInode", ino: ino(FILE), inode: inodeOf(FILE) }]);
  await bench.apply(2, [merge, put(0, 8192)]);
  await bench.relocate(1, [move(0, 2, 0, 8192)]);
  await bench.apply(3, [merge, put(1, 8192)]);
  t.is(decodeInode((await bench.shard.imap.inode(FILE)) as Buffer).allocatedBlocks, 3);
});

test("what a large removed file left is not moved: it goes at times that no log tells", async (t) => {
  const bench = new Bench();
  const far = 300 * 256;
  await bench.apply(1, [
    { kind: "putInode", ino: ino(FILE), inode: inodeOf(FILE) },
    ...Array.from({ length: 301 }, (_, index) => put(256 * index, 4096, 4096 * index)),
  ]);
  await bench.apply(2, [{ kind: "removeInode", ino: ino(FILE) }]);
  t.is(await bench.relocate(1, [move(far, 1, 4096 * 300, 4096)]), 0);
  t.is(await bench.live(CLEANER, 1), 0);
  while (bench.shard.condemned.size > 0) await bench.shard.sweep();
  t.deepEqual(bench.emptied, ["2/1"]);
});

/** By block of each file: where a mount wrote its bytes, and how many. */
async function contents(bench: Bench, files: Iterable<number>, origins: ReadonlyMap<string, string>): Promise<string[]> {
  const found: string[] = [];
  for (const file of files)
    for (const { block, log, sequence, offset, length } of await bench.shard.imap.extents(file, 0, 2 ** 31))
      for (let at = 0; at < length; at += BLOCK_BYTES) {
        const where = `${log}/${sequence}/${offset + at}`;
        found.push(`${file} ${block + at / BLOCK_BYTES}: ${origins.get(where) ?? where}/${Math.min(BLOCK_BYTES, length - at)}`);
      }
  return found;
}

test("wherever moves fall between a mount's transactions, files hold the same bytes", async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { random } = new World(seed);
    const bench = new Bench();
    const numbers = Array.from({ length: 40 }, (_, index) => FILE + 64 * index);
    const files = [...numbers];
    const model = new FileModel(random, numbers);
    const origins = new Map<string, string>();
    /** Found at some time, and sent now or later, twice maybe. */
    const waiting: Array<{ readonly sequence: number; readonly moves: Move[] }> = [];
    for (let step = 1; step <= 150; step++) {
      const deltas = model.transaction(MOUNT, step).filter(({ ino: number }) => number % 64 === 1);
      if (deltas.length > 0) await bench.apply(step, deltas);
      if (random.below(2) === 0) {
        const moves: Move[] = [];
        for (let count = 1 + random.below(6); count > 0; count--) {
          const file = files[random.below(files.length)] as number;
          const extents = await bench.shard.imap.extents(file, 0, 2 ** 31);
          const extent = extents[random.below(Math.max(1, extents.length))];
          if (extent === undefined) continue;
          const offset = moves.reduce((sum, { length }) => sum + Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES, 0);
          moves.push({
            ino: file,
            block: extent.block,
            offset,
            length: extent.length,
            fromLog: extent.log,
            fromSequence: extent.sequence,
            fromOffset: extent.offset,
          });
          for (let at = 0; at < extent.length; at += BLOCK_BYTES) {
            const where = `${extent.log}/${extent.sequence}/${extent.offset + at}`;
            origins.set(`${CLEANER}/${step}/${offset + at}`, origins.get(where) ?? where);
          }
        }
        waiting.push({ sequence: step, moves });
      }
      while (waiting.length > 0 && random.below(3) > 0) {
        const { sequence, moves } = waiting[random.below(waiting.length)] as (typeof waiting)[number];
        await bench.relocate(sequence, moves);
        if (random.below(2) === 0) waiting.shift();
      }
    }
    const wanted = [...model.files]
      .filter(([file]) => file % 64 === 1)
      .sort(([one], [other]) => one - other)
      .flatMap(([file, { blocks }]) =>
        [...blocks].sort(([one], [other]) => one - other).map(([block, where]) => `${file} ${block}: ${where}`),
      );
    t.deepEqual(await contents(bench, files, origins), wanted, `seed ${seed}`);
    await bench.shard.checkInvariants();
  }
});
