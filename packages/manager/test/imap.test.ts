import { DazzleError, type Extent, type LogAddress } from "@dazzle/core";
import { SeededRandom, World } from "@dazzle/sim";
import test from "ava";
import { Imap } from "../src/imap/imap.ts";
import { behindKey, FIRST_KEY } from "../src/imap/keys.ts";
import { OrderedMap } from "../src/imap/ordered-map.ts";
import { RunBlock } from "../src/imap/run-block.ts";
import { RunBuilder, type RunSink } from "../src/imap/run-builder.ts";
import { RunCache } from "../src/imap/run-cache.ts";
import { bytesOf, type Run, type SegmentBytes } from "../src/imap/run-table.ts";
import type { EntryValue } from "../src/imap/values.ts";
import { Journal } from "../src/journal.ts";
import { MemoryLogs } from "./support/memory-logs.ts";

const SILENT = () => {};

/** An imap whose runs go to a log in memory. */
class Bench {
  readonly logs = new MemoryLogs();
  readonly journal: Journal;
  readonly cache: RunCache;
  readonly sink: RunSink;
  readonly discarded: SegmentBytes[] = [];
  beforeRead: (address: LogAddress) => Promise<void> = async () => {};
  imap: Imap;

  constructor(world: World, runCacheBytes: number) {
    const { clock } = world.spawn("manager").ports;
    const writer = this.logs.writer(7, clock);
    this.journal = new Journal({ writer, clock, logger: SILENT, flushIntervalMs: 10, transactionBytes: 65_536, groupVersion: () => 1 });
    this.cache = new RunCache({
      capacityBytes: runCacheBytes,
      read: async (address) => {
        await this.beforeRead(address);
        const held = this.journal.read(address);
        return held === undefined ? this.logs.read(address) : [held];
      },
    });
    this.sink = {
      place: (slot, length, fill) => this.journal.append([{ kind: 4, owner: slot, position: 0, term: 1, length }], fill),
      discard: (segments) => this.discarded.push(...segments),
    };
    this.imap = new Imap({ cache: this.cache, runs: [] });
  }

  builder(): RunBuilder {
    return new RunBuilder({ slot: 0, sink: this.sink, blockBytes: 512 });
  }

  async flush(): Promise<void> {
    this.imap.freeze();
    if (this.imap.frozen) await this.imap.writeFrozen(this.builder(), () => undefined);
  }

  async merge(): Promise<void> {
    const runs = this.imap.mergeable(Number.POSITIVE_INFINITY);
    if (runs !== undefined) await this.imap.merge(runs, this.builder(), () => undefined);
  }

  /** As a manager that starts anew finds it: the runs alone. */
  restart(): void {
    const runs: readonly Run[] = this.imap.runs;
    this.imap = new Imap({ cache: this.cache, runs });
  }
}

function extentOf(block: number, sequence: number): Extent {
  return { block, log: 9, sequence, offset: 0, length: 4096, group: 1, groupVersion: 1 };
}

class Model {
  inodes = new Map<number, string>();
  entries = new Map<number, Map<string, EntryValue>>();
  attributes = new Map<number, Map<string, string>>();
  regions = new Map<string, number>();
  live = new Map<number, number>();
}

function sortedNames(names: Iterable<string>): string[] {
  return [...names].sort((a, b) => Buffer.from(a, "latin1").compare(Buffer.from(b, "latin1")));
}

function put<K, V>(table: Map<K, V>, key: K, value: V | null): void {
  if (value === null) table.delete(key);
  else table.set(key, value);
}

function sub<V>(tables: Map<number, Map<string, V>>, id: number): Map<string, V> {
  const table = tables.get(id) ?? new Map<string, V>();
  tables.set(id, table);
  return table;
}

function change(random: SeededRandom, imap: Imap, model: Model): void {
  const id = 1 + random.below(20);
  const gone = random.below(3) === 0;
  const name = String.fromCharCode(1 + random.below(255)) + random.below(8);
  switch (random.below(5)) {
    case 0: {
      const value = gone ? null : `inode ${id} ${random.below(1000)}`;
      put(model.inodes, id, value);
      imap.putInode(id, value === null ? null : Buffer.from(value));
      break;
    }
    case 1: {
      const value = gone ? null : { child: 1 + random.below(2 ** 40), type: random.below(16) };
      put(sub(model.entries, id), name, value);
      imap.putEntry(id, name, value);
      break;
    }
    case 2: {
      const value = gone ? null : "x".repeat(random.below(900));
      put(sub(model.attributes, id), name, value);
      imap.putAttribute(id, name, value === null ? null : Buffer.from(value));
      break;
    }
    case 3: {
      const region = random.below(3) * 1000;
      const sequence = 1 + random.below(100);
      put(model.regions, `${id} ${region}`, gone ? null : sequence);
      imap.putRegion(id, region, gone ? [] : [extentOf(region * 256, sequence)]);
      break;
    }
    default: {
      const bytes = gone ? null : 1 + random.below(1000);
      put(model.live, id, bytes);
      imap.putLive(9, id, bytes === null ? null : { bytes, slots: { low: 1, high: 0 } });
    }
  }
}

async function compare(random: SeededRandom, imap: Imap, model: Model): Promise<string[]> {
  const wrong: string[] = [];
  const same = (what: string, got: unknown, wanted: unknown) => {
    if (JSON.stringify(got) !== JSON.stringify(wanted)) wrong.push(`${what}: ${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`);
  };
  for (let id = 1; id <= 20; id++) {
    same(`inode ${id}`, (await imap.inode(id))?.toString(), model.inodes.get(id));
    const names = sortedNames(model.entries.get(id)?.keys() ?? []);
    const after = random.below(2) === 0 || names.length === 0 ? "" : (names[random.below(names.length)] as string);
    const limit = 1 + random.below(30);
    const page = await imap.entries(id, after, limit);
    const wanted = names.filter((name) => after === "" || Buffer.from(name, "latin1").compare(Buffer.from(after, "latin1")) > 0);
    same(
      `names of ${id} after ${after}`,
      page.entries.map((entry) => [entry.name, entry.child, entry.type]),
      wanted.slice(0, limit).map((name) => [name, model.entries.get(id)?.get(name)?.child, model.entries.get(id)?.get(name)?.type]),
    );
    same(`more of ${id}`, page.more, wanted.length > limit);
    for (const name of names.slice(0, 3)) same(`entry ${name}`, await imap.entry(id, name), model.entries.get(id)?.get(name));
    same(`no entry in ${id}`, await imap.entry(id, "never"), undefined);
    same(
      `attributes of ${id}`,
      (await imap.attributes(id)).map(([name, value]) => [name, value.toString()]),
      sortedNames(model.attributes.get(id)?.keys() ?? []).map((name) => [name, model.attributes.get(id)?.get(name)]),
    );
    for (const region of [0, 1000, 2000])
      same(`region ${region} of ${id}`, (await imap.region(id, region))[0]?.sequence, model.regions.get(`${id} ${region}`));
    same(
      `extents of ${id}`,
      (await imap.extents(id, 0, 2 ** 40)).map((extent) => extent.sequence),
      [0, 1000, 2000].map((region) => model.regions.get(`${id} ${region}`)).filter((sequence) => sequence !== undefined),
    );
    same(`live of ${id}`, (await imap.live(9, id))?.bytes, model.live.get(id));
  }
  same(
    "live list",
    await imap.liveOf(9, 3, 15, 1000),
    [...model.live].filter(([id]) => 3 <= id && id <= 15).sort(([a], [b]) => a - b),
  );
  return wrong;
}

/** Everything, in pages, as "key=value". */
async function pagesOf(imap: Imap, limit: number): Promise<string[]> {
  const entries: string[] = [];
  for (let from = FIRST_KEY, more = true; more; ) {
    const page = await imap.page(from, undefined, limit, 2_000);
    const block = new RunBlock(page.block);
    if (block.count > limit) throw new Error(`${block.count} entries, ${limit} were asked for`);
    for (let index = 0; index < block.count; index++)
      entries.push(`${block.key(index).toString("hex")}=${(block.value(index) as Buffer).toString("hex")}`);
    more = page.more;
    if (more) from = behindKey(block.key(block.count - 1));
  }
  return entries;
}

function sizeOf({ inodes, entries, attributes, regions, live }: Model): number {
  let size = inodes.size + regions.size + live.size;
  for (const tables of [entries, attributes]) for (const table of tables.values()) size += table.size;
  return size;
}

for (const [name, runCacheBytes] of [
  ["with room for all runs in the cache", 2 ** 30],
  ["with a cache that holds next to nothing", 2048],
] as const) {
  test(`an imap answers as a map does, through flushes, merges and restarts, ${name}`, async (t) => {
    for (let seed = 1; seed <= 6; seed++) {
      const world = new World(seed);
      const random = new SeededRandom(`imap ${seed}`);
      const bench = new Bench(world, runCacheBytes);
      const model = new Model();
      for (let round = 0; round < 25; round++) {
        for (let step = random.below(60); step > 0; step--) change(random, bench.imap, model);
        if (random.below(2) === 0) await world.run(bench.flush());
        if (random.below(3) === 0) await world.run(bench.merge());
        if (random.below(6) === 0) {
          await world.run(bench.flush());
          bench.restart();
        }
        t.deepEqual(await world.run(compare(random, bench.imap, model)), [], `seed ${seed} round ${round}`);
        const whole = await world.run(pagesOf(bench.imap, 2 ** 30));
        t.is(whole.length, sizeOf(model));
        t.deepEqual(await world.run(pagesOf(bench.imap, 1 + random.below(5))), whole, `seed ${seed} round ${round}`);
      }
      t.true(bench.imap.runs.length < 12);
    }
  });
}

test("a merge of everything leaves no tombstone, and one that is given up discards what it wrote", async (t) => {
  const world = new World(1);
  const bench = new Bench(world, 2 ** 20);
  for (let round = 0; round < 4; round++) {
    for (let id = 1; id <= 300; id++) bench.imap.putInode(id, round === 3 ? null : Buffer.alloc(1, round));
    await world.run(bench.flush());
  }
  const runs = bench.imap.mergeable(Number.POSITIVE_INFINITY);
  t.is(runs?.length, 4);
  const given = bench.imap.merge(runs as readonly Run[], bench.builder(), () => {
    throw new Error("planted");
  });
  await t.throwsAsync(world.run(given), { message: "planted" });
  t.is(bench.imap.runs.length, 4);
  await world.run(bench.merge());
  t.is(bench.imap.runs.length, 0);
});

test("where the largest runs don't fit, smaller ones are merged, or none", async (t) => {
  const world = new World(1);
  const bench = new Bench(world, 2 ** 20);
  for (const count of [1_000, 300, 300, 300, 300]) {
    for (let id = 1; id <= count; id++) bench.imap.putInode(id, Buffer.alloc(100, count));
    await world.run(bench.flush());
  }
  const { runs } = bench.imap;
  const all = bytesOf(runs);
  t.deepEqual(bench.imap.mergeable(all), runs);
  t.deepEqual(bench.imap.mergeable(all - 1), runs.slice(0, 4));
  t.is(bench.imap.mergeable(bytesOf(runs.slice(0, 4)) - 1), undefined);
  // However many they are.
  for (let round = 0; round < 10; round++) {
    bench.imap.putInode(1, Buffer.alloc(100, round));
    await world.run(bench.flush());
  }
  t.is(bench.imap.mergeable(0), undefined);
});

test("a reading that meets a deleted run starts anew on the runs that took its place", async (t) => {
  const world = new World(1);
  const bench = new Bench(world, 0);
  const { imap } = bench;
  for (let id = 1; id <= 500; id++) imap.putInode(id, Buffer.alloc(50, 1));
  await world.run(bench.flush());
  for (let round = 0; round < 4; round++) {
    imap.putInode(1_000 + round, Buffer.from(`${round}`));
    await world.run(bench.flush());
  }
  const oldest = imap.runs.at(-1)?.tables[0]?.foot;
  let lost = 0;
  bench.beforeRead = async (address) => {
    if (address.sequence !== oldest?.sequence || address.offset !== oldest.offset) return;
    lost++;
    await bench.merge();
    if (lost === 1) throw new DazzleError("fragmentMissing", "planted");
  };
  t.is((await world.run(Promise.resolve(imap.inode(20))))?.length, 50);
  t.is(lost, 2);
  t.is(imap.runs.length, 2);
  // Where nothing took its place, it is lost.
  lost = 0;
  await t.throwsAsync(world.run(Promise.resolve(imap.inode(21))), { code: "fragmentMissing" });
});

test("what is inserted behind the present place of a scan is seen, and nothing twice", (t) => {
  const map = new OrderedMap<string, number>();
  for (const name of ["b", "d", "f"]) map.set(name, 1);
  const seen: string[] = [];
  for (const [name] of map.from("b")) {
    seen.push(name);
    if (name === "d") {
      map.set("a", 1);
      map.set("c", 1);
      map.set("e", 1);
      t.deepEqual([...map.from(undefined)].length, 6);
    }
  }
  t.deepEqual(seen, ["b", "d", "e", "f"]);
});
