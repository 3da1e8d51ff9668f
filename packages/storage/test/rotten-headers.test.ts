import { type Disk, FRAGMENT_HEADER } from "@dazzle/core";
import test from "ava";
import { RECORD_HEADER, recordSpace } from "../src/index.ts";
import { SimBench, SMALL_LIMITS } from "./support/bench.ts";
import { clusterMap } from "./support/cluster.ts";
import { how, type Sample, sample } from "./support/fragments.ts";
import { overFiles } from "./support/wrapped.ts";

const VOLUME = "volumes/00000001";

function spaceOf({ arrived }: Sample): number {
  return recordSpace(RECORD_HEADER.end + arrived.bytes);
}

async function storeAll(bench: SimBench, samples: readonly Sample[], sync: boolean): Promise<void> {
  for (const { arrived } of samples) await bench.run(bench.store.store(arrived, how({ sync })));
}

test("where it can't be told what has rotted, the store vouches for no log that had something then, and for all that come later", async (t) => {
  const bench = await SimBench.open("unnamed");
  const vouched = async (log: number) => (await bench.run(bench.store.list(log, 0, 10))).vouched;
  const rotFirst = async (within: number) => {
    bench.stop("kill");
    bench.node.drive.flip(VOLUME, within);
    await bench.start();
  };
  const map = clusterMap(bench.store.storeId);
  await bench.run(bench.store.fence.adopt(map));
  const samples = [1, 2, 3].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 6_000 }));
  await storeAll(bench, samples, true);
  await rotFirst(RECORD_HEADER.end + 5_000);
  t.true(await vouched(1), "a fragment of which the key is known");
  await storeAll(
    bench,
    [4, 5].map((sequence) => sample(bench.random, { log: 1, sequence, payloadBytes: 6_000 })),
    true,
  );
  await rotFirst(3 * spaceOf(samples[0] as Sample) + RECORD_HEADER.end + FRAGMENT_HEADER.sequence);
  for (const restarts of [0, 1]) {
    t.is(bench.store.stat().damaged, 1 - restarts);
    t.deepEqual([await vouched(1), await vouched(map.nextLog - 1), await vouched(map.nextLog)], [false, false, true]);
    await bench.reopen();
  }
});

test("a header that has rotted makes a scan read no more than another one", async (t) => {
  const read = async (seed: string, ...rotten: readonly number[]) => {
    let most = 0;
    const bench = await SimBench.open(seed, { limits: { ...SMALL_LIMITS, volumeBytes: 8 * 1024 * 1024 } });
    const samples = Array.from({ length: 12 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 300_000 }));
    await storeAll(bench, samples, true);
    bench.stop("kill");
    for (const byte of rotten) bench.node.drive.flip(VOLUME, byte);
    const reading = (disk: Disk) =>
      overFiles(disk, (file) => ({
        read: (buffer, position) => {
          most = Math.max(most, buffer.byteLength);
          return file.read(buffer, position);
        },
      }));
    bench.options = { ...bench.options, wrap: reading };
    await bench.start();
    t.is(bench.store.stat().fragments, 12 - Math.sign(rotten.length));
    return most;
  };
  t.is(await read("long header", 3, RECORD_HEADER.end + FRAGMENT_HEADER.headerBytes + 3), await read("long header"));
});
