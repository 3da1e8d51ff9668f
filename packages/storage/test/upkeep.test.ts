import { BLOCK_BYTES, FRAGMENT_HEADER, LIMITS, type Request, SegmentClass } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { type DamagedFragment, RECORD_HEADER, recordSpace } from "../src/index.ts";
import { SimBench, SMALL_LIMITS } from "./support/bench.ts";
import { how, type Sample, sample } from "./support/fragments.ts";

const VOLUME = "volumes/00000001";
const MIB = 1024 * 1024;

function whole({ header, data }: Sample): Request<"read"> {
  return { ...header, offset: 0, length: data.length };
}

function spaceOf({ arrived }: Sample): number {
  return recordSpace(RECORD_HEADER.end + arrived.bytes);
}

async function stored(name: string, count: number, payloadBytes = 20_000): Promise<{ bench: SimBench; samples: [Sample, ...Sample[]] }> {
  const bench = await SimBench.open(name);
  const samples = Array.from({ length: count }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes }));
  for (const { arrived } of samples) await bench.run(bench.store.store(arrived, how()));
  await bench.run(bench.store.list(1, 0, 1));
  return { bench, samples: samples as [Sample, ...Sample[]] };
}

/** Flips a byte of the second fragment's record. */
function damage(bench: SimBench, [first]: readonly [Sample, ...Sample[]], within: number): void {
  bench.node.drive.flip(VOLUME, spaceOf(first) + within);
}

async function examined(bench: SimBench, { header }: Sample): Promise<DamagedFragment> {
  const damaged = await bench.run(bench.store.upkeep.examine(header, true));
  if (damaged === null) throw new Error("it is whole");
  return damaged;
}

async function readsBack(t: ExecutionContext, bench: SimBench, samples: readonly Sample[]): Promise<void> {
  for (const one of samples) t.deepEqual(Buffer.from((await bench.run(bench.store.read(whole(one)))).tail[1] as Uint8Array), one.data);
}

const DATA = RECORD_HEADER.end + FRAGMENT_HEADER.end + 4 * 5;

for (const [what, within, ranges, hasHeader] of [
  ["a block", DATA + BLOCK_BYTES + 7, [{ offset: BLOCK_BYTES, length: BLOCK_BYTES }], true],
  ["the last block", DATA + 19_999, [{ offset: 4 * BLOCK_BYTES, length: 20_000 - 4 * BLOCK_BYTES }], true],
  ["the header", RECORD_HEADER.end + FRAGMENT_HEADER.trimmedTo, [{ offset: 0, length: 20_000 }], false],
  ["the record's header", 45, [], true],
] as const)
  test(`damage of ${what} is found, told once, and repaired; over a restart, too`, async (t) => {
    const { bench, samples } = await stored(what, 3);
    const second = samples[1] as Sample;
    damage(bench, samples, within);
    for (const one of samples) t.is((await bench.run(bench.store.upkeep.examine(one.header, true))) === null, one !== second);
    const damaged = await examined(bench, second);
    t.deepEqual(damaged.ranges, ranges);
    t.is(damaged.header !== null, hasHeader);
    t.is(bench.store.stat().damaged, 1);
    t.is(bench.world.log.filter(({ message }) => message === "a stored fragment is damaged").length, 1);
    const { bytesUsed } = bench.store.stat();
    t.true(await bench.run(bench.store.upkeep.repair(damaged, second.data)));
    t.like(bench.store.stat(), { damaged: 0, fragments: 3, bytesUsed });
    t.is(await bench.run(bench.store.upkeep.examine(second.header, true)), null);
    await readsBack(t, bench, samples);
    bench.stop("powerCut");
    await bench.start();
    t.like(bench.store.stat(), { damaged: 0, fragments: 3, bytesUsed });
    t.is(await bench.run(bench.store.upkeep.examine(second.header, true)), null);
    await readsBack(t, bench, samples);
  });

test("what is not the fragment's is never put in its place", async (t) => {
  const { bench, samples } = await stored("wrong", 3);
  const [first, second] = samples as unknown as [Sample, Sample];
  damage(bench, samples, DATA);
  const damaged = await examined(bench, second);
  for (const data of [first.data, damaged.data, second.data.subarray(1)])
    await t.throwsAsync(bench.run(bench.store.upkeep.repair(damaged, data)), undefined, "refused");
  t.is(bench.store.stat().damaged, 1);
  t.not(await bench.run(bench.store.upkeep.examine(second.header, true)), null);
});

test("a fragment that is deleted while it is repaired stays deleted, whichever comes first", async (t) => {
  const together = { repair: 0, delete: 0 };
  for (let seed = 0; seed < 80; seed++) {
    const bench = await SimBench.open(`race ${seed}`);
    // So far apart that a delete of all goes in several steps, of which the last has the damaged one.
    const samples = [1, 2_000, 4_000].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 20_000 }));
    const kept = sample(bench.random, { log: 2, sequence: 1 });
    for (const { arrived } of [...samples, kept]) await bench.run(bench.store.store(arrived, how()));
    await bench.run(bench.store.list(1, 0, 1));
    const [first, second, third] = samples as [Sample, Sample, Sample];
    bench.node.drive.flip(VOLUME, spaceOf(first) + spaceOf(second) + DATA);
    const damaged = await examined(bench, third);
    const running = new Set<string>();
    const begin = <T>(what: keyof typeof together, work: Promise<T>): Promise<T> => {
      for (const other of running) together[other as keyof typeof together]++;
      running.add(what);
      return work.finally(() => running.delete(what));
    };
    const sequences = Array.from({ length: 4_000 }, (_, at) => at + 1);
    const works = [
      () => begin("repair", bench.store.upkeep.repair(damaged, third.data)),
      () => begin("delete", bench.store.delete({ log: 1, sequences, trimmedTo: 4_000, group: -1, groupVersion: -1 }, null)),
    ];
    if (bench.random.below(2) === 0) works.reverse();
    const [one, other] = works as [(typeof works)[0], (typeof works)[0]];
    const begun: Promise<unknown>[] = [one()];
    await bench.world.advance(bench.world.random.between(0, 8));
    begun.push(other());
    await bench.run(Promise.all(begun));
    for (const again of [false, true]) {
      if (again) await bench.reopen();
      t.deepEqual((await bench.run(bench.store.list(1, 0, 10))).fragments, [], `seed=${seed}`);
      t.like(bench.store.stat(), { fragments: 1, damaged: 0 }, `seed=${seed}`);
    }
    await readsBack(t, bench, [kept]);
  }
  t.true(together.repair > 10 && together.delete > 10, JSON.stringify(together));
});

test("what was deleted while it was repaired, or before, is gone for good when that is answered, over a crash", async (t) => {
  let together = 0;
  for (let seed = 0; seed < 80; seed++) {
    const { bench, samples } = await stored(`deleted ${seed}`, 3);
    const second = samples[1] as Sample;
    damage(bench, samples, DATA);
    const damaged = await examined(bench, second);
    let isRepairing = true;
    const repair = () => {
      bench.store.upkeep.repair(damaged, second.data).finally(() => {
        isRepairing = false;
      });
      return bench.world.advance(bench.world.random.between(0, 8));
    };
    const isBefore = seed % 2 === 0;
    if (isBefore) await repair();
    if (isBefore && isRepairing) together++;
    await bench.run(bench.store.delete({ log: 1, sequences: [1, 2], trimmedTo: 2, group: -1, groupVersion: -1 }, null));
    if (!isBefore) await repair();
    bench.stop(bench.world.random.chance(0.5) ? "kill" : "powerCut");
    await bench.start();
    const { fragments } = await bench.run(bench.store.list(1, 0, 10));
    t.deepEqual(
      fragments.map(({ sequence }) => sequence),
      [3],
      `seed=${seed}`,
    );
  }
  t.true(together > 10, `${together}`);
});

test("wherever a crash interrupts a repair, the fragment stays listed, and is damaged or whole", async (t) => {
  const outcomes = { damaged: 0, whole: 0 };
  for (let seed = 0; seed < 60; seed++) {
    const { bench, samples } = await stored(`crash ${seed}`, 3);
    const second = samples[1] as Sample;
    damage(bench, samples, DATA);
    const damaged = await examined(bench, second);
    bench.store.upkeep.repair(damaged, second.data).catch(() => {});
    await bench.world.advance(bench.world.random.between(0, 12));
    bench.stop(bench.world.random.chance(0.3) ? "kill" : "powerCut");
    await bench.start();
    t.is((await bench.run(bench.store.list(1, 0, 10))).fragments.length, 3, `seed=${seed}`);
    const found = await bench.run(bench.store.upkeep.examine(second.header, true));
    outcomes[found === null ? "whole" : "damaged"]++;
    if (found !== null) t.true(await bench.run(bench.store.upkeep.repair(found, second.data)), `seed=${seed}`);
    await readsBack(t, bench, samples);
    t.is(bench.store.stat().fragments, 3, `seed=${seed}`);
  }
  t.true(outcomes.damaged > 5 && outcomes.whole > 5, JSON.stringify(outcomes));
});

test("the disk is full: nothing is repaired, and nothing lost; with room again it is", async (t) => {
  const bench = new SimBench("full", { limits: { ...LIMITS, volumeBytes: 4 * MIB } });
  bench.node.drive.capacityBytes = 32 * MIB;
  await bench.start();
  const samples: Sample[] = [];
  // What was stored lately counts twice until the disk is asked anew.
  for (let refused = 0; refused < 3; ) {
    const one = sample(bench.random, { log: 1, sequence: samples.length + 1, payloadBytes: MIB / 2 });
    const isTaken = await bench.run(bench.store.store(one.arrived, how({ class: SegmentClass.system }))).then(
      () => true,
      () => false,
    );
    if (isTaken) samples.push(one);
    else refused++;
    if (!isTaken) await bench.world.advance(2_000);
  }
  await bench.run(bench.store.list(1, 0, 1));
  const [first, second] = samples as [Sample, Sample];
  bench.node.drive.flip(VOLUME, spaceOf(first) + 300_000);
  const damaged = await examined(bench, second);
  await t.throwsAsync(bench.run(bench.store.upkeep.repair(damaged, second.data)), { code: "noSpace" } as object);
  t.like(bench.store.stat(), { fragments: samples.length, damaged: 1 });
  await bench.run(bench.store.delete({ log: 1, sequences: [4, 5], trimmedTo: 5, group: -1, groupVersion: -1 }, null));
  t.true(await bench.run(bench.store.upkeep.repair(damaged, second.data)));
  await readsBack(t, bench, [first, second]);
});

test("what can't be read is damage, once it is not read again either; the blocks beside it are used", async (t) => {
  const { bench, samples } = await stored("unreadable", 3);
  const second = samples[1] as Sample;
  bench.node.drive.failNext("read", VOLUME);
  t.is(await bench.run(bench.store.upkeep.examine(second.header, true)), null, "once is not damage");
  for (let at = 0; at < 3; at++) bench.node.drive.failNext("read", VOLUME);
  await t.throwsAsync(bench.run(bench.store.upkeep.examine(second.header, false)), { code: "diskFailed" } as object);
  bench.node.drive.failNext("read", VOLUME);
  bench.node.drive.faults.readNowChance = 0;
  await readsBack(t, bench, [second]);
  t.is(bench.store.stat().damaged, 0);
  for (let at = 0; at < 3; at++) bench.node.drive.failNext("read", VOLUME);
  await t.throwsAsync(bench.run(bench.store.read(whole(second))), { code: "diskFailed" } as object);
  t.is(bench.store.stat().damaged, 0);
  for (let at = 0; at < 3; at++) bench.node.drive.failNext("read", VOLUME);
  const damaged = await examined(bench, second);
  t.deepEqual(damaged.ranges, [], "all of it could be read by blocks");
  t.true(await bench.run(bench.store.upkeep.repair(damaged, damaged.data)));
  t.is(await bench.run(bench.store.upkeep.examine(second.header, true)), null);
  await readsBack(t, bench, samples);
});

test("a pass meets everything that was stored before it, once, and nothing stored later", async (t) => {
  const bench = await SimBench.open("targets", { limits: SMALL_LIMITS });
  const samples = [3, 1, 2].flatMap((log) => [5, 1, 300].map((sequence) => sample(bench.random, { log, sequence })));
  for (const { arrived } of samples) await bench.run(bench.store.store(arrived, how({ sync: true })));
  const until = bench.store.upkeep.head;
  const later = sample(bench.random, { log: 2, sequence: 2 });
  await bench.run(bench.store.store(later.arrived, how()));
  const met: string[] = [];
  for (let after = null; ; ) {
    const { targets, last } = await bench.run(bench.store.upkeep.targets(after, until));
    if (last === null) break;
    met.push(...targets.map(({ key }) => `${key.log}/${key.sequence}`));
    after = last as never;
  }
  t.deepEqual(met, ["1/1", "1/5", "1/300", "2/1", "2/5", "2/300", "3/1", "3/5", "3/300"]);
});
