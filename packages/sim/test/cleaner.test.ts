import { BLOCK_BYTES, blocksOf, isDazzleError, type Move, memberId } from "@dazzle/core";
import { noLeaks, nothingLost, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { CALLER, O_RDWR, ROOT, readFile, writeFile } from "./support/files.ts";
import { RelocationGate } from "./support/plants.ts";
import { SentMessages } from "./support/sent-messages.ts";

const LIMIT_MS = 180_000;
const LEAK_LIMIT_MS = 400_000;
const ASK_MS = 1_000;
const ALL_VERSIONS = -1;
/** The node that cleans; it has no manager. */
const CLEANER = 3;
/** Full segments' worth of what lives in one set. */
const UNDER_WAY_MAX = 4;
/** Less than a storage server calls short. */
const SHORT_DISK_BYTES = 8 * 1024 * 1024;
const NAMES = ["a", "b", "c", "d"];

/** Files in a small segment each, which the cleaner has copied together; the manager is not asked yet to name them there. */
async function copied(seed: number, names: readonly string[] = NAMES) {
  const gate = new RelocationGate();
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1, cleaners: 1, disguise: gate.disguise });
  await cluster.startAll();
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), LIMIT_MS);
  const { client } = await cluster.mount();
  for (const name of names) await run(() => writeFile(client.fileSystem, name, Buffer.alloc(2 * BLOCK_BYTES, name)));
  const ask = async () => {
    const { peers, map } = cluster.node(1);
    const [group] = map.current.groups;
    await peers.call(memberId(CLEANER), "clean", { id: "test", group: group?.id ?? 0, until: 1, stop: false });
    await new Promise<void>((resolve) => world.after(ASK_MS, resolve));
  };
  await run(async () => {
    while (gate.held.length === 0) await ask();
  });
  const [held] = gate.held;
  if (held === undefined) throw new Error("nothing is held");
  const { manager } = cluster.node(1);
  if (manager === undefined || manager === null) throw new Error("node1 is a manager");
  return { world, cluster, run, client, gate, held, host: manager.parts.host, journal: manager.journal };
}

/** Resolves when the cleaner has been answered. */
async function untilCleaned(cluster: SimCluster, pollMs: number): Promise<void> {
  while (cluster.node(CLEANER).status().cleaner[0]?.segments === 0)
    await new Promise<void>((resolve) => cluster.world.after(pollMs, resolve));
}

/** A shard's relocation as it would be if it did not look where the blocks are. */
function lookless(host: Awaited<ReturnType<typeof copied>>["host"]): void {
  for (const shard of host.shards) {
    const relocate = shard.relocate.bind(shard);
    shard.relocate = async (origin, moves, pause) => {
      const anywhere: Move[] = [];
      for (const move of moves)
        for (const { block, length, log, sequence, offset } of await shard.imap.extents(
          move.ino,
          move.block,
          move.block + blocksOf(move.length),
        ))
          anywhere.push({
            ...{ ino: move.ino, block, length, offset: move.offset + (block - move.block) * BLOCK_BYTES },
            ...{ fromLog: log, fromSequence: sequence, fromOffset: offset },
          });
      return relocate(origin, anywhere, pause);
    };
  }
}

for (const [what, plant, isWritten] of [
  ["a mount's write wins over a relocation", () => {}, true],
  ["a relocation that does not look where the block is, is found: the write is undone", lookless, false],
] as const)
  test(what, async (t) => {
    const { cluster, run, client, gate, host } = await copied(1);
    plant(host);
    await run(async () => {
      const { attributes } = await client.fileSystem.lookup(CALLER, ROOT, "b");
      const { handle } = await client.fileSystem.open(CALLER, attributes.ino, O_RDWR);
      const as = { open: O_RDWR, killPrivileges: false };
      await client.fileSystem.write(CALLER, attributes.ino, handle, 0, Buffer.alloc(2 * BLOCK_BYTES, "new"), as);
      await client.fileSystem.fsync(CALLER, attributes.ino, handle, false);
      await client.fileSystem.release(attributes.ino, handle, undefined);
    });
    // Now the manager has it, too.
    const { client: early } = await cluster.mount();
    t.deepEqual(await run(() => readFile(early.fileSystem, "b")), Buffer.alloc(2 * BLOCK_BYTES, "new"));
    await run(() => early.close());
    await run(() => client.close());
    gate.letGo();
    await run(() => untilCleaned(cluster, ASK_MS));
    const { client: other } = await cluster.mount();
    const bytes = await run(() => readFile(other.fileSystem, "b"));
    t.is(bytes.equals(Buffer.alloc(2 * BLOCK_BYTES, "new")), isWritten);
    t.deepEqual(await run(() => readFile(other.fileSystem, "c")), Buffer.alloc(2 * BLOCK_BYTES, "c"));
  });

test("a source that is deleted before its blocks have moved is found", async (t) => {
  const { cluster, run, held } = await copied(2);
  const { fromLog: log, fromSequence: sequence } = held.moves[0] as Move;
  await run(() => nothingLost(cluster));
  for (const number of cluster.numbers)
    await run(() =>
      cluster.node(1).peers.call(memberId(number), "delete", {
        ...{ log, sequences: [sequence], trimmedTo: sequence, group: ALL_VERSIONS, groupVersion: ALL_VERSIONS },
      }),
    );
  await t.throwsAsync(
    run(() => nothingLost(cluster)),
    { message: new RegExp(`are gone: ${log}/${sequence}$`) },
  );
});

test("a relocation that comes after its cleaner died is refused; one that is applied is found", async (t) => {
  const { world, cluster, run, held, host } = await copied(3);
  const { log, sequence } = held.request;
  cluster.kill(CLEANER);
  await cluster.startNode(CLEANER);
  const isOver = () => !cluster.node(1).map.current.logs.some(({ id }) => id === log);
  await world.run(noLeaks(cluster), LEAK_LIMIT_MS);
  await world.run(isOver, LIMIT_MS);
  const late = () => cluster.node(1).peers.call(memberId(1), "relocate", held.request, { tail: [held.tail] });
  const error = await t.throwsAsync(run(late));
  t.true(isDazzleError(error, "expelled"));
  await run(() => nothingLost(cluster));
  await run(() => host.relocate(held.request, held.moves, () => {}));
  await t.throwsAsync(
    run(() => nothingLost(cluster)),
    { message: new RegExp(`are gone: ${log}/${sequence}$`) },
  );
});

test("a cleaner that is killed leaves at most one set's segments that it copied for nothing, which go", async (t) => {
  const names = Array.from({ length: 24 }, (_, index) => `many-${index}`);
  const { world, cluster, run, client, gate, held } = await copied(5, names);
  const { log } = held.request;
  const stored = async () => {
    const pages = await Promise.all(
      cluster.numbers.map((number) => cluster.node(number).peers.call(memberId(number), "list", { log, after: 0, limit: 100 })),
    );
    return new Set(pages.flatMap(({ reply }) => reply.fragments.map(({ sequence }) => sequence))).size;
  };
  await run(async () => {
    while ((await stored()) < UNDER_WAY_MAX) await new Promise<void>((resolve) => world.after(ASK_MS, resolve));
  });
  await world.advance(20_000);
  t.is(await run(stored), UNDER_WAY_MAX, "no more than a set has");
  cluster.kill(CLEANER);
  gate.letGo();
  await cluster.startNode(CLEANER);
  await world.run(() => !cluster.node(1).map.current.logs.some(({ id }) => id === log), LEAK_LIMIT_MS);
  t.is(await run(stored), 0);
  await run(() => nothingLost(cluster));
  for (const name of names) t.deepEqual(await run(() => readFile(client.fileSystem, name)), Buffer.alloc(2 * BLOCK_BYTES, name));
});

test("a relocation that is answered before it is stable, and is lost, does no harm: nothing is deleted on the answer's word", async (t) => {
  const { world, cluster, run, client, gate, journal } = await copied(4);
  await run(() => client.close());
  journal.settle = async () => {};
  gate.letGo();
  await run(() => untilCleaned(cluster, 10));
  t.true(journal.appendedSequence > journal.stableSequence);
  cluster.kill(1);
  world.drive("node1").crash();
  await cluster.startNode(1);
  await world.run(cluster.node(1).managing, LIMIT_MS);
  await run(() => nothingLost(cluster));
  const { client: other } = await cluster.mount();
  for (const name of NAMES) t.deepEqual(await run(() => readFile(other.fileSystem, name)), Buffer.alloc(2 * BLOCK_BYTES, name));
  await run(() => other.close());
  await world.run(noLeaks(cluster), LEAK_LIMIT_MS);
});

test("a storage server whose machine does not clean tells one that does when its space is short", async (t) => {
  const sent = new SentMessages();
  const world = new World(6);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1, cleaners: 1, disguise: sent.disguise });
  world.drive("node1").capacityBytes = SHORT_DISK_BYTES;
  await cluster.startAll();
  const { client } = await cluster.mount();
  t.is(sent.of("clean"), 0);
  await world.run(cluster.node(2).peers.call(memberId(1), "reserve", { log: client.log, bytes: SHORT_DISK_BYTES }), LIMIT_MS);
  await world.run(() => sent.of("clean") > 0, ASK_MS);
  t.pass();
});
