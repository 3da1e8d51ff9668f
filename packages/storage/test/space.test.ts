import { LIMITS, SegmentClass, WATERMARKS, watermarkBytes } from "@dazzle/core";
import test from "ava";
import { Space } from "../src/space.ts";
import { SimBench } from "./support/bench.ts";
import { how, sample } from "./support/fragments.ts";

const MIB = 1024 * 1024;
const LARGE = { limits: { ...LIMITS, volumeBytes: 4 * MIB } };
const FULL = { code: "noSpace" } as object;

async function benchOf(name: string, capacityBytes: number): Promise<SimBench> {
  const bench = new SimBench(name, LARGE);
  bench.node.drive.capacityBytes = capacityBytes;
  await bench.start();
  return bench;
}

/** Stores fragments of half a MiB until one is refused; answers how many were taken. */
async function fill(bench: SimBench, log: number, segmentClass: SegmentClass): Promise<number> {
  for (let sequence = 1; ; sequence++) {
    const { arrived } = sample(bench.random, { log, sequence, payloadBytes: MIB / 2 });
    try {
      await bench.run(bench.store.store(arrived, how({ class: segmentClass })));
    } catch (error) {
      if ((error as { code?: string }).code !== "noSpace") throw error;
      return sequence - 1;
    }
  }
}

test("a disk of 300 MB stays usable, and the classes have room one below the other", (t) => {
  for (const totalBytes of [100 * MIB, 300 * MIB, 10_000 * MIB, 4_000_000 * MIB]) {
    const marks = (["offered", "data", "promised", "metadata", "cleaner", "system"] as const).map((name) =>
      watermarkBytes(name, totalBytes),
    );
    t.deepEqual(
      [...marks].sort((one, other) => other - one),
      marks,
    );
    t.is(new Set(marks).size, marks.length);
    t.true((marks[0] as number) <= totalBytes * 0.09);
    for (const [name, mark] of Object.entries(WATERMARKS)) t.true(mark.leastBytes < mark.mostBytes, name);
  }
});

test("a disk that fills refuses data first, then metadata, then cleaners, the system last, and loses nothing", async (t) => {
  const bench = await benchOf("fills", 32 * MIB);
  const data = await fill(bench, 1, SegmentClass.data);
  t.true(data >= 40);
  const metadata = await fill(bench, 2, SegmentClass.metadata);
  t.true(metadata > 0);
  const cleaned = await fill(bench, 5, SegmentClass.cleaner);
  t.true(cleaned > 0);
  const system = await fill(bench, 3, SegmentClass.system);
  t.true(system > 0);
  t.true(bench.node.drive.freeBytes > 0);
  t.is((await bench.run(bench.store.list(1, 0, 1_000))).fragments.length, data);
  const sequences = Array.from({ length: 20 }, (_, at) => at + 1);
  await bench.run(bench.store.delete({ log: 1, sequences, trimmedTo: 20, group: -1, groupVersion: -1 }, null));
  const { arrived } = sample(bench.random, { log: 4, sequence: 1, payloadBytes: MIB / 2 });
  await bench.run(bench.store.store(arrived, how()));
  t.is(bench.store.stat().fragments, data + metadata + cleaned + system - 20 + 1);
});

test("it is told where not all is promised that was asked for, and little is left", async (t) => {
  const bench = await benchOf("short", 64 * MIB);
  let told = 0;
  bench.store.onShort(() => told++);
  await bench.run(bench.store.reserve(1, MIB));
  await bench.run(bench.store.reserve(1, 100 * MIB));
  t.is(told, 0);
  await bench.run(bench.store.reserve(1, 0));
  await fill(bench, 1, SegmentClass.data);
  await bench.run(bench.store.reserve(1, MIB));
  t.is(told, 1);
});

test("a disk that is full behind the store's back refuses the write and keeps what it has", async (t) => {
  const bench = await benchOf("full", 64 * MIB);
  const samples = Array.from({ length: 8 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: MIB / 2 }));
  for (const { arrived } of samples.slice(0, 4)) await bench.run(bench.store.store(arrived, how({ sync: true })));
  const { boot } = bench.store;
  bench.node.drive.capacityBytes = 64 * MIB - bench.node.drive.freeBytes;
  for (const { arrived } of samples.slice(4, 6)) await t.throwsAsync(bench.run(bench.store.store(arrived, how({ sync: true }))), FULL);
  t.is(bench.store.boot, boot);
  bench.node.drive.capacityBytes = 64 * MIB;
  await bench.world.advance(1_100);
  for (const { arrived } of samples.slice(4)) await bench.run(bench.store.store(arrived, how({ sync: true })));
  bench.stop("powerCut");
  await bench.start();
  for (const { header, data } of samples) {
    const { tail } = await bench.run(bench.store.read({ ...header, offset: 0, length: data.length }));
    t.deepEqual(tail[1], data);
  }
});

test("credits never exceed what is free above the watermark, and what was promised is kept", async (t) => {
  const bench = await benchOf("credits", 32 * MIB);
  const above = bench.node.drive.freeBytes - watermarkBytes("data", 32 * MIB);
  const reserve = async (log: number, bytes: number) => (await bench.run(bench.store.reserve(log, bytes))).granted;
  t.is(await reserve(1, 10 * MIB), 10 * MIB);
  t.is(await reserve(1, 10 * MIB), 10 * MIB);
  t.is(await reserve(2, 100 * MIB), above - 10 * MIB);
  t.is(await reserve(3, 1), 0);
  t.is(bench.store.stat().bytesReserved, above);
  // Without credits there is nothing left; with them, all of it.
  await t.throwsAsync(bench.run(bench.store.store(sample(bench.random, { log: 3, sequence: 1 }).arrived, how())), FULL);
  const stored = await fill(bench, 1, SegmentClass.data);
  t.true(stored * (MIB / 2) >= 9 * MIB, `${stored} halves of a MiB`);
  t.true(bench.store.stat().bytesReserved < above - 9 * MIB);
  t.is(await reserve(2, 3 * MIB), 3 * MIB);
  t.is(await reserve(2, 0), 0);
});

test("what is restored takes none of its log's credits", async (t) => {
  const bench = await benchOf("restored", 32 * MIB);
  await bench.run(bench.store.reserve(1, 10 * MIB));
  await bench.run(bench.store.reserve(2, 100 * MIB));
  const restored = sample(bench.random, { log: 1, sequence: 1, payloadBytes: MIB / 2 });
  await t.throwsAsync(bench.run(bench.store.store(restored.arrived, how({ restore: true }))), FULL);
  const before = bench.store.stat().bytesReserved;
  await bench.run(bench.store.store(restored.arrived, how({ restore: true, class: SegmentClass.system })));
  t.is(bench.store.stat().bytesReserved, before);
});

test("the check counts that is made with the ticket, not one before a wait", async (t) => {
  const bench = await benchOf("late check", MIB);
  await bench.world.advance(1_100);
  // The store's answer, of a full disk, is old now: a store waits for a new one.
  bench.node.drive.capacityBytes = 64 * MIB;
  let isSealed = false;
  const check = () => {
    if (isSealed) throw new Error("sealed");
  };
  const storing = bench.store.store(sample(bench.random, { log: 1, sequence: 1 }).arrived, how({ check }));
  isSealed = true;
  await t.throwsAsync(bench.run(storing), { message: "sealed" });
  t.is(bench.store.stat().fragments, 0);
});

test("credits end with the boot", async (t) => {
  const bench = await benchOf("boot", 64 * MIB);
  await bench.run(bench.store.reserve(1, MIB));
  bench.node.drive.failNext("sync");
  await t.throwsAsync(bench.run(bench.store.store(sample(bench.random, { log: 1, sequence: 1 }).arrived, how({ sync: true }))));
  t.is(bench.store.stat().bytesReserved, 0);
});

test("the disk is asked for its space about once a second", async (t) => {
  const { world } = new SimBench("asked");
  let asked = 0;
  const disk = {
    space: async () => {
      asked++;
      return { totalBytes: 1_000 * MIB, freeBytes: 900 * MIB };
    },
  };
  const space = new Space(disk as never, world.spawn("asker").ports.clock, () => {});
  await space.ask();
  for (let turn = 0; turn < 300; turn++) {
    space.keepFresh();
    await world.advance(10);
  }
  t.true(asked >= 3 && asked <= 5, `${asked} times in 3 s`);
  asked = 0;
  for (let turn = 0; turn < 8; turn++) {
    space.beginWrite(10 * MIB);
    space.keepFresh();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.true(asked >= 1 && asked <= 3, `${asked} times in 80 MiB`);
  // What is being written may not be in the answer, so it counts as taken.
  t.true(space.freeBytes <= 820 * MIB);
  space.checkInvariants();
});
