import { DazzleError, type Disk, FRAGMENT_HEADER, type OrderedStore, type Request } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { RECORD_HEADER, recordSpace } from "../src/index.ts";
import { fragmentKeyBytes } from "../src/index-layout.ts";
import { SimBench } from "./support/bench.ts";
import { how, type Sample, sample } from "./support/fragments.ts";
import { over } from "./support/wrapped.ts";

const VOLUME = "volumes/00000001";
/** Segments that are restored, each a millisecond later after it begins to be carried over. */
const RACES = 12;
const COMMIT_MS = 5;
const ALL = { group: -1, groupVersion: -1 };

async function stored(name: string, count = 3): Promise<{ bench: SimBench; samples: Sample[] }> {
  const bench = await SimBench.open(name);
  const samples = Array.from({ length: count }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 20_000 }));
  for (const { arrived } of samples) await bench.run(bench.store.store(arrived, how()));
  return { bench, samples };
}

const carrying = (sequences: readonly number[]): Request<"carry"> => ({
  ...{ log: 1, sequences, group: 1, from: 1, to: 2, stableSequence: 3, trimmedTo: 3 },
});

const carry = (bench: SimBench, sequences: readonly number[], check = () => {}) =>
  bench.run(bench.store.carrier.carry(carrying(sequences), check));

const remove = (bench: SimBench, sequences: readonly number[], under: { readonly group: number; readonly groupVersion: number }) =>
  bench.run(bench.store.delete({ log: 1, sequences, trimmedTo: 3, ...under }, null));

async function readsUnder(t: ExecutionContext, bench: SimBench, groupVersion: number, samples: readonly Sample[]): Promise<void> {
  for (const { header, data } of samples) {
    const { reply, tail } = await bench.run(bench.store.read({ ...header, groupVersion, offset: 0, length: data.length }));
    t.is(reply.groupVersion, groupVersion);
    t.deepEqual(Buffer.from(tail[1] as Uint8Array), data, `segment ${header.sequence}`);
  }
}

test("what is carried over is there under both versions, and lives until it is deleted under both; over a power cut, too", async (t) => {
  const { bench, samples } = await stored("both");
  const two = samples.slice(0, 2);
  t.deepEqual(await carry(bench, [1, 2, 9]), [1, 2]);
  t.deepEqual(await carry(bench, [1, 2]), [1, 2], "once more");
  for (const version of [1, 2]) await readsUnder(t, bench, version, two);
  await remove(bench, [1, 2], { group: 1, groupVersion: 1 });
  t.deepEqual(await carry(bench, [1, 2]), [1, 2], "it is there already");
  for (let round = 0; round < 2; round++) {
    await readsUnder(t, bench, 2, two);
    await readsUnder(t, bench, 1, samples.slice(2));
    await t.throwsAsync(readsUnder(t, bench, 1, two), { code: "fragmentMissing" });
    t.is(bench.store.stat().fragments, 3);
    bench.stop("powerCut");
    await bench.start();
  }
  const { bytesUsed } = bench.store.stat();
  await remove(bench, [1], { group: 1, groupVersion: 2 });
  await carry(bench, [3]);
  await remove(bench, [2, 3], ALL);
  t.is(bench.store.stat().bytesUsed, 0);
  t.true(bytesUsed > 0);
  const { header } = sample(bench.random, { log: 1, sequence: 4 });
  t.deepEqual(await carry(bench, [header.sequence]), []);
});

test("nothing is carried over that may not be restored", async (t) => {
  const { bench, samples } = await stored("refused");
  const refuse = () => {
    throw new DazzleError("versionReplaced", "there is a newer one");
  };
  await t.throwsAsync(carry(bench, [1, 2], refuse), { code: "versionReplaced" });
  await t.throwsAsync(readsUnder(t, bench, 2, samples), { code: "fragmentMissing" });
});

for (const restore of [true, false])
  test(`what is ${restore ? "restored" : "stored by its writer"} while it is carried over is there once, and counts as carried over only where it is on disk`, async (t) => {
    const bench = new SimBench(`race ${restore}`);
    let rows: OrderedStore | undefined;
    // As on a disk: what is committed is seen when that is done.
    const slowly = (disk: Disk) =>
      over(disk, {
        openIndex: async (name) => {
          const index = await disk.openIndex(name);
          rows = index;
          return over(index, {
            commit: (changes) => new Promise<void>((resolve) => bench.world.after(COMMIT_MS, resolve)).then(() => index.commit(changes)),
          });
        },
      });
    bench.options = { wrap: slowly };
    await bench.start();
    const samples = Array.from({ length: RACES }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 20_000 }));
    for (const { arrived } of samples) await bench.run(bench.store.store(arrived, how()));
    await bench.run(bench.store.list(1, 0, 1));
    const counts: number[] = [];
    for (const { header } of samples) {
      const { sequence } = header;
      const again = sample(bench.random, { ...header, groupVersion: 2 });
      const stored = new Promise<void>((resolve) => bench.world.after(sequence, resolve)).then(() =>
        bench.store.store(again.arrived, how({ restore, sync: true })),
      );
      // So that the index has something to commit first.
      const another = 100 + sequence;
      const other = bench.store.store(sample(bench.random, { log: 1, sequence: another, groupVersion: 7 }).arrived, how());
      const carried = bench.store.carrier
        .carry({ ...carrying([sequence, another]), trimmedTo: 0 }, () => {})
        .then((sequences) => {
          const isThere = rows?.get(fragmentKeyBytes(again.header)) !== undefined;
          t.true(isThere || sequences.length === 0);
          return sequences.length;
        });
      counts.push((await bench.run(Promise.all([carried, stored, other])))[0]);
      t.is((await bench.run(bench.store.list(1, sequence - 1, 1))).fragments.length, 2);
      t.is(bench.store.stat().fragments, RACES + 2 * sequence);
    }
    t.true(counts.includes(0) && counts.includes(1));
  });

for (const [what, within] of [
  ["data", RECORD_HEADER.end + FRAGMENT_HEADER.end + 4 * 5 + 7],
  ["header", RECORD_HEADER.end + FRAGMENT_HEADER.trimmedTo],
] as const)
  test(`damaged ${what} of what was carried over is repaired under each of its versions`, async (t) => {
    const { bench, samples } = await stored(`damage ${what}`);
    const [first, second] = samples as [Sample, Sample];
    await carry(bench, [1, 2, 3]);
    bench.node.drive.flip(VOLUME, recordSpace(RECORD_HEADER.end + first.arrived.bytes) + within);
    for (const groupVersion of [2, 1]) {
      const damaged = await bench.run(bench.store.upkeep.examine({ ...second.header, groupVersion }, true));
      if (damaged === null) throw new Error("it is whole");
      t.true(await bench.run(bench.store.upkeep.repair(damaged, second.data)));
      await readsUnder(t, bench, groupVersion, samples);
    }
    bench.stop("powerCut");
    await bench.start();
    for (const groupVersion of [1, 2]) {
      await readsUnder(t, bench, groupVersion, samples);
      for (const { header } of samples) t.is(await bench.run(bench.store.upkeep.examine({ ...header, groupVersion }, true)), null);
    }
    await remove(bench, [1, 2, 3], ALL);
    t.like(bench.store.stat(), { fragments: 0, bytesUsed: 0, damaged: 0 });
  });

test("what is known to be damaged is not carried over: it is written anew", async (t) => {
  const { bench, samples } = await stored("known");
  const [first, second] = samples as [Sample, Sample];
  await bench.run(bench.store.list(1, 0, 1));
  bench.node.drive.flip(VOLUME, recordSpace(RECORD_HEADER.end + first.arrived.bytes) + RECORD_HEADER.end + second.arrived.bytes - 100);
  t.not(await bench.run(bench.store.upkeep.examine(second.header, true)), null);
  t.deepEqual(await carry(bench, [1, 2, 3]), [1, 3]);
  const again = sample(bench.random, { ...second.header, groupVersion: 2 });
  await bench.run(bench.store.store(again.arrived, how({ restore: true, sync: true })));
  await remove(bench, [1, 2, 3], { group: 1, groupVersion: 1 });
  await readsUnder(t, bench, 2, [first, again]);
  t.like(bench.store.stat(), { fragments: 3, damaged: 0 });
});
