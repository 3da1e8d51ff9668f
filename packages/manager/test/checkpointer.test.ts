import { type Clock, DazzleError, LIMITS, type MapCache } from "@dazzle/core";
import test from "ava";
import type { Journal } from "../src/journal.ts";
import type { RunSegments } from "../src/run-segments.ts";
import { Checkpointer } from "../src/shard/checkpointer.ts";
import type { ShardHost } from "../src/shard/shard-host.ts";

const RETRY_MS = 1_000;

test("a checkpoint that fails while segments of the log go on becoming stable is tried again once a second", async (t) => {
  const due: Array<{ readonly ms: number; readonly action: () => void }> = [];
  const cancel = () => {};
  const clock = {
    nowMs: () => 0,
    after: (ms: number, action: () => void) => {
      due.push({ ms, action });
      return { cancel };
    },
  } as unknown as Clock;
  let becameStable = () => {};
  const journal = { log: 1, openSequence: 1, appliedRecords: 0, onStable: (listener: () => void) => (becameStable = listener) };
  let attempts = 0;
  const host = {
    shards: [],
    between: async () => {
      attempts++;
      throw new DazzleError("notReady", "too many transactions wait");
    },
  } as unknown as ShardHost;
  const warnings: string[] = [];
  new Checkpointer({
    ...{ host, clock, journal: journal as unknown as Journal, segments: {} as RunSegments, limits: LIMITS },
    logs: { room: async () => ({ bytes: 0, segmentBytes: 0 }) },
    ...{ map: { current: { groups: [] } } as unknown as MapCache, logger: (_level, text) => void warnings.push(text) },
    ...{ heldFrom: () => 1, onStable: async () => {} },
  });
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const stable = async () => {
    journal.openSequence += LIMITS.tailSegments;
    journal.appliedRecords++;
    becameStable();
    await settled();
  };
  const retries = () => due.filter(({ ms }) => ms === RETRY_MS);
  for (let segment = 0; segment < 100; segment++) await stable();
  t.deepEqual([attempts, warnings.length, retries().length], [1, 1, 1]);
  retries()[0]?.action();
  await settled();
  for (let segment = 0; segment < 100; segment++) await stable();
  t.deepEqual([attempts, warnings.length, retries().length], [2, 2, 2]);
});
