import { BLOCK_BYTES, blockChecksums, type Request, SegmentClass } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { arrivedFragment } from "../src/index.ts";
import { type Bench, realBench, SimBench } from "./support/bench.ts";
import { how, type Sample, sample } from "./support/fragments.ts";

/** What every disk must give; run on a simulated one and on this machine's. */
function storeTest(name: string, check: (t: ExecutionContext, bench: Bench) => Promise<void>): void {
  test(`simulated disk: ${name}`, async (t) => check(t, await SimBench.open(name)));
  test(`real disk: ${name}`, async (t) => check(t, await realBench(t)));
}

function whole({ header, data }: Sample, changes: Partial<Request<"read">> = {}): Request<"read"> {
  const { log, sequence, group, groupVersion, index } = header;
  return { log, sequence, group, groupVersion, index, offset: 0, length: data.length, ...changes };
}

async function checkHeld(t: ExecutionContext, bench: Bench, held: Sample): Promise<void> {
  const { reply, tail } = await bench.run(bench.store.read(whole(held)));
  t.is(reply.length, held.data.length);
  t.deepEqual(tail[1], held.data);
  t.deepEqual(Buffer.from(tail[0] as Uint8Array), Buffer.from(blockChecksums(held.header.log, held.header.sequence, held.data).buffer));
}

storeTest("what was stored is read back, before the index has it and after, and after a restart", async (t, bench) => {
  const first = sample(bench.random, { log: 1, sequence: 1 });
  const large = sample(bench.random, { log: 1, sequence: 2, payloadBytes: 300_000 });
  const { boot } = bench.store;
  t.deepEqual(await bench.run(bench.store.store(first.arrived, how())), { boot, durable: 0, ticket: 1 });
  t.deepEqual(await bench.run(bench.store.store(large.arrived, how({ sync: true }))), { boot, durable: 2, ticket: 2 });
  await checkHeld(t, bench, first);
  await bench.run(bench.store.list(1, 0, 10));
  await checkHeld(t, bench, large);
  await bench.reopen();
  t.not(bench.store.boot, boot);
  await checkHeld(t, bench, first);
  await checkHeld(t, bench, large);
  t.is(bench.store.stat().fragments, 2);
});

storeTest("a fragment in any pieces is stored as one", async (t, bench) => {
  const held = sample(bench.random, { log: 1, sequence: 1, payloadBytes: 9_000 });
  const bytes = Buffer.concat(held.pieces);
  const cuts = [0, 1, 5, 60, 131, 140, 4_000, bytes.length];
  const pieces = cuts.slice(1).map((end, at) => bytes.subarray(cuts[at], end));
  await bench.run(bench.store.store(arrivedFragment(pieces), how({ sync: true })));
  await checkHeld(t, bench, held);
});

storeTest("a key that is held is never overwritten, and answers its ticket", async (t, bench) => {
  const held = sample(bench.random, { log: 1, sequence: 1 });
  const other = sample(bench.random, { log: 1, sequence: 1 });
  const [one, two] = await bench.run(Promise.all([held, other].map(({ arrived }) => bench.store.store(arrived, how()))));
  t.is(one?.ticket, 1);
  t.is(two?.ticket, 1);
  await bench.run(bench.store.syncAll());
  t.is((await bench.run(bench.store.store(other.arrived, how()))).ticket, 1);
  await bench.reopen();
  t.is((await bench.run(bench.store.store(other.arrived, how()))).ticket, 0);
  await checkHeld(t, bench, held);
  t.is(bench.store.stat().fragments, 1);
});

storeTest("reads are cut to whole blocks and to the fragment's end", async (t, bench) => {
  const held = sample(bench.random, { log: 1, sequence: 1, payloadBytes: 3 * BLOCK_BYTES + 100 });
  await bench.run(bench.store.store(held.arrived, how()));
  const sums = blockChecksums(1, 1, held.data);
  for (const [offset, length, from, to] of [
    [0, 1, 0, BLOCK_BYTES],
    [BLOCK_BYTES - 1, 2, 0, 2 * BLOCK_BYTES],
    [BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES, 2 * BLOCK_BYTES],
    [3 * BLOCK_BYTES + 50, 10, 3 * BLOCK_BYTES, held.data.length],
    [2 * BLOCK_BYTES + 1, 1e9, 2 * BLOCK_BYTES, held.data.length],
    [held.data.length, 10, 0, 0],
    [0, 0, 0, 0],
  ] as const) {
    const { reply, tail } = await bench.run(bench.store.read(whole(held, { offset, length })));
    t.is(reply.offset, from);
    t.is(reply.length, to - from);
    t.deepEqual(Buffer.from(tail[1] ?? Buffer.alloc(0)), held.data.subarray(from, to));
    const expected = Buffer.from(sums.buffer).subarray((from / BLOCK_BYTES) * 4, Math.ceil(to / BLOCK_BYTES) * 4);
    t.deepEqual(Buffer.from(tail[0] ?? Buffer.alloc(0)), expected);
  }
});

storeTest("a read by payload answers what this fragment has of it, and the geometry", async (t, bench) => {
  const stripe = { dataFragments: 2, parityFragments: 1, fragmentBytes: 8_192, payloadBytes: 15_000 };
  const second = sample(bench.random, { log: 1, sequence: 1, index: 1, ...stripe });
  const parity = sample(bench.random, { log: 1, sequence: 2, index: 2, ...stripe });
  for (const { arrived } of [second, parity]) await bench.run(bench.store.store(arrived, how()));
  const inside = await bench.run(bench.store.read(whole(second, { index: -1, groupVersion: -1, offset: 8_192 + 4_096, length: 10 })));
  t.like(inside.reply, { index: 1, offset: 4_096, length: 15_000 - 8_192 - 4_096, ...stripe, groupVersion: 1 });
  t.deepEqual(inside.tail[1], second.data.subarray(4_096));
  const across = await bench.run(bench.store.read(whole(second, { index: -1, offset: 8_000, length: 1_000 })));
  t.like(across.reply, { index: 1, offset: 0, length: 4_096 });
  const before = await bench.run(bench.store.read(whole(second, { index: -1, offset: 0, length: 100 })));
  t.like(before.reply, { index: 1, length: 0, ...stripe });
  const elsewhere = await bench.run(bench.store.read(whole(parity, { index: -1, offset: 0, length: 100 })));
  t.like(elsewhere.reply, { index: 2, length: 0, ...stripe });
  const mirrored = sample(bench.random, { log: 1, sequence: 3, index: 1 });
  await bench.run(bench.store.store(mirrored.arrived, how()));
  const copy = await bench.run(bench.store.read(whole(mirrored, { index: -1, groupVersion: -1 })));
  t.deepEqual(copy.tail[1], mirrored.data);
});

storeTest("of several versions of a segment the newest answers, or the one that is asked for", async (t, bench) => {
  const versions = [1, 2, 3].map((groupVersion) => sample(bench.random, { log: 1, sequence: 1, groupVersion }));
  for (const { arrived } of versions) await bench.run(bench.store.store(arrived, how()));
  const any = await bench.run(bench.store.read(whole(versions[0] as Sample, { groupVersion: -1 })));
  t.is(any.reply.groupVersion, 3);
  for (const held of versions) await checkHeld(t, bench, held);
});

storeTest("what is not here is missing", async (t, bench) => {
  const held = sample(bench.random, { log: 1, sequence: 1 });
  await bench.run(bench.store.store(held.arrived, how()));
  for (const changes of [{ log: 2 }, { sequence: 2 }, { group: 2 }, { groupVersion: 2 }, { index: 1 }, { group: 2, index: -1 }])
    await t.throwsAsync(bench.run(bench.store.read(whole(held, changes))), { code: "fragmentMissing" } as object);
});

storeTest("a listing has every fragment above a sequence, by pages, with the log's marks", async (t, bench) => {
  for (let sequence = 1; sequence <= 7; sequence++)
    for (const groupVersion of sequence === 3 ? [1, 2] : [1]) {
      const held = sample(bench.random, {
        log: 5,
        sequence,
        groupVersion,
        stableSequence: sequence - 1,
        trimmedTo: Math.floor(sequence / 3),
      });
      await bench.run(bench.store.store(held.arrived, how({ restore: true })));
    }
  for (const log of [2, 4, 6]) await bench.run(bench.store.store(sample(bench.random, { log, sequence: 1 }).arrived, how()));
  const page = await bench.run(bench.store.list(5, 1, 3));
  t.deepEqual(
    page.fragments.map(({ sequence, groupVersion }) => [sequence, groupVersion]),
    [
      [2, 1],
      [3, 1],
      [3, 2],
      [4, 1],
    ],
  );
  t.like(page, { more: true, stableSequence: 6, trimmedTo: 2, boot: bench.store.boot });
  t.like(page.fragments[0], {
    log: 5,
    group: 1,
    index: 0,
    dataFragments: 1,
    parityFragments: 1,
    payloadBytes: 5_000,
    dataBytes: 5_000,
    summaryOffset: 4_900,
  });
  const ages = page.fragments.map(({ bytesSince }) => bytesSince);
  t.deepEqual(
    ages,
    [...ages].sort((one, other) => other - one),
    "what was stored first is oldest",
  );
  t.true((ages[0] as number) > (ages[3] as number));
  const rest = await bench.run(bench.store.list(5, 4, 3));
  t.deepEqual([rest.fragments.length, rest.more], [3, false]);
  t.deepEqual(await bench.run(bench.store.listLogs()), [2, 4, 5, 6]);
  t.like(await bench.run(bench.store.list(7, 0, 10)), { fragments: [], more: false, stableSequence: 0, trimmedTo: 0 });
});

storeTest("deleting takes whole segments, or one version of them, and only what is trimmed", async (t, bench) => {
  const held = [1, 2, 3].flatMap((sequence) => [1, 2].map((groupVersion) => sample(bench.random, { log: 1, sequence, groupVersion })));
  for (const { arrived } of held) await bench.run(bench.store.store(arrived, how()));
  const remove = (sequences: number[], trimmedTo: number, groupVersion = -1, end: number | null = null) =>
    bench.run(bench.store.delete({ log: 1, sequences, trimmedTo, group: groupVersion < 0 ? -1 : 1, groupVersion }, end));
  await t.throwsAsync(remove([1, 2], 1), { code: "invalid" } as object);
  t.is((await bench.run(bench.store.list(1, 0, 10))).fragments.length, 6);
  await remove([1], 2, 1);
  t.is((await bench.run(bench.store.list(1, 0, 10))).fragments.length, 5);
  await remove([1, 1, 2], 2);
  await remove([2], 0);
  t.deepEqual(
    (await bench.run(bench.store.list(1, 0, 10))).fragments.map(({ sequence }) => sequence),
    [3, 3],
  );
  await t.throwsAsync(bench.run(bench.store.read(whole(held[0] as Sample))), { code: "fragmentMissing" } as object);
  await remove([3], 2, -1, 2);
  await bench.reopen();
  t.like(await bench.run(bench.store.list(1, 0, 10)), { fragments: [], trimmedTo: 2 });
  t.is(bench.store.stat().bytesUsed, 0);
});

storeTest("what was trimmed is not stored late; it is restored, unless it was deleted under every version", async (t, bench) => {
  const held = sample(bench.random, { log: 1, sequence: 1 });
  const remove = (under: { group: number; groupVersion: number }) =>
    bench.run(bench.store.delete({ log: 1, sequences: [1], trimmedTo: 1, ...under }, null));
  const restore = () => bench.run(bench.store.store(held.arrived, how({ restore: true, sync: true })));
  await bench.run(bench.store.store(held.arrived, how()));
  await remove({ group: 1, groupVersion: 1 });
  await t.throwsAsync(bench.run(bench.store.store(held.arrived, how())), { code: "invalid" } as object);
  await restore();
  await checkHeld(t, bench, held);
  await remove({ group: -1, groupVersion: -1 });
  await t.throwsAsync(restore(), { code: "invalid" } as object);
  t.deepEqual((await bench.run(bench.store.list(1, 0, 10))).fragments, []);
});

storeTest("what is not a fragment is refused", async (t, bench) => {
  const { pieces } = sample(bench.random, { log: 1, sequence: 1 });
  const bytes = Buffer.concat(pieces);
  for (const wrong of [
    Buffer.alloc(0),
    Buffer.alloc(300),
    bytes.subarray(0, 100),
    bytes.subarray(0, -1),
    Buffer.concat([bytes, Buffer.alloc(1)]),
  ])
    t.throws(() => arrivedFragment([wrong]), { code: "badMessage" } as object);
});

storeTest("a directory of another cluster is refused with one clear failure, as is one whose id is lost", async (t, bench) => {
  await bench.run(
    bench.store.store(sample(bench.random, { log: 1, sequence: 1 }).arrived, how({ sync: true, class: SegmentClass.system })),
  );
  const identity = JSON.parse(Buffer.from((await bench.run(bench.disk.readWhole("store"))) as Uint8Array).toString());
  t.is(identity.store, bench.store.storeId);
  await bench.run(bench.store.close());
  const refused = async (change: object, code: string) => {
    await bench.run(bench.disk.replace("store", Buffer.from(JSON.stringify({ ...identity, ...change }))));
    await t.throwsAsync(bench.reopen(), { code } as object);
  };
  await refused({ clusterId: "ffffffffffffffffffffffffffffffff" }, "wrongCluster");
  await refused({ format: 2 }, "wrongCluster");
  await bench.run(bench.disk.remove("store"));
  await t.throwsAsync(bench.reopen(), { code: "corrupt" } as object);
  await bench.run(bench.disk.replace("store", Buffer.from(JSON.stringify(identity))));
  await bench.reopen();
  t.is(bench.store.stat().fragments, 1);
});
