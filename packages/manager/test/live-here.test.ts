import { ALL_SLOTS, type MapCache } from "@dazzle/core";
import test from "ava";
import type { Journal } from "../src/journal.ts";
import { LiveHere } from "../src/liveness/live-here.ts";
import { RunSegments } from "../src/run-segments.ts";
import type { ShardHost } from "../src/shard/shard-host.ts";

const LOG = 7;

/** One slot that names these segments. */
function bench(named: readonly number[]) {
  let settled = 0;
  const shard = {
    ...{ slot: 0, term: 1 },
    imap: {
      liveOf: async (_log: number, from: number, to: number, limit: number) =>
        named
          .filter((sequence) => sequence >= from && sequence <= to)
          .slice(0, limit)
          .map((sequence) => [sequence, 1] as const),
      live: async (_log: number, sequence: number) => (named.includes(sequence) ? { bytes: 1 } : undefined),
    },
  };
  const here = new LiveHere({
    host: { shards: [shard], has: () => true, shard: () => shard } as unknown as ShardHost,
    segments: new RunSegments(() => {}),
    journal: { settleApplied: async () => settled++ } as unknown as Journal,
    map: { version: 1 } as unknown as MapCache,
    trimmedTo: () => 100,
  });
  return { here, settled: () => settled };
}

const segments = (...sequences: number[]) => sequences.map((sequence) => ({ sequence, slots: ALL_SLOTS }));

test("what is not needed is told when it is stable that it is not, whatever else of the log is", async (t) => {
  const { here, settled } = bench([1, 2, 4]);
  t.deepEqual((await here.answer(LOG, segments(1, 2))).live, [1, 2]);
  t.is(settled(), 0, "nothing is said to be unneeded");
  t.deepEqual((await here.answer(LOG, segments(1, 3, 5))).live, [1]);
  t.is(settled(), 1);
});

test("of a range that is looked through, only what was asked about is told", async (t) => {
  const { here } = bench([1, 2, 4]);
  t.deepEqual([...(await here.needed(LOG, segments(3, 5)))], []);
  t.deepEqual([...(await here.needed(LOG, segments(2, 3, 5)))], [2]);
  t.deepEqual([...(await here.needed(LOG, segments(4, 90)))], [4], "far apart, each is looked up");
});
