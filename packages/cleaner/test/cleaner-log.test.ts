import { BLOCK_BYTES, DazzleError, findLog, joined, type Piece } from "@dazzle/core";
import test from "ava";
import { GROUP } from "../../log/test/support/cluster.ts";
import { Bench, SELF } from "./support/bench.ts";

const BLOCK = BLOCK_BYTES;

function piece(ino: number, block: number, offset: number, length: number): Piece {
  return { ino, block, offset, length };
}

function bytesOf(length: number, seed: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, at) => (at * 7 + seed + Math.floor(at / BLOCK)) % 251));
}

test("what is put lies where the managers are told, in as many segments as it takes, and the log is trimmed to its end", async (t) => {
  const bench = await Bench.start();
  const log = await bench.begin();
  const long = bytesOf(30 * BLOCK + 100, 1);
  const short = bytesOf(700, 2);
  const run = async () => {
    await log.put({ log: 3, sequence: 5 }, piece(9, 10, 8 * BLOCK, long.length), long);
    await log.put({ log: 3, sequence: 6 }, piece(10, 0, 0, short.length), short);
    await log.settle();
  };
  await bench.cluster.run(run());
  const found = [Buffer.alloc(long.length), Buffer.alloc(short.length)];
  for (const { sequence, ino, block, offset, length, fromLog, fromSequence, fromOffset } of bench.moves) {
    const target = found[ino - 9] as Buffer;
    const first = ino === 9 ? 10 : 0;
    t.deepEqual([fromLog, fromSequence], [3, ino === 9 ? 5 : 6]);
    t.is(fromOffset - (ino === 9 ? 8 * BLOCK : 0), (block - first) * BLOCK);
    const read = bench.reader.read({ log: log.log, sequence, offset, length, group: GROUP, groupVersion: 1 });
    joined(await bench.cluster.run(read)).copy(target, (block - first) * BLOCK);
  }
  t.true(found[0]?.equals(long));
  t.true(found[1]?.equals(short));
  const last = bench.moves.at(-1)?.sequence ?? 0;
  t.true(last > 2);
  const rounds = [...new Set(bench.trimmedTo)];
  t.deepEqual([rounds[0], rounds.at(-1)], [0, last]);
  for (const [at, trimmedTo] of bench.trimmedTo.entries())
    t.true(trimmedTo <= at && trimmedTo >= (bench.trimmedTo[at - 1] ?? 0), "trimmed up to what was answered");
  t.true(rounds.length < last, `${last} segments that were sealed meanwhile are told together, in ${rounds.length} rounds`);
  const { records } = await bench.cluster.run(bench.reader.summary(log.log, last, GROUP, 1));
  t.deepEqual(
    records.map(({ owner, position, length }) => [owner, position, length]),
    bench.moves.filter(({ sequence }) => sequence === last).map(({ ino, block, length }) => [ino, block * BLOCK, length]),
  );
});

test("a slot that is on its way is asked again", async (t) => {
  const bench = await Bench.start();
  const log = await bench.begin();
  bench.refusal = new DazzleError("staleMap", "the slot has left");
  const run = async () => {
    await log.put({ log: 3, sequence: 5 }, piece(9, 0, 0, BLOCK), bytesOf(BLOCK, 1));
    await log.settle();
  };
  await bench.cluster.run(run());
  t.is(bench.moves.length, 1);
  t.is(log.failure, null);
});

test("a log that was expelled is given up, and the map says so", async (t) => {
  const bench = await Bench.start();
  const log = await bench.begin();
  bench.refusal = new DazzleError("expelled", "the log is not live");
  const run = async () => {
    await log.put({ log: 3, sequence: 5 }, piece(9, 0, 0, BLOCK), bytesOf(BLOCK, 1));
    await log.settle();
  };
  await t.throwsAsync(bench.cluster.run(run()), { message: /expelled/ });
  await bench.cluster.run(() => findLog(bench.cluster.map, log.log)?.state === "expelled");
  await t.throwsAsync(bench.cluster.run(log.put({ log: 3, sequence: 5 }, piece(9, 0, 0, BLOCK), bytesOf(BLOCK, 1))), {
    message: /expelled/,
  });
});

test("a clean end closes the log in the map, at its last segment", async (t) => {
  const bench = await Bench.start();
  const log = await bench.begin();
  t.like(findLog(bench.cluster.map, log.log), { kind: "cleaner", state: "live", groups: [GROUP], member: SELF });
  const run = async () => {
    await log.put({ log: 3, sequence: 5 }, piece(9, 0, 0, BLOCK), bytesOf(BLOCK, 1));
    await log.close();
  };
  await bench.cluster.run(run());
  t.like(findLog(bench.cluster.map, log.log), { state: "closed", end: 1 });
  t.is(bench.moves.length, 1);
});
