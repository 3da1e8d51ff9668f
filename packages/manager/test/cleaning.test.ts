import {
  type ClusterMap,
  type Delta,
  deferred,
  findLog,
  isDazzleError,
  type MemberId,
  NO_MEMBER,
  type Piece,
  sleep,
  TransactionBuilder,
  withLog,
} from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster, MEMBER, SMALL, type TestMount } from "./support/cluster.ts";
import { FileModel } from "./support/file-model.ts";
import { type FoundBlock, TestCleaner } from "./support/test-cleaner.ts";
import { ino, inodeOf } from "./support/transactions.ts";

const SEEDS = Number(process.env.DAZZLE_SEEDS ?? 2);
const LIMIT_MS = 300_000;
const SLOTS_USED = [1, 2, 3, 40];

interface Bench {
  readonly world: World;
  readonly cluster: Cluster;
  readonly mount: TestMount;
  readonly cleaner: TestCleaner;
}

async function begin(seed = 1, managers?: readonly MemberId[]): Promise<Bench> {
  const world = new World(seed);
  const cluster = new Cluster(world, SMALL, managers);
  await world.run(cluster.start());
  await world.run(cluster.opened(), LIMIT_MS);
  const mount = await world.run(cluster.mount("mount"));
  mount.keepAlive();
  const cleaner = new TestCleaner(cluster, world.spawn("cleaner"));
  await world.run(cleaner.begin());
  return { world, cluster, mount, cleaner };
}

/** A file of that many blocks, one segment each, all stable and trimmed. Answers its number. */
async function makeFile({ world, mount }: Bench, slot: number, blocks: number): Promise<number> {
  const { reply } = await world.run(mount.call("numbers", { slot, count: 1 }));
  const file = ino(reply.first);
  for (let block = 0; block < blocks; block++) {
    const put: Delta = { kind: "putExtents", ino: file, extents: [{ block, offset: 0, length: 4096 }] };
    await world.run(mount.change([{ kind: "putInode", ino: file, inode: inodeOf(file) }, put]));
  }
  await world.run(mount.settle());
  return file;
}

/** Where the file's blocks are, as its manager says. */
async function blocksOf({ world, cluster }: Bench, file: number): Promise<FoundBlock[]> {
  const manager = cluster.managers.find(({ parts }) => parts.host.has(file % 64));
  const extents = await world.run(manager?.parts.host.shardOf(file).imap.extents(file, 0, 2 ** 31) ?? Promise.resolve([]));
  return extents.map((extent) => ({ ...extent, ino: file }));
}

const addresses = (blocks: readonly FoundBlock[]) => blocks.map(({ log, sequence, offset }) => `${log}/${sequence}+${offset}`);

test("what a cleaner was told is moved outlives the manager, and a segment goes once its blocks were moved and that is stable", async (t) => {
  const bench = await begin();
  const { world, cluster, mount, cleaner } = bench;
  const file = await makeFile(bench, 2, 3);
  const found = await blocksOf(bench, file);
  const moves = await world.run(cleaner.copy(found));
  t.is(await world.run(cleaner.relocate(1, moves)), 3 * 4096);
  await world.run(cluster.restart());
  await world.run(cluster.manager.opened, LIMIT_MS);
  t.like(await blocksOf(bench, file), [{ block: 0, log: cleaner.log, sequence: 1, offset: 0, length: 3 * 4096 }]);
  // Asked again, because the answer was lost.
  t.is(await world.run(cleaner.patiently(() => cleaner.relocate(1, moves))), 3 * 4096);
  await world.run(
    mount.patiently(() => mount.settle()),
    LIMIT_MS,
  );
  await world.run(() => found.every(({ log, sequence }) => cluster.deleted.includes(`${log}/${sequence}`)), LIMIT_MS);
  await world.run(cluster.checkInvariants());
});

test("a manager that dies before a move is stable has the block where it was, and nothing is lost", async (t) => {
  const bench = await begin();
  const { world, cluster, cleaner } = bench;
  const file = await makeFile(bench, 2, 1);
  const before = await blocksOf(bench, file);
  const moves = await world.run(cleaner.copy(before));
  const { host } = cluster.manager.parts;
  await world.run(host.relocate({ log: cleaner.log, sequence: 1, group: 1, groupVersion: 1 }, moves, () => {}));
  t.is((await blocksOf(bench, file))[0]?.log, cleaner.log);
  await world.run(cluster.restart());
  await world.run(cluster.manager.opened, LIMIT_MS);
  t.deepEqual(addresses(await blocksOf(bench, file)), addresses(before));
  await world.advance(10_000);
  t.false(cluster.deleted.includes(`${before[0]?.log}/${before[0]?.sequence}`));
});

test("that nothing was to be moved any more is stable as well when it is answered", async (t) => {
  const bench = await begin();
  const { world, cluster, cleaner } = bench;
  const file = await makeFile(bench, 2, 1);
  const moves = await world.run(cleaner.copy(await blocksOf(bench, file)));
  // As an orphan goes: no mount's log tells of it.
  const removal = new TransactionBuilder();
  removal.add({ kind: "removeInode", ino: ino(file) });
  await world.run(cluster.manager.parts.host.applyOwn(removal));
  t.is(await world.run(cleaner.relocate(1, moves)), 0);
  await world.run(cluster.restart());
  await world.run(cluster.manager.opened, LIMIT_MS);
  t.deepEqual(await blocksOf(bench, file), []);
});

test("while what is to be moved is read, transactions are applied", async (t) => {
  const bench = await begin();
  const { world, cluster, mount, cleaner } = bench;
  const files: number[] = [];
  for (let count = 0; count < 60; count++) files.push(await makeFile(bench, 2, 1));
  const found = (await Promise.all(files.map((file) => blocksOf(bench, file)))).flat();
  const moves = await world.run(cleaner.copy(found));
  await world.run(cluster.manager.parts.checkpointer.run());
  await world.run(cluster.restart());
  await world.run(cluster.manager.opened, LIMIT_MS);
  await world.run(
    mount.patiently(() => mount.settle()),
    LIMIT_MS,
  );
  const gate = deferred();
  cluster.logs.hold = gate.promise;
  let isMoved = false;
  const moving = cleaner.relocate(1, moves).then((bytes) => {
    isMoved = true;
    return bytes;
  });
  await world.advance(100);
  await world.run(mount.change([{ kind: "putInode", ino: ino(files[0] as number), inode: inodeOf(files[0] as number, { size: 1 }) }]));
  t.false(isMoved);
  gate.resolve();
  t.is(await world.run(moving), 60 * 4096);
});

test("nothing is moved into a log that is no live cleaner's, into a trimmed segment, or of a slot that is elsewhere", async (t) => {
  const bench = await begin(1, [1, 2] as MemberId[]);
  const { world, cluster, mount, cleaner } = bench;
  const file = await makeFile(bench, 2, 1);
  const other = await makeFile(bench, 3, 1);
  const before = await blocksOf(bench, file);
  const [moves, both] = await world.run(Promise.all([cleaner.copy(before), cleaner.copy([...before, ...(await blocksOf(bench, other))])]));
  const refused = async (code: string, action: () => Promise<unknown>) =>
    t.is(
      await world.run(
        action().then(
          () => "done",
          ({ code: found }) => found,
        ),
      ),
      code,
    );
  await refused("staleMap", () => cleaner.relocateAt(1 as MemberId, 2, both));
  await refused("badMessage", () => cleaner.relocate(1, [{ ...moves[0], length: 0 } as never]));
  for (const log of [mount.log, cluster.managerOf(1).log, 1_000]) {
    const request = { log, sequence: 1, group: 1, groupVersion: 1, trimmedTo: 0 };
    await refused("expelled", async () => cleaner.peers.call(1 as MemberId, "relocate", request, { tail: [] }));
  }
  await world.run(cleaner.trim(1));
  await refused("invalid", () => cleaner.relocate(1, moves));
  await world.run(
    cluster.map.change((map) => ({ ...map, logs: map.logs.map((row) => (row.id === cleaner.log ? { ...row, state: "expelled" } : row)) })),
  );
  await world.run(cleaner.map.refresh());
  await refused("expelled", () => cleaner.relocate(2, both.slice(0, 1)));
  t.deepEqual(addresses(await blocksOf(bench, file)), addresses(before));
});

test("nothing is moved while the manager before may still tell where the blocks were", async (t) => {
  const bench = await begin(1, [1, 2] as MemberId[]);
  const { world, cluster, cleaner } = bench;
  const file = await makeFile(bench, 3, 1);
  const moves = await world.run(cleaner.copy(await blocksOf(bench, file)));
  t.is(cleaner.ownerOf(file), 2);
  world.network.partition(["node2"], ["node"]);
  const { host, table } = cluster.managerOf(1).parts;
  await world.run(() => table.stateOf(3) === "claiming", LIMIT_MS);
  const before = cluster.managerOf(2);
  t.true(before.parts.lease.endMs > world.nowMs);
  let bytes: number | undefined;
  const moving = cleaner
    .patiently(() => cleaner.relocateAt(1 as MemberId, 1, moves))
    .then((moved) => {
      bytes = moved;
    });
  await world.run(() => bytes !== undefined || before.parts.lease.endMs <= world.nowMs, LIMIT_MS);
  t.is(bytes, undefined);
  await world.run(moving, LIMIT_MS);
  t.is(bytes, 4096);
  t.like(await world.run(host.shardOf(file).imap.extents(file, 0, 1)), [{ log: cleaner.log }]);
});

test("segments of a cleaner's log go when they are trimmed and nobody names anything of them, also those in which nothing ever was", async (t) => {
  const bench = await begin(1, [1, 2] as MemberId[]);
  const { world, cluster, mount, cleaner } = bench;
  const files = [await makeFile(bench, 2, 2), await makeFile(bench, 3, 2)];
  const found = (await Promise.all(files.map((file) => blocksOf(bench, file)))).flat();
  const [one, two, three, four] = [
    await world.run(cleaner.copy(found)),
    await world.run(cleaner.copy(found)),
    await world.run(cleaner.copy(found.slice(0, 1))),
    await world.run(cleaner.copy(found)),
  ];
  t.is(await world.run(cleaner.relocate(1, one)), 4 * 4096);
  // Too late: they are in the first one.
  t.is(await world.run(cleaner.relocate(2, two)), 0);
  // On from there, and written over at once.
  const again = { ...three[0], fromLog: cleaner.log, fromSequence: 1, fromOffset: 0 } as (typeof three)[number];
  t.is(await world.run(cleaner.relocate(3, [again])), 4096);
  await world.run(mount.change([{ kind: "putExtents", ino: ino(files[0] as number), extents: [{ block: 0, offset: 0, length: 4096 }] }]));
  await world.run(mount.settle());
  await world.advance(10_000);
  t.deepEqual(cluster.logs.sequencesOf(cleaner.log), [1, 2, 3, 4]);
  await world.run(cleaner.trim(3));
  await world.run(() => cluster.logs.sequencesOf(cleaner.log).length === 2, LIMIT_MS);
  await world.advance(10_000);
  // Of the last one it is not known that nothing comes any more.
  t.deepEqual(cluster.logs.sequencesOf(cleaner.log), [1, 4]);
  t.is(four.length, 4);
});

test("of a log that is trimmed who looks after it hears from other managers, where the cleaner did not tell it", async (t) => {
  const bench = await begin(1, [1, 2] as MemberId[]);
  const { world, cluster, cleaner } = bench;
  const found = await blocksOf(bench, await makeFile(bench, 2, 1));
  for (let copies = 0; copies < 3; copies++) await world.run(cleaner.copy(found));
  const decider = cluster.map.current.slots[cleaner.log % 64]?.manager;
  for (const member of [1, 2] as MemberId[])
    if (member !== decider) await world.run(cleaner.peers.call(member, "cleanerTrimmed", { log: cleaner.log, trimmedTo: 2 }));
  await world.run(() => cluster.logs.sequencesOf(cleaner.log).length === 1, LIMIT_MS);
  t.deepEqual(cluster.logs.sequencesOf(cleaner.log), [3]);
});

test("what is left of a log that its cleaner closed itself goes", async (t) => {
  const bench = await begin();
  const { world, cluster, cleaner } = bench;
  const found = await blocksOf(bench, await makeFile(bench, 2, 1));
  await world.run(cleaner.relocate(1, await world.run(cleaner.copy(found))));
  await world.run(cleaner.copy(found));
  await world.advance(5_000);
  await world.run(cleaner.map.change((map) => withLog(map, cleaner.log, { state: "closed", end: 2 })));
  await world.run(() => cluster.logs.sequencesOf(cleaner.log).length === 1, LIMIT_MS);
  t.deepEqual(cluster.logs.sequencesOf(cleaner.log), [1]);
});

test("the log of a cleaner that died is closed when nobody can move anything into it, and what nobody names of it goes", async (t) => {
  for (const isNamed of [true, false]) {
    const bench = await begin(1, [1, 2] as MemberId[]);
    const { world, cluster, mount, cleaner } = bench;
    const file = await makeFile(bench, 3, 2);
    const found = await blocksOf(bench, file);
    await world.run(cleaner.relocate(1, await world.run(cleaner.copy(found.slice(0, 1)))));
    await world.run(cleaner.copy(found));
    cleaner.kill();
    await world.run(() => findLog(cluster.map.current, cleaner.log)?.state === "closed", LIMIT_MS);
    await world.run(() => cluster.logs.sequencesOf(cleaner.log).length === 1, LIMIT_MS);
    t.is((await blocksOf(bench, file))[0]?.log, cleaner.log);
    if (isNamed) {
      await world.advance(100_000);
      t.truthy(findLog(cluster.map.current, cleaner.log));
      continue;
    }
    await world.run(mount.change([{ kind: "removeInode", ino: ino(file) }]));
    await world.run(mount.settle());
    await world.run(() => findLog(cluster.map.current, cleaner.log) === undefined, LIMIT_MS);
    const isKnown = cluster.managers.map(
      ({ parts }) =>
        () =>
          [...parts.host.progressOfLogs].some(({ log }) => log === cleaner.log),
    );
    await world.run(() => !isKnown.some((isKnownAt) => isKnownAt()), LIMIT_MS);
  }
});

test("a cleaner on a machine that does not answer is expelled after a while; one that is there is not", async (t) => {
  const bench = await begin();
  const { world, cluster, cleaner } = bench;
  const vanished = new TestCleaner(cluster, world.spawn("vanished"));
  // A machine that is not in the map is nobody's to vouch for.
  await world.run(vanished.begin(NO_MEMBER));
  await world.advance(20_000);
  t.is(findLog(cluster.map.current, vanished.log)?.state, "live");
  await world.run(() => findLog(cluster.map.current, vanished.log)?.state !== "live", LIMIT_MS);
  await world.advance(60_000);
  t.is(findLog(cluster.map.current, cleaner.log)?.state, "live");
});

test("live bytes are told in pages, ascending, of the slots here; what is still there, cut to what it is", async (t) => {
  const bench = await begin();
  const { world, mount, cleaner, cluster } = bench;
  const files = [await makeFile(bench, 2, 5), await makeFile(bench, 3, 5)];
  const [first = [], second = []] = await Promise.all(files.map((file) => blocksOf(bench, file)));
  const cutOff: Delta = { kind: "cutExtents", ino: ino(files[0] as number), from: 4 * 4096 + 100, to: Number.MAX_SAFE_INTEGER };
  await world.run(mount.change([cutOff, { kind: "cutExtents", ino: ino(files[1] as number), from: 0, to: 4096 }]));
  const told = new Map<number, number>();
  for (let after = 0, more = true; more; ) {
    const page = await world.run(cleaner.liveBytes(MEMBER, mount.log, after, 3));
    t.true(page.sequences.length <= 3);
    for (const [index, sequence] of page.sequences.entries()) {
      t.true(sequence > after);
      after = sequence;
      told.set(sequence, page.bytes[index] as number);
    }
    t.is(page.trimmedTo, mount.trimmedTo);
    t.is(page.version, cluster.map.version);
    t.deepEqual(
      page.slots,
      Array.from({ length: 64 }, (_, slot) => slot),
    );
    more = page.more;
  }
  const wanted = [...first, ...second.slice(1)].map(({ sequence }, index): [number, number] => [sequence, index === 4 ? 100 : 4096]);
  t.deepEqual([...told], wanted);
  const { ino: number, block, log, sequence } = first[4] as FoundBlock;
  const asked: Piece = { ino: number, block, offset: 0, length: 4096 };
  t.deepEqual(await world.run(cleaner.stillAt(MEMBER, log, sequence, [asked])), [{ ...asked, length: 100 }]);
  t.deepEqual(await world.run(cleaner.stillAt(MEMBER, log, sequence, [{ ...asked, offset: 4096 }])), []);
  const gone = second[0] as FoundBlock;
  t.deepEqual(await world.run(cleaner.stillAt(MEMBER, log, gone.sequence, [{ ...asked, ino: gone.ino, block: 0 }])), []);
});

/** Blocks of the model's files, where they are, in runs and one by one. */
async function someBlocks({ world, cluster }: Bench, model: FileModel): Promise<FoundBlock[]> {
  const found: FoundBlock[] = [];
  for (const file of model.files.keys()) {
    const manager = cluster.managers.find(({ parts }) => parts.host.has(file % 64));
    const extents =
      (await manager?.parts.host
        .shardOf(file)
        .imap.extents(file, 0, 2 ** 31)
        .catch(() => [])) ?? [];
    for (const extent of extents) if (world.random.below(4) === 0) found.push({ ...extent, ino: file });
  }
  return found;
}

/** A cleaner moves blocks, trims what is answered, and goes over to a new log where it was expelled, until `done` says so. */
async function clean(bench: Bench, model: FileModel, done: () => boolean): Promise<void> {
  const { world, cleaner } = bench;
  const { clock } = cleaner.instance.ports;
  while (!done()) {
    const blocks = (await someBlocks(bench, model)).slice(0, 20);
    try {
      const moves = await cleaner.copy(blocks);
      const sequence = cleaner.sealed;
      await sleep(clock, world.random.below(200));
      if (world.random.below(4) === 0) cleaner.relocate(sequence, moves).catch(() => {});
      for (const move of moves) await cleaner.patiently(() => cleaner.relocate(sequence, [move]));
      if (world.random.below(2) === 0) await cleaner.trim(sequence).catch(() => {});
      if (world.random.below(6) > 0) continue;
      // As one that is given up by others.
      const expelled = (map: ClusterMap) =>
        findLog(map, cleaner.log)?.state === "live" ? withLog(map, cleaner.log, { state: "expelled" }) : undefined;
      await cleaner.patiently(() => cleaner.map.change(expelled));
    } catch (error) {
      if (!isDazzleError(error, "expelled")) throw error;
      await cleaner.patiently(() => cleaner.begin());
    }
  }
}

test("while slots move, managers are killed and cleaners expelled, files hold the same bytes, and in the end nothing is left that nobody needs", async (t) => {
  let copied = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const bench = await begin(seed, [1, 2, 3] as MemberId[]);
    const { world, cluster, mount, cleaner } = bench;
    const numbers: number[] = [];
    for (const slot of SLOTS_USED) {
      const { reply } = await world.run(mount.call("numbers", { slot, count: 40 }));
      for (let index = 0; index < reply.count; index++) numbers.push(reply.first + 64 * index);
    }
    const model = new FileModel(world.random, numbers);
    let isDone = false;
    const cleaning = clean(bench, model, () => isDone);
    const settle = () =>
      world.run(
        mount.patiently(async () => {
          await mount.ship();
          await mount.settle();
        }),
        LIMIT_MS,
      );
    for (let round = 0; round < 5; round++) {
      for (let steps = 15; steps > 0; steps--) {
        await world.run(mount.write(model.transaction(mount.log, mount.lastShipped + 1)));
        if (world.random.below(3) > 0)
          await world.run(
            mount.patiently(() => mount.ship()),
            LIMIT_MS,
          );
        if (world.random.below(8) === 0) await settle();
        const to = (1 + world.random.below(3)) as MemberId;
        const slot = SLOTS_USED[world.random.below(SLOTS_USED.length)] as number;
        if (world.random.below(6) === 0 && cluster.isUp(to)) cluster.move([slot], to).catch(() => {});
      }
      const victim = (1 + world.random.below(3)) as MemberId;
      cluster.killNode(victim);
      if (victim === 1 || world.random.below(2) === 0) await world.advance(world.random.below(3_000));
      else await world.advance(12_000);
      await world.run(cluster.startNode(victim), LIMIT_MS);
      await settle();
    }
    // What is in its log and was not shipped is applied beside the cleaner.
    for (let steps = 1 + world.random.below(10); steps > 0; steps--)
      await world.run(mount.write(model.transaction(mount.log, mount.lastShipped + 1)));
    mount.kill();
    await world.run(() => mount.state === "closed", LIMIT_MS);
    model.dropOrphans();
    isDone = true;
    await world.run(cleaning, LIMIT_MS);
    cleaner.kill();
    await world.run(() => cluster.map.current.logs.every(({ kind, state }) => kind !== "cleaner" || state === "closed"), LIMIT_MS);
    const next = await world.run(cluster.mount("next"));
    next.keepAlive();
    const wrong = await world.run(
      next.patiently(() => model.differences(next, (where) => cleaner.originOf(where))),
      LIMIT_MS,
    );
    t.deepEqual(wrong, [], `seed ${seed}`);
    await world.run(cluster.checkInvariants());
    const needed = new Set<string>();
    for (const file of model.files.keys()) for (const { log, sequence } of await blocksOf(bench, file)) needed.add(`${log}/${sequence}`);
    const held = () =>
      cluster.map.current.logs.flatMap(({ id, kind }) =>
        kind === "manager" ? [] : cluster.logs.sequencesOf(id).map((sequence) => `${id}/${sequence}`),
      );
    t.deepEqual(
      [...needed].filter((segment) => !held().includes(segment)),
      [],
      `seed ${seed}: named and gone`,
    );
    await world.run(() => held().every((segment) => needed.has(segment)), LIMIT_MS);
    copied += cleaner.origins.size;
  }
  t.true(copied > 0);
});
