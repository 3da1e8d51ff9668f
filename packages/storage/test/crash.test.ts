import type { Disk } from "@dazzle/core";
import test from "ava";
import { SimBench } from "./support/bench.ts";
import { StoreModel } from "./support/model.ts";
import { overFiles } from "./support/wrapped.ts";

interface Faults {
  readonly sync?: number;
  readonly write?: number;
  readonly commit?: number;
}

/** Stores, syncs, deletes and crashes at random; after every restart the model's word is held against the store's. */
async function crashes(seed: number, faults: Faults, wrap?: (disk: Disk) => Disk): Promise<StoreModel["counts"]> {
  const bench = new SimBench(`crash ${seed}`, wrap === undefined ? {} : { wrap });
  const { world } = bench;
  const model = new StoreModel(world.random.fork("model"));
  let broken: unknown = null;
  const guard = (work: Promise<void>) => {
    work.catch((error: unknown) => {
      broken ??= error;
    });
  };
  for (let life = 0; life < 6; life++) {
    const at = `seed=${seed} life=${life}`;
    Object.assign(bench.node.drive.faults, { syncErrorChance: 0, writeErrorChance: 0, commitErrorChance: 0 });
    await bench.start();
    await model.check(bench, at);
    await model.settle(bench);
    Object.assign(bench.node.drive.faults, {
      syncErrorChance: faults.sync ?? 0,
      writeErrorChance: faults.write ?? 0,
      commitErrorChance: faults.commit ?? 0,
    });
    const steps = 20 + world.random.below(60);
    for (let step = 0; step < steps; step++) {
      const roll = world.random.fraction();
      if (roll < 0.7) guard(model.store(bench.store));
      else if (roll < 0.85) guard(model.sync(bench.store));
      else if (roll < 0.9) guard(model.delete(bench.store));
      else await world.advance(world.random.pick([0.1, 1, 5, 1_500]));
      if (broken !== null) throw new Error(`${at} step=${step}: ${(broken as Error).stack}`);
    }
    if (world.random.chance(0.2)) await bench.run(bench.store.close().catch(() => {}));
    bench.stop(world.random.chance(0.3) ? "kill" : "powerCut");
  }
  return model.counts;
}

const SEEDS = Array.from({ length: 40 }, (_, seed) => seed);

function sumOf(all: readonly StoreModel["counts"][], count: keyof StoreModel["counts"]): number {
  return all.reduce((sum, counts) => sum + counts[count], 0);
}

test("whatever was reported durable survives every crash, and nothing torn is served", async (t) => {
  const all = [];
  for (const seed of SEEDS) all.push(await crashes(seed, {}));
  for (const count of ["stored", "durable", "deleted", "refused", "checked"] as const) t.true(sumOf(all, count) > 100, count);
  t.is(sumOf(all, "failed"), 0);
});

test("a disk whose writes and syncs fail keeps what it had reported durable", async (t) => {
  const all = [];
  for (const seed of SEEDS) all.push(await crashes(1_000 + seed, { sync: 0.03, write: 0.01 }));
  for (const count of ["durable", "failed", "checked"] as const) t.true(sumOf(all, count) > 100, count);
});

test("an index that fails stops the store and loses nothing", async (t) => {
  const all = [];
  for (const seed of SEEDS) all.push(await crashes(2_000 + seed, { commit: 0.05 }));
  for (const count of ["durable", "failed", "checked"] as const) t.true(sumOf(all, count) > 100, count);
});

test("the checker sees a disk whose sync does nothing", async (t) => {
  let found = 0;
  for (const seed of SEEDS) {
    try {
      await crashes(seed, {}, withoutSync);
    } catch (error) {
      t.regex((error as Error).message, /was durable and is gone|is served with other bytes|fragmentDamaged/);
      found++;
    }
  }
  t.true(found > SEEDS.length / 2, `${found} seeds of ${SEEDS.length}`);
});

function withoutSync(disk: Disk): Disk {
  return overFiles(disk, () => ({ sync: async () => {} }));
}
