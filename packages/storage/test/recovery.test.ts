import { type Disk, FRAGMENT_HEADER, fragmentHeaderBytes, type Request } from "@dazzle/core";
import test from "ava";
import type { Entry } from "../src/entry.ts";
import { RECORD_ALIGNMENT, RECORD_HEADER, recordSpace } from "../src/index.ts";
import { encodeFragmentRow, encodePair, encodePosition, fragmentKeyBytes, POSITION_KEY, volumeKeyBytes } from "../src/index-layout.ts";
import { SimBench } from "./support/bench.ts";
import { how, type Sample, sample } from "./support/fragments.ts";
import { over, overFiles } from "./support/wrapped.ts";

const VOLUME = "volumes/00000001";

function whole({ header, data }: Sample): Request<"read"> {
  return { ...header, offset: 0, length: data.length };
}

function spaceOf({ arrived }: Sample): number {
  return recordSpace(RECORD_HEADER.end + arrived.bytes);
}

async function storeAll(bench: SimBench, samples: readonly Sample[], sync: boolean): Promise<void> {
  for (const { arrived } of samples) await bench.run(bench.store.store(arrived, how({ sync })));
}

async function heldOf(bench: SimBench, samples: readonly Sample[]): Promise<boolean[]> {
  const held = [];
  for (const one of samples) {
    const answer = bench.run(bench.store.read(whole(one)));
    held.push(
      await answer.then(
        ({ tail }) => one.data.equals(tail[1] as Uint8Array),
        () => false,
      ),
    );
  }
  return held;
}

test("a scan goes on behind a damaged record, whatever of it is damaged", async (t) => {
  const make = (bench: SimBench) => [1, 2, 3, 4].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 6_000 }));
  for (const [what, within] of [
    ["record header", 3],
    ["fragment header", RECORD_HEADER.end + FRAGMENT_HEADER.sequence],
    ["block", 5_000],
  ] as const)
    for (const sync of [false, true]) {
      const bench = await SimBench.open(`${what} ${sync}`);
      const samples = make(bench);
      await storeAll(bench, samples, sync);
      // The mark in the last record tells that those before it were on disk.
      bench.stop("kill");
      bench.node.drive.flip(VOLUME, spaceOf(samples[0] as Sample) + within);
      await bench.start();
      // The fragment itself is whole where only the record's header has rotted.
      t.deepEqual(await heldOf(bench, samples), [true, sync && what === "record header", true, true], what);
      t.is(bench.store.stat().damaged, sync ? 1 : 0, `${what}, synced: ${sync}`);
      // What has rotted stays listed as long as its key is known; what was torn was never stored.
      t.is(bench.store.stat().fragments, sync && what !== "fragment header" ? 4 : 3, `${what}, synced: ${sync}`);
    }
});

test("a start that is killed after any of its commits leaves what has rotted listed, and takes nothing twice", async (t) => {
  for (let commits = 1; ; commits++) {
    const bench = await SimBench.open(`killed start ${commits}`);
    // Five lie in a volume; the mark in the last of them tells that those before it were on disk.
    const samples = Array.from({ length: 12 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 24_000 }));
    await storeAll(bench, samples, true);
    bench.stop("kill");
    bench.node.drive.flip(VOLUME, spaceOf(samples[0] as Sample) + 5_000);
    bench.options = { wrap: (disk) => endingAfter(disk, commits) };
    const hasStarted = await bench.start().then(
      () => true,
      () => false,
    );
    bench.stop("kill");
    bench.options = {};
    await bench.start();
    const what = `after ${commits} commits`;
    t.is(bench.store.stat().fragments, 12, what);
    t.deepEqual(
      await heldOf(bench, samples),
      samples.map(({ header }) => header.sequence !== 2),
      what,
    );
    if (!hasStarted) continue;
    t.true(commits > 3, "a commit for each volume, and another one");
    return;
  }
});

/** A disk whose index fails after so many commits, for whoever waits for the last of them as well. */
function endingAfter(disk: Disk, commits: number): Disk {
  let left = commits;
  return over(disk, {
    openIndex: async (path) => {
      const index = await disk.openIndex(path);
      return over(index, {
        commit: async (changes) => {
          if (left > 0) await index.commit(changes);
          if (--left <= 0) throw new Error("killed");
        },
      });
    },
  });
}

test("file data that holds this very volume is not taken for records", async (t) => {
  const bench = await SimBench.open("embedded");
  const inner = [1, 2, 3].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 2_000 }));
  await storeAll(bench, inner, true);
  const volume = (await bench.run(bench.disk.readWhole(VOLUME))) as Uint8Array;
  await bench.run(bench.store.delete({ log: 1, sequences: [1, 2, 3], trimmedTo: 3, group: -1, groupVersion: -1 }, null));
  // The copy lies on sectors, where a scan that looks for the next record meets its records.
  const shift = RECORD_ALIGNMENT - RECORD_HEADER.end - fragmentHeaderBytes(volume.length + RECORD_ALIGNMENT);
  const data = Buffer.concat([Buffer.alloc(shift), volume, Buffer.alloc(RECORD_ALIGNMENT - shift)]);
  const outer = sample({ bytes: () => data, below: () => 0 }, { log: 2, sequence: 1, payloadBytes: data.length });
  const last = sample(bench.random, { log: 3, sequence: 1 });
  await storeAll(bench, [outer, last], false);
  bench.stop("kill");
  bench.node.drive.flip(
    VOLUME,
    inner.reduce((sum, one) => sum + spaceOf(one), 0),
  );
  await bench.start();
  t.deepEqual(await heldOf(bench, [...inner, outer, last]), [false, false, false, false, true]);
  t.is(bench.store.stat().fragments, 1);
});

test("what a start finds behind a failed sync is on disk from then on", async (t) => {
  let found = 0;
  for (let seed = 0; seed < 40; seed++) {
    const bench = await SimBench.open(`failed sync ${seed}`);
    const samples = [1, 2].map((sequence) => sample(bench.random, { log: 1, sequence }));
    await storeAll(bench, samples.slice(0, 1), false);
    bench.node.drive.failNext("sync");
    await t.throwsAsync(storeAll(bench, samples.slice(1), true), { code: "diskFailed" } as object);
    // Killed before its index has passed what the sync may not have written; the system takes it for clean.
    bench.stop("kill");
    await bench.start();
    const held = await heldOf(bench, samples);
    found += held.filter((isHeld) => isHeld).length;
    bench.stop("powerCut");
    await bench.start();
    t.deepEqual(await heldOf(bench, samples), held, `seed=${seed}`);
  }
  t.true(found > 0);
});

test("records start on sectors and never share one", async (t) => {
  const bench = await SimBench.open("aligned");
  const samples = [1, 2, 3].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 1 + 700 * sequence }));
  await storeAll(bench, samples, true);
  const volume = Buffer.from((await bench.run(bench.disk.readWhole(VOLUME))) as Uint8Array);
  let at = 0;
  for (const one of samples) {
    t.deepEqual(volume.subarray(at + RECORD_HEADER.end, at + RECORD_HEADER.end + one.arrived.bytes), Buffer.concat(one.pieces));
    t.is(at % RECORD_ALIGNMENT, 0);
    at += spaceOf(one);
  }
});

test("a start with 100,000 indexed fragments reads the index's position and volumes, not the fragments", async (t) => {
  const fragments = 100_000;
  const aVolume = 1_000;
  const bench = await SimBench.open("many");
  await bench.run(bench.store.close());
  const index = await bench.run(bench.disk.openIndex("index"));
  const rows: Array<readonly [Uint8Array, Uint8Array]> = [];
  const { entry, bytes } = indexed();
  for (let at = 0; at < fragments; at++) {
    const row: Entry = { ...entry, sequence: at + 1, volume: 1 + Math.floor(at / aVolume), offset: (at % aVolume) * bytes };
    rows.push([fragmentKeyBytes(row), encodeFragmentRow(row)]);
  }
  for (let volume = 1; volume <= fragments / aVolume; volume++) {
    rows.push([volumeKeyBytes(volume), encodePair(aVolume * bytes, aVolume)]);
    const file = await bench.run(bench.disk.open(`volumes/${String(volume).padStart(8, "0")}`, { create: true }));
    await bench.run(file.truncate(aVolume * bytes));
  }
  rows.push([POSITION_KEY, encodePosition({ volume: 1 + fragments / aVolume, offset: 0 })]);
  await bench.run(index.commit(rows));

  const counts = { fileReads: 0, indexReads: 0 };
  bench.options = { wrap: (disk) => counting(disk, counts) };
  await bench.start();
  t.is(bench.store.stat().fragments, fragments);
  t.is(counts.fileReads, 0);
  t.true(counts.indexReads < 2 * (fragments / aVolume) + 20, `${counts.indexReads} reads of the index`);
});

function indexed(): { readonly entry: Entry; readonly bytes: number } {
  const entry: Entry = {
    log: 1,
    sequence: 1,
    group: 1,
    groupVersion: 1,
    index: 0,
    volume: 1,
    offset: 0,
    headerBytes: 132,
    dataBytes: 4_000,
    dataFragments: 1,
    parityFragments: 1,
    fragmentBytes: 4_096,
    payloadBytes: 4_000,
    summaryOffset: 0,
  };
  return { entry, bytes: recordSpace(RECORD_HEADER.end + entry.headerBytes + entry.dataBytes) };
}

function counting(disk: Disk, counts: { fileReads: number; indexReads: number }): Disk {
  const files = overFiles(disk, (file) => ({
    read: (buffer, position) => {
      counts.fileReads++;
      return file.read(buffer, position);
    },
  }));
  return over(files, {
    openIndex: async (path) => {
      const index = await disk.openIndex(path);
      return over(index, {
        get: (key) => {
          counts.indexReads++;
          return index.get(key);
        },
        *range(from, to) {
          for (const row of index.range(from, to)) {
            counts.indexReads++;
            yield row;
          }
        },
      });
    },
  });
}

test("the index is behind by a second at most", async (t) => {
  const counts = { fileReads: 0, indexReads: 0 };
  const bench = await SimBench.open("lag", { wrap: (disk) => counting(disk, counts) });
  await storeAll(
    bench,
    [1, 2, 3].map((sequence) => sample(bench.random, { log: 1, sequence })),
    false,
  );
  await bench.world.advance(1_500);
  bench.stop("kill");
  counts.fileReads = 0;
  await bench.start();
  t.is(counts.fileReads, 0);
  t.is(bench.store.stat().fragments, 3);
});

test("deleting gives the space back: of neighbours together, of empty volumes whole", async (t) => {
  const bench = await SimBench.open("space back");
  const usedBytes = () => bench.node.drive.capacityBytes - bench.node.drive.freeBytes;
  const before = usedBytes();
  const samples = Array.from({ length: 200 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 1_000 }));
  await storeAll(bench, samples, false);
  const full = usedBytes() - before;
  t.true(full >= samples.reduce((sum, one) => sum + spaceOf(one), 0));
  const remove = (sequences: number[]) =>
    bench.run(bench.store.delete({ log: 1, sequences, trimmedTo: 200, group: -1, groupVersion: -1 }, null));
  // One after the other, so that no two neighbours die in one commit.
  const dying = samples.map(({ header }) => header.sequence).filter((sequence) => sequence % 50 !== 7);
  for (const sequence of dying.filter((_, at) => at % 2 === 0)) await remove([sequence]);
  for (const sequence of dying.filter((_, at) => at % 2 === 1)) await remove([sequence]);
  const left = samples.filter(({ header }) => header.sequence % 50 === 7);
  t.true(usedBytes() - before <= left.length * 3 * 4_096 + 4_096, `${usedBytes() - before} bytes for ${left.length} records`);
  t.deepEqual(
    await heldOf(bench, left),
    left.map(() => true),
  );
  await remove(left.map(({ header }) => header.sequence));
  await storeAll(bench, [sample(bench.random, { log: 2, sequence: 1 })], true);
  t.true((await bench.run(bench.disk.list("volumes"))).length <= 1);
  await bench.reopen();
  t.true(usedBytes() - before <= 3 * 4_096);
});

test("holes that a crash left unpunched are punched at the next start", async (t) => {
  let fails = true;
  const bench = await SimBench.open("unpunched", {
    wrap: (disk) =>
      overFiles(disk, (file) => ({
        punchHole: async (position, length) => {
          if (fails) throw new Error("no hole today");
          return file.punchHole(position, length);
        },
      })),
  });
  const samples = [1, 2, 3].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 30_000 }));
  await storeAll(bench, samples, true);
  const full = bench.node.drive.freeBytes;
  await bench.run(bench.store.delete({ log: 1, sequences: [2], trimmedTo: 2, group: -1, groupVersion: -1 }, null));
  t.is(bench.node.drive.freeBytes, full);
  bench.stop("powerCut");
  fails = false;
  await bench.start();
  t.true(bench.node.drive.freeBytes - full >= 28_000);
  t.deepEqual(await heldOf(bench, samples), [true, false, true]);
});

test("a volume that was removed just before a kill keeps no hole of another from being punched at the next start", async (t) => {
  let fails = true;
  const bench = await SimBench.open("removed volume", {
    wrap: (disk) =>
      overFiles(disk, (file) => ({
        punchHole: async (position, length) => {
          if (fails) throw new Error("no hole today");
          return file.punchHole(position, length);
        },
      })),
  });
  const samples = Array.from({ length: 10 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 30_000 }));
  await storeAll(bench, samples, true);
  await bench.run(bench.store.list(1, 0, 1));
  const remove = (sequences: number[]) =>
    bench.run(bench.store.delete({ log: 1, sequences, trimmedTo: 10, group: -1, groupVersion: -1 }, null));
  await remove([1, 2, 3, 4]);
  t.deepEqual(await bench.run(bench.disk.list("volumes")), ["00000002", "00000003"]);
  await remove([6]);
  const before = bench.node.drive.freeBytes;
  bench.stop("kill");
  fails = false;
  await bench.start();
  t.true(bench.node.drive.freeBytes - before >= 28_000);
  const told = () => bench.world.log.filter(({ message }) => message.includes("still take space")).length;
  const toldBefore = told();
  await bench.reopen();
  t.is(told(), toldBefore);
});

test("a hole that fails keeps no other from being punched, and is punched at the next delete", async (t) => {
  let failures = 0;
  const bench = await SimBench.open("punched later", {
    wrap: (disk) =>
      overFiles(disk, (file) => ({
        punchHole: async (position, length) => {
          if (failures-- > 0) throw new Error("no hole now");
          return file.punchHole(position, length);
        },
      })),
  });
  const samples = Array.from({ length: 7 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 30_000 }));
  await storeAll(bench, samples, true);
  const full = bench.node.drive.freeBytes;
  const remove = (sequences: number[]) =>
    bench.run(bench.store.delete({ log: 1, sequences, trimmedTo: 7, group: -1, groupVersion: -1 }, null));
  failures = 1;
  await remove([2, 4]);
  const freed = bench.node.drive.freeBytes - full;
  t.true(freed >= 28_000 && freed < 40_000, `${freed}`);
  await remove([6]);
  t.true(bench.node.drive.freeBytes - full >= 3 * 28_000);
});

test("of deletes at the same time none keeps another's holes from being punched", async (t) => {
  for (let seed = 0; seed < 20; seed++) {
    const bench = await SimBench.open(`overlapping ${seed}`);
    const samples = Array.from({ length: 40 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 30_000 }));
    await storeAll(bench, samples, true);
    await bench.reopen();
    const remove = (sequences: number[]) => bench.store.delete({ log: 1, sequences, trimmedTo: 40, group: -1, groupVersion: -1 }, null);
    const before = bench.node.drive.freeBytes;
    // Four lie in a volume: the second empties some of those in which the first punches holes.
    const first = samples.map(({ header }) => header.sequence).filter((sequence) => sequence % 4 !== 0);
    const removing = [remove(first)];
    for (const sequence of [12, 20, 28]) {
      await bench.world.advance(bench.random.below(3));
      removing.push(remove([sequence]));
    }
    await bench.run(Promise.all(removing));
    t.true(bench.node.drive.freeBytes - before >= 33 * 28_000, `seed=${seed}: ${bench.node.drive.freeBytes - before}`);
  }
});

test("a damaged header is counted once and answered as damage, damaged data is the reader's to find", async (t) => {
  const bench = await SimBench.open("damage");
  const samples = [1, 2].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 6_000 }));
  await storeAll(bench, samples, true);
  bench.node.drive.flip(VOLUME, RECORD_HEADER.end + FRAGMENT_HEADER.end);
  bench.node.drive.flip(VOLUME, spaceOf(samples[0] as Sample) + 5_000);
  for (let turn = 0; turn < 2; turn++)
    await t.throwsAsync(bench.run(bench.store.read(whole(samples[0] as Sample))), { code: "fragmentDamaged" } as object);
  t.is(bench.store.stat().damaged, 1);
  const { tail } = await bench.run(bench.store.read(whole(samples[1] as Sample)));
  t.notDeepEqual(tail[1], samples[1]?.data);
  t.is(bench.store.stat().damaged, 1);
});

test("what is deleted while it is read is missing, never damaged", async (t) => {
  const outcomes = { whole: 0, missing: 0 };
  for (let seed = 0; seed < 40; seed++) {
    const bench = await SimBench.open(`deleted ${seed}`);
    bench.node.drive.faults.readNowChance = 0;
    const samples = Array.from({ length: 12 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 20_000 }));
    await storeAll(bench, samples, true);
    const work: Promise<unknown>[] = [
      bench.store.delete({ log: 1, sequences: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], trimmedTo: 12, group: -1, groupVersion: -1 }, null),
    ];
    for (const one of samples) {
      const reading = bench.store.read(whole(one)).then(
        ({ tail }) => {
          outcomes.whole++;
          t.true(one.data.equals(tail[1] as Uint8Array), `seed=${seed}`);
        },
        (error: { code: string }) => {
          outcomes.missing++;
          t.is(error.code, "fragmentMissing", `seed=${seed}`);
        },
      );
      work.push(reading);
      await bench.world.advance(bench.random.below(2));
    }
    await bench.run(Promise.all(work));
    t.is(bench.store.stat().damaged, 0);
  }
  t.true(outcomes.whole > 40 && outcomes.missing > 40, JSON.stringify(outcomes));
});

test("the space of a torn record that reaches beyond the end of its file is never used again", async (t) => {
  const bench = await SimBench.open("short");
  const torn = sample(bench.random, { log: 1, sequence: 1, payloadBytes: 40_000 });
  await storeAll(bench, [torn], false);
  bench.stop("kill");
  const file = await bench.run(bench.disk.open(VOLUME, { create: false }));
  await bench.run(file.truncate(5_000));
  await bench.start();
  // Were it used again: the first ends where the torn one would have, and the second has the last sector of that page.
  const first = sample(bench.random, { log: 1, sequence: 2, payloadBytes: 35_100 });
  const second = sample(bench.random, { log: 1, sequence: 3, payloadBytes: 100 });
  t.is(5_120 + spaceOf(first), spaceOf(torn));
  await storeAll(bench, [first, second], true);
  await bench.run(bench.store.delete({ log: 1, sequences: [3], trimmedTo: 3, group: -1, groupVersion: -1 }, null));
  await bench.reopen();
  t.deepEqual(await heldOf(bench, [torn, first, second]), [false, true, false]);
});

test("what is under way when the store closes ends, one way or the other", async (t) => {
  let refused = 0;
  for (let seed = 0; seed < 20; seed++) {
    const bench = await SimBench.open(`closing ${seed}`);
    const samples = Array.from({ length: 9 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1 }));
    await storeAll(bench, samples, false);
    const { store } = bench;
    const again = async (action: (turn: number) => Promise<unknown>) => {
      for (let turn = 1; turn < 9; turn++) await action(turn);
    };
    const work = [
      again((turn) => store.store(sample(bench.random, { log: 2, sequence: turn }).arrived, how({ sync: true }))),
      again((turn) => store.delete({ log: 1, sequences: [turn], trimmedTo: turn, group: -1, groupVersion: -1 }, null)),
      again(() => store.list(1, 0, 10)),
      again(() => store.read(whole(samples[8] as Sample))),
    ];
    await bench.world.advance(bench.random.below(6));
    await bench.run(store.close());
    for (const outcome of await bench.run(Promise.allSettled(work))) {
      if (outcome.status === "fulfilled") continue;
      t.is(outcome.reason.code, "diskFailed", `seed=${seed}: ${outcome.reason.stack}`);
      refused++;
    }
  }
  t.true(refused > 20, `${refused} refused`);
});
