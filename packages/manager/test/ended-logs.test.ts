import { type ClusterMap, DazzleError, findLog, type LogId, MapCache, type MemberId, type Peers, type Reply, withLog } from "@dazzle/core";
import { initialMap } from "@dazzle/manager";
import test from "ava";
import type { Journal } from "../src/journal.ts";
import type { LogAccess } from "../src/log-access.ts";
import { EndedLogs } from "../src/mounts/ended-logs.ts";
import type { Shard } from "../src/shard/shard.ts";
import type { ShardHost } from "../src/shard/shard-host.ts";

const LOG = 7;
const END = 0;
const ME = 1 as MemberId;
const OTHER = 2 as MemberId;

/** Slots 0 and 1 are member 1's, all others member 2's. */
function firstMap(): ClusterMap {
  const members = [ME, OTHER].map((id) => ({
    id,
    name: `node${id}`,
    addresses: [`unix:node${id}`],
    roles: ["manager" as const, "keeper" as const],
    incarnation: 1,
    leaving: false,
    store: null,
  }));
  const map = initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members, manager: OTHER });
  const log = { id: LOG as LogId, kind: "mount" as const, member: OTHER, process: "mount", groups: [], end: null, label: "" };
  return {
    ...map,
    nextLog: 8,
    logs: [{ ...log, state: "live" }],
    slots: map.slots.map((row, slot) => ({ ...row, manager: slot < 2 ? ME : OTHER, term: 3 })),
  };
}

/** A manager whose slots are those of `shards`, beside one that answers by `others`. */
class Bench {
  map = firstMap();
  readonly cache: MapCache;
  readonly shards = new Map<number, Shard>();
  readonly ended: EndedLogs;
  others: Reply<"settled"> | null = null;
  recoveries = 0;
  settles = 0;
  /** Called before what is to be done between two transactions. */
  onBetween = async () => {};
  /** Called while a log is being ended. */
  onRecover = () => {};

  constructor() {
    this.cache = new MapCache(
      {
        read: async () => this.map,
        compareAndSwap: async (expected, next) => {
          if (expected !== this.map.version) throw new DazzleError("versionConflict", "somebody was faster");
          this.map = next;
        },
      },
      this.map,
    );
    for (const slot of [0, 1]) this.come(slot, 3);
    const peers = {
      call: async () => {
        if (this.others === null) throw new DazzleError("unreachable", "nobody listens");
        return { reply: this.others, tail: [] };
      },
    } as unknown as Peers;
    const logs = { recover: () => this.#recover() } as unknown as LogAccess;
    const { shards } = this;
    const host = {
      get shards() {
        return shards.values();
      },
      between: async (task: () => void) => {
        await this.onBetween();
        task();
      },
    } as unknown as ShardHost;
    const journal = {
      settle: async () => {
        this.settles++;
      },
    } as unknown as Journal;
    this.ended = new EndedLogs({ map: this.cache, peers, logger: () => {}, logs, host, journal, member: ME });
  }

  async #recover() {
    this.recoveries++;
    await this.cache.change((map) => {
      const row = findLog(map, LOG);
      return row?.end === null ? { ...map, logs: [{ ...row, state: "ended", end: END }] } : undefined;
    });
    this.onRecover();
    return { end: END, trimmedTo: 0, places: new Map() };
  }

  come(slot: number, term: number): void {
    this.shards.set(slot, { slot, term } as Shard);
  }

  /** The other manager has the log in all its slots, under this term. */
  otherSettled(term: number): void {
    const slots = Array.from({ length: 62 }, (_, index) => index + 2);
    this.others = { version: this.map.version, slots, terms: slots.map(() => term) };
  }

  get state(): string | undefined {
    return findLog(this.map, LOG)?.state;
  }
}

const noLease = async () => {};

test("a log is closed when every slot has it up to its end, wherever it is", async (t) => {
  const bench = new Bench();
  t.false(bench.ended.isSettled(LOG));
  await bench.ended.settle(LOG, noLease);
  t.true(bench.ended.isSettled(LOG));
  t.is(bench.settles, 1);
  t.false(await bench.ended.close(LOG));
  t.is(bench.state, "ended");
  bench.otherSettled(2);
  t.false(await bench.ended.close(LOG), "a slot that changed hands since is not spoken for");
  t.is(bench.state, "ended");
  bench.otherSettled(3);
  t.true(await bench.ended.close(LOG));
  t.is(bench.state, "closed");
  t.is(findLog(bench.map, LOG)?.end, END);
  t.true(await bench.ended.close(LOG));
});

test("a manager speaks for those slots that have the log and are still here, of the end that the map says", async (t) => {
  const bench = new Bench();
  t.deepEqual((await bench.ended.answer(LOG, END)).slots, []);
  await bench.ended.settle(LOG, noLease);
  t.deepEqual((await bench.ended.answer(LOG, END)).slots, [0, 1]);
  t.deepEqual((await bench.ended.answer(LOG, END)).terms, [3, 3]);
  t.deepEqual((await bench.ended.answer(LOG, END + 1)).slots, []);
  bench.shards.delete(0);
  t.deepEqual((await bench.ended.answer(LOG, END)).slots, [1]);
  // It was elsewhere, and is back under another term.
  bench.come(0, 5);
  t.deepEqual((await bench.ended.answer(LOG, END)).slots, [1]);
  t.false(bench.ended.isSettled(LOG));
  await bench.ended.settle(LOG, noLease);
  t.deepEqual((await bench.ended.answer(LOG, END)).terms, [3, 5]);
});

test("a slot that comes while a log is being applied gets it as well, before the log counts as settled", async (t) => {
  const bench = new Bench();
  bench.onRecover = () => {
    if (bench.recoveries === 1) bench.come(9, 4);
  };
  await bench.ended.settle(LOG, noLease);
  t.is(bench.recoveries, 2);
  t.deepEqual([...(await bench.ended.answer(LOG, END)).slots].sort(), [0, 1, 9]);
});

test("nobody is told that a slot has a log while the mount's lease lasts", async (t) => {
  const bench = new Bench();
  let release = () => {};
  const lease = new Promise<void>((resolve) => {
    release = resolve;
  });
  const settling = bench.ended.settle(LOG, () => lease);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(bench.state, "ended");
  t.deepEqual((await bench.ended.answer(LOG, END)).slots, []);
  release();
  await settling;
  t.deepEqual((await bench.ended.answer(LOG, END)).slots, [0, 1]);
});

test("the log of a cleaner is closed when every slot's manager has a map in which it is ended, and has moved what it had let in", async (t) => {
  const bench = new Bench();
  bench.map = { ...bench.map, version: 2, logs: bench.map.logs.map((row) => ({ ...row, kind: "cleaner" as const })) };
  await bench.cache.refresh();
  bench.otherSettled(3);
  t.false(await bench.ended.close(LOG));
  t.deepEqual((await bench.ended.answer(LOG, END)).slots, []);
  await bench.cache.change((map) => withLog(map, LOG, { state: "ended", end: END }));
  bench.otherSettled(2);
  t.false(await bench.ended.close(LOG));
  bench.otherSettled(3);
  let isMoved = false;
  bench.onBetween = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    t.is(bench.state, "ended");
    isMoved = true;
  };
  t.true(await bench.ended.close(LOG));
  t.true(isMoved);
  t.is(bench.state, "closed");
});
