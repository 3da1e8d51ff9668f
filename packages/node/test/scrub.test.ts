import { type ClusterMap, DazzleError, FRAGMENT_HEADER, MAP_FORMAT, MapCache, type Peers, type RequestContext } from "@dazzle/core";
import { RECORD_HEADER } from "@dazzle/storage";
import test from "ava";
import { SimBench, SMALL_LIMITS } from "../../storage/test/support/bench.ts";
import { CLUSTER, how, sample } from "../../storage/test/support/fragments.ts";
import { Scrub } from "../src/scrub.ts";

const LIMIT_MS = 60_000;

const MAP: ClusterMap = {
  ...{ format: MAP_FORMAT, clusterId: CLUSTER, version: 1, nextLog: 2, nextMember: 1 },
  ...{ members: [], groups: [], slots: [], logs: [], keepers: [], formerKeepers: [] },
};

/** A server's scrub, not started; the others are silent. */
async function scrubOf(bench: SimBench): Promise<Scrub> {
  const map = new MapCache({ read: async () => MAP, compareAndSwap: async () => {} }, MAP);
  const peers = {
    call: async () => {
      throw new DazzleError("unreachable", "nobody else is there");
    },
    connected: () => undefined,
  } as unknown as Peers;
  const { store, disk, node } = bench;
  return bench.run(Scrub.open({ store, disk, map, peers, ports: node.ports, limits: SMALL_LIMITS }));
}

async function store(bench: SimBench, sequence: number): Promise<void> {
  await bench.run(bench.store.store(sample(bench.random, { log: 1, sequence, payloadBytes: 20_000 }).arrived, how()));
}

/** As `dazzle scrub` does; resolves when the pass has ended. */
async function askForPass(bench: SimBench, scrub: Scrub): Promise<void> {
  const answer = await scrub.handlers.scrub?.({}, {} as RequestContext);
  await bench.world.run(() => scrub.status.pass === answer?.reply.pass && !scrub.status.running, LIMIT_MS);
}

test("a pass that is asked for verifies what was stored a moment before", async (t) => {
  const bench = await SimBench.open("just stored");
  const scrub = await scrubOf(bench);
  scrub.start();
  await bench.world.run(() => scrub.status.last !== null, LIMIT_MS);
  for (const sequence of [1, 2, 3]) await store(bench, sequence);
  bench.node.drive.flip("volumes/00000001", RECORD_HEADER.end + FRAGMENT_HEADER.end + 4 * 5);
  await askForPass(bench, scrub);
  t.like(scrub.status, { fragments: 3, damaged: 1, waiting: 1 });
  t.is(scrub.status.last?.damaged, 1);
});

test("a pass verifies what the index has where that has failed", async (t) => {
  const bench = await SimBench.open("failed index");
  for (const sequence of [1, 2]) await store(bench, sequence);
  await bench.run(bench.store.list(1, 0, 1));
  bench.node.drive.failNext("commit");
  await store(bench, 3);
  await bench.world.run(() => !bench.store.healthy, LIMIT_MS);
  const scrub = await scrubOf(bench);
  scrub.start();
  await askForPass(bench, scrub);
  // What a commit that failed was to add may be there.
  t.true(scrub.status.fragments >= 2);
  t.deepEqual(
    bench.world.log.filter(({ message }) => message === "what is stored is not verified now"),
    [],
  );
});

test("a pass that is asked for while another one begins verifies what was stored since, too", async (t) => {
  for (let seed = 0; seed < 20; seed++) {
    const bench = await SimBench.open(seed);
    for (const sequence of [2, 3, 4]) await store(bench, sequence);
    const scrub = await scrubOf(bench);
    scrub.start();
    await store(bench, 1);
    await askForPass(bench, scrub);
    t.is(scrub.status.last?.fragments, 4, `seed=${seed}`);
  }
});
