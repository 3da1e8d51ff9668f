import {
  type ClusterMap,
  dispatch,
  type FragmentHeader,
  type Handlers,
  type MapCache,
  type MessageName,
  type Request,
  SegmentClass,
} from "@dazzle/core";
import test from "ava";
import { StoredBytes, storageHandlers } from "../src/index.ts";
import { SimBench } from "./support/bench.ts";
import { clusterMap, GROUP, logRow, mapCache, next, OTHER_STORE, versionRow } from "./support/cluster.ts";
import { type Sample, sample } from "./support/fragments.ts";

interface Server {
  readonly bench: SimBench;
  readonly cache: MapCache;
  readonly handlers: Handlers;
}

async function serverOn(bench: SimBench, map?: ClusterMap): Promise<Server> {
  const { cache } = mapCache(map ?? clusterMap(bench.store.storeId));
  return {
    bench,
    cache,
    handlers: storageHandlers({ store: bench.store, map: cache, ports: bench.node.ports, stored: new StoredBytes() }),
  };
}

async function server(name: string): Promise<Server> {
  return serverOn(await SimBench.open(name));
}

function call<Name extends MessageName>({ handlers }: Server, message: Name, request: Request<Name>, tail: readonly Uint8Array[] = []) {
  return dispatch(handlers, message, request as object, { peer: undefined, signal: new AbortController().signal, tail });
}

const STORE = { class: SegmentClass.data, sync: true };

function store(at: Server, { pieces }: Sample) {
  return call(at, "store", STORE, pieces);
}

/** Place 0 of a group of two: even sequences with index 0, odd ones with index 1. */
function here(bench: SimBench, fields: Partial<FragmentHeader> & { log: number; sequence: number }): Sample {
  return sample(bench.random, { index: fields.sequence % 2, ...fields });
}

function refused(
  t: { throwsAsync: (work: Promise<unknown>, expected: object, message?: string) => unknown },
  at: Server,
  code: string,
  work: Promise<unknown>,
) {
  return t.throwsAsync(at.bench.run(work), { code }, code);
}

test("a store needs a live log, its registered group, the current version, and this store's place", async (t) => {
  const at = await server("store");
  const { bench } = at;
  await bench.run(store(at, here(bench, { log: 1, sequence: 2 })));
  await bench.run(store(at, here(bench, { log: 1, sequence: 3 })));
  await refused(t, at, "logSealed", store(at, here(bench, { log: 2, sequence: 2 })));
  await refused(t, at, "logSealed", store(at, here(bench, { log: 3, sequence: 2 })));
  await refused(t, at, "staleMap", store(at, here(bench, { log: 4, sequence: 2 })));
  await refused(t, at, "logSealed", store(at, here(bench, { log: 19, sequence: 2 })));
  await refused(t, at, "staleMap", store(at, here(bench, { log: 20, sequence: 2 })));
  await refused(t, at, "staleMap", store(at, here(bench, { log: 1, sequence: 2, group: 2 })));
  await refused(t, at, "staleMap", store(at, here(bench, { log: 1, sequence: 2, groupVersion: 2 })));
  await refused(t, at, "notReady", store(at, here(bench, { log: 1, sequence: 4, index: 1 })));
  await refused(t, at, "wrongCluster", store(at, here(bench, { log: 1, sequence: 4, clusterId: "f".repeat(32) })));
  t.is(bench.store.stat().fragments, 2);
});

test("a restore needs a log in the map that is not live, or a sequence that is trimmed, and none past its end", async (t) => {
  const at = await server("restore");
  const { bench } = at;
  const restore = ({ pieces }: Sample) => call(at, "restore", {}, pieces);
  await bench.run(restore(here(bench, { log: 2, sequence: 1_000 })));
  const { reply } = await bench.run(restore(here(bench, { log: 3, sequence: 10 })));
  t.true(reply.durable >= reply.ticket);
  await refused(t, at, "logSealed", restore(here(bench, { log: 3, sequence: 11 })));
  await refused(t, at, "invalid", restore(here(bench, { log: 1, sequence: 2 })));
  await refused(t, at, "invalid", restore(here(bench, { log: 1, sequence: 2, trimmedTo: 1 })));
  await bench.run(restore(here(bench, { log: 1, sequence: 2, trimmedTo: 2 })));
  await refused(t, at, "logSealed", restore(here(bench, { log: 19, sequence: 2 })));
  await refused(t, at, "staleMap", restore(here(bench, { log: 2, sequence: 2, groupVersion: 2 })));
});

test("what is moved takes no more room than data; what ends a log does", async (t) => {
  const at = await server("room");
  const { bench } = at;
  // All that there is.
  await bench.run(call(at, "reserve", { log: 1, bytes: 2 ** 50 }));
  const restore = (log: number) => call(at, "restore", {}, here(bench, { log, sequence: 2, trimmedTo: 2 }).pieces);
  await refused(t, at, "noSpace", restore(1));
  await refused(t, at, "noSpace", restore(3));
  await bench.run(restore(2));
});

test("of what is not trimmed of a live log, that alone is restored which a frozen version held", async (t) => {
  const at = await server("frozen");
  const { bench, cache } = at;
  const group = cache.current.groups[0] as ClusterMap["groups"][0];
  const own = bench.store.storeId;
  const versions = [{ ...versionRow(1, [own]), frozen: { 1: 7 } }, versionRow(2, [own])];
  await bench.run(call(at, "adopt", { map: next(cache.current, { groups: [{ ...group, versions }] }) }));
  const restore = (sequence: number) =>
    call(at, "restore", {}, sample(bench.random, { log: 1, sequence, groupVersion: 2, parityFragments: 0 }).pieces);
  await bench.run(restore(7));
  await refused(t, at, "invalid", restore(8));
});

test("a replaced version takes nothing more", async (t) => {
  const at = await server("replaced");
  const { bench, cache } = at;
  const group = cache.current.groups[0] as ClusterMap["groups"][0];
  const own = bench.store.storeId;
  const versions = [...group.versions, versionRow(2, [own])];
  const { reply } = await bench.run(call(at, "adopt", { map: next(cache.current, { groups: [{ ...group, versions }] }) }));
  t.like(reply, { version: 2, store: own, boot: bench.store.boot });
  await refused(t, at, "versionReplaced", store(at, here(bench, { log: 1, sequence: 2 })));
  await refused(t, at, "versionReplaced", call(at, "restore", {}, here(bench, { log: 2, sequence: 2 }).pieces));
  await bench.run(store(at, sample(bench.random, { log: 1, sequence: 2, groupVersion: 2, parityFragments: 0 })));
});

test("an empty directory under an old name takes nothing for the store that was there", async (t) => {
  const bench = await SimBench.open("emptied");
  const at = await serverOn(bench, clusterMap(OTHER_STORE));
  await refused(t, at, "notReady", store(at, here(bench, { log: 1, sequence: 2 })));
});

test("an adopted map is kept: over a crash, and against older ones", async (t) => {
  const first = await server("kept");
  const { bench, cache } = first;
  const old = cache.current;
  const sealed = next(old, { logs: [logRow(1, { state: "expelled" })] });
  await bench.run(call(first, "adopt", { map: sealed }));
  bench.stop("powerCut");
  await bench.start();
  t.is(bench.store.fence.version, 2);
  const at = await serverOn(bench, old);
  await refused(t, at, "logSealed", store(at, here(bench, { log: 1, sequence: 2 })));
  t.is((await bench.run(call(at, "adopt", { map: old }))).reply.version, 2);
  await refused(t, at, "logSealed", store(at, here(bench, { log: 1, sequence: 2 })));
});

test("a map of another cluster is refused", async (t) => {
  const at = await server("foreign");
  const foreign = { ...next(at.cache.current, {}), clusterId: "f".repeat(32) };
  await refused(t, at, "wrongCluster", call(at, "adopt", { map: foreign }));
});

test("what the process learns of the map is durable before anything is stored under it", async (t) => {
  for (let seed = 0; seed < 20; seed++) {
    const at = await server(`learned ${seed}`);
    const { bench, cache } = at;
    const group = cache.current.groups[0] as ClusterMap["groups"][0];
    cache.learn(
      next(cache.current, { groups: [{ ...group, versions: [...group.versions, versionRow(2, [bench.store.storeId, OTHER_STORE])] }] }),
    );
    await bench.run(store(at, here(bench, { log: 1, sequence: 2, groupVersion: 2 })));
    bench.stop("powerCut");
    await bench.start();
    t.is(bench.store.fence.version, 2);
  }
});

test("no store is accepted behind an adoption's back: what it answers is listed, or was refused", async (t) => {
  let accepted = 0;
  let sealed = 0;
  for (let seed = 0; seed < 60; seed++) {
    const at = await server(`race ${seed}`);
    const { bench, cache } = at;
    const expelled = next(cache.current, { logs: [logRow(1, { state: "expelled" })] });
    const stores = Array.from({ length: 12 }, (_, sequence) => here(bench, { log: 1, sequence: sequence + 1 }));
    const outcomes: Promise<unknown>[] = [];
    let listing: Promise<Set<number>> | undefined;
    for (const [turn, one] of stores.entries()) {
      outcomes.push(
        call(at, "store", { class: SegmentClass.data, sync: bench.world.random.chance(0.5) }, one.pieces).then(
          () => "accepted",
          (error: { code: string }) => error.code,
        ),
      );
      if (turn === 6)
        listing = call(at, "adopt", { map: expelled })
          .then(() => call(at, "list", { log: 1, after: 0, limit: 100 }))
          .then(({ reply }) => new Set(reply.fragments.map(({ sequence }) => sequence)));
      await bench.world.advance(bench.world.random.between(0, 0.5));
    }
    const listed = await bench.run(listing as Promise<Set<number>>);
    for (const [turn, outcome] of (await bench.run(Promise.all(outcomes))).entries()) {
      t.is(outcome, listed.has(turn + 1) ? "accepted" : "logSealed", `seed=${seed} sequence=${turn + 1}`);
      if (outcome === "accepted") accepted++;
      else sealed++;
    }
  }
  t.true(accepted > 100 && sealed > 100, `${accepted} accepted, ${sealed} sealed`);
});

test("credits are for live logs, and end with them", async (t) => {
  const at = await server("credits");
  const { bench, cache } = at;
  t.like((await bench.run(call(at, "reserve", { log: 1, bytes: 1_000 }))).reply, { granted: 1_000, boot: bench.store.boot });
  await refused(t, at, "logSealed", call(at, "reserve", { log: 2, bytes: 1_000 }));
  await refused(t, at, "badMessage", call(at, "reserve", { log: 1, bytes: -1 }));
  await bench.run(call(at, "adopt", { map: next(cache.current, { logs: [logRow(1, { state: "expelled" })] }) }));
  t.is((await bench.run(call(at, "stat", {}))).reply.bytesReserved, 0);
});

test("what lies past a decided end is deleted though it is not trimmed", async (t) => {
  const at = await server("past the end");
  const { bench, cache } = at;
  for (const sequence of [2, 4, 6]) await bench.run(store(at, here(bench, { log: 1, sequence })));
  await refused(t, at, "invalid", call(at, "delete", { log: 1, sequences: [6], trimmedTo: 0, group: -1, groupVersion: -1 }));
  cache.learn(
    next(cache.current, {
      groups: [{ id: GROUP, name: "g", parity: 1, versions: [versionRow(1, [bench.store.storeId, OTHER_STORE])], wanted: [] }],
      logs: [logRow(1, { state: "ended", end: 4 })],
    }),
  );
  await refused(t, at, "invalid", call(at, "delete", { log: 1, sequences: [4, 6], trimmedTo: 2, group: -1, groupVersion: -1 }));
  await bench.run(call(at, "delete", { log: 1, sequences: [6], trimmedTo: 0, group: -1, groupVersion: -1 }));
  t.is((await bench.run(call(at, "list", { log: 1, after: 0, limit: 10 }))).reply.fragments.length, 2);
});

test("every message of the role is answered", async (t) => {
  const at = await server("messages");
  const { bench } = at;
  const one = here(bench, { log: 1, sequence: 2 });
  const { reply } = await bench.run(call(at, "store", { class: SegmentClass.metadata, sync: false }, one.pieces));
  t.true((await bench.run(call(at, "sync", { boot: reply.boot, ticket: reply.ticket }))).reply.durable >= reply.ticket);
  await refused(t, at, "bootChanged", call(at, "sync", { boot: "0".repeat(32), ticket: 1 }));
  t.deepEqual((await bench.run(call(at, "listLogs", {}))).reply.logs, [1]);
  const read = await bench.run(call(at, "read", { ...one.header, offset: 0, length: 10_000 }));
  t.deepEqual(read.tail?.[1], one.data);
  t.like((await bench.run(call(at, "stat", {}))).reply, { store: bench.store.storeId, boot: bench.store.boot, fragments: 1, damaged: 0 });
  await refused(t, at, "badMessage", call(at, "store", { class: 9 as SegmentClass, sync: false }, one.pieces));
  await refused(t, at, "badMessage", call(at, "store", STORE, [Buffer.from("nonsense")]));
});
