import { World } from "@dazzle/sim";
import test from "ava";
import type { Run } from "../src/imap/run-table.ts";
import { THIN_SEGMENTS_MAX, thinRuns } from "../src/shard/thin-runs.ts";
import { Cluster } from "./support/cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

const LIMIT_MS = 120_000;
const FRAGMENT_BYTES = 512 * 1024;
const SLOTS_USED = 40;

/** A run of one table, by where its bytes lie. */
function runOf(...segments: readonly (readonly [sequence: number, bytes: number])[]): Run {
  return { tables: [{ segments: segments.map(([sequence, bytes]) => ({ log: 1, sequence, bytes })) }] } as unknown as Run;
}

function shardsOf(runs: readonly Run[]) {
  return runs.map((run, slot) => ({ slot, imap: { runs: [run] } }));
}

test("small runs that keep many segments are written anew, but for those in segments that are full, or needed anyway", (t) => {
  const runs = Array.from({ length: THIN_SEGMENTS_MAX + 1 }, (_, index) => runOf([index + 1, 1_000]));
  const large = runOf([1, 500], [100, FRAGMENT_BYTES], [101, FRAGMENT_BYTES]);
  const found = thinRuns(shardsOf([...runs, large]), FRAGMENT_BYTES, (_log, sequence) => sequence === 2);
  t.deepEqual(
    found.map(({ slot }) => slot),
    runs.map((_, slot) => slot).filter((slot) => slot !== 1),
  );
  t.deepEqual(
    thinRuns(shardsOf(runs), FRAGMENT_BYTES, () => true),
    [],
  );
  t.deepEqual(
    thinRuns(shardsOf(runs.slice(0, THIN_SEGMENTS_MAX - 1)), FRAGMENT_BYTES, () => false),
    [],
    "few don't matter",
  );
  const together = runs.map(() => runOf([1, FRAGMENT_BYTES]));
  t.deepEqual(
    thinRuns(shardsOf(together), FRAGMENT_BYTES, () => false),
    [],
  );
});

test("slots in which nothing changes any more don't keep a segment each", async (t) => {
  const world = new World(1);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const { host, checkpointer } = cluster.manager.parts;
  const files: number[] = [];
  for (let slot = 0; slot < SLOTS_USED; slot++) {
    const { reply } = await world.run(mount.call("numbers", { slot, count: 1 }));
    const file = ino(reply.first);
    files.push(file);
    await world.run(mount.change([{ kind: "putInode", ino: file, inode: inodeOf(file) }]));
    await world.run(mount.settle());
    await world.run(checkpointer.run(), LIMIT_MS);
  }
  const kept = () => {
    const segments = new Set<string>();
    for (const { imap } of host.shards)
      for (const { tables } of imap.runs)
        for (const table of tables) for (const { log, sequence } of table.segments) segments.add(`${log}/${sequence}`);
    return segments.size;
  };
  await world.run(() => kept() < THIN_SEGMENTS_MAX / 2, LIMIT_MS);
  await world.run(cluster.restart());
  await world.run(cluster.manager.opened, LIMIT_MS);
  for (const file of files) t.not(await world.run(cluster.manager.parts.host.shardOf(file).imap.inode(file)), undefined);
  await world.run(cluster.checkInvariants());
});
