import { fragmentLength, joined, RecordKind, SegmentClass, stripeFor } from "@dazzle/core";
import test from "ava";
import { Cluster, SMALL } from "./support/cluster.ts";
import { pattern, writeSegment } from "./support/segments.ts";

const KIB = 1024;

for (const servers of [1, 2, 3, 5]) {
  const shape = `${Math.max(1, servers - 1)}+${Math.min(1, servers - 1)}`;
  test(`${shape}: what was written is read back, whatever its length`, async (t) => {
    const cluster = await Cluster.start({ seed: servers, servers });
    const writer = cluster.writer();
    const capacity = writer.capacityBytes;
    t.is(capacity, Math.max(1, servers - 1) * SMALL.fragmentBytes);
    const { mirrorBytes, fragmentBytes } = SMALL;
    const around = [1, 100, 4095, 4096, 4097, mirrorBytes - 64, mirrorBytes, mirrorBytes + 1, fragmentBytes, fragmentBytes + 1];
    const lengths = [...around, 20 * KIB, 28 * KIB, capacity - 1, capacity, capacity + 5000].filter((length) => length <= capacity + 5000);
    const stable: number[] = [];
    writer.onStable(({ sequence }) => stable.push(sequence));
    const written = [];
    for (const length of lengths) {
      await cluster.run(writer.whenReady());
      written.push(writeSegment(writer, length));
    }
    await cluster.run(writer.flush(writer.openSequence));
    t.deepEqual(
      stable,
      written.map((_, index) => index + 1),
    );
    t.is(writer.unstableBytes, 0);
    for (const warm of [false, true]) {
      const reader = cluster.reader();
      for (const { address, bytes, records, sealed } of written) {
        if (warm) await cluster.run(reader.summary(address.log, address.sequence, address.group, address.groupVersion));
        t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
        const middle = { ...address, offset: address.offset + Math.floor(address.length / 3), length: Math.ceil(address.length / 3) };
        t.deepEqual(
          joined(await cluster.run(reader.read(middle))),
          bytes.subarray(middle.offset - address.offset, middle.offset - address.offset + middle.length),
        );
        const summary = await cluster.run(reader.summary(address.log, address.sequence, address.group, address.groupVersion));
        t.deepEqual(summary, { records: [...records], group: sealed.group, payloadBytes: sealed.payloadBytes, groupVersion: 1 });
      }
      t.is(reader.counters.reconstructed, 0);
    }
  });
}

test("a 4 KiB read is one round trip, at first and with known geometry", async (t) => {
  const cluster = await Cluster.start({ seed: 11, servers: 3 });
  const writer = cluster.writer();
  const { address, bytes } = writeSegment(writer, writer.capacityBytes);
  await cluster.run(writer.flush(1));
  const reader = cluster.reader();
  for (const block of [0, 1, 5]) {
    const before = reader.counters.roundTrips;
    const pieces = await cluster.run(reader.read({ ...address, offset: 4096 * block, length: 4096 }));
    t.deepEqual(joined(pieces), bytes.subarray(4096 * block, 4096 * (block + 1)));
    t.is(reader.counters.roundTrips, before + 1);
  }
});

test("small segments are mirrored, larger ones are not", async (t) => {
  const cluster = await Cluster.start({ seed: 12, servers: 3 });
  const writer = cluster.writer();
  writeSegment(writer, 100);
  writeSegment(writer, SMALL.mirrorBytes + 1);
  await cluster.run(writer.flush(2));
  t.is(writer.counters.mirrored, 1);
  const wide = stripeFor(SMALL.mirrorBytes + 64, 2, 1, SMALL.mirrorBytes);
  t.is(wide.dataFragments, 2);
  t.is(fragmentLength(wide, 2), wide.fragmentBytes);
  t.is(writer.counters.stores, 2 + 3);
});

test("a small urgent segment is one round trip to each of its servers", async (t) => {
  const cluster = await Cluster.start({ seed: 13, servers: 3 });
  const writer = cluster.writer();
  const { sealed } = writeSegment(writer, 500, { urgent: true });
  await cluster.run(sealed.stable);
  t.is(writer.counters.syncs, 0);
  t.is(writer.counters.stores, 2);
  t.is(writer.stableSequence, 1);
});

test("an urgent segment brings the earlier ones to disk with it, at every server", async (t) => {
  const cluster = await Cluster.start({ seed: 14, servers: 3 });
  const writer = cluster.writer();
  for (let segment = 0; segment < 3; segment++) writeSegment(writer, 20 * KIB);
  const startMs = cluster.world.nowMs;
  await cluster.run(writeSegment(writer, 10, { urgent: true }).sealed.stable);
  t.is(writer.stableSequence, 4);
  // Before it would have been synced with nobody waiting.
  t.true(cluster.world.nowMs - startMs < 20);
});

test("what nobody waits for becomes stable by itself", async (t) => {
  const cluster = await Cluster.start({ seed: 15, servers: 3 });
  const writer = cluster.writer();
  const { sealed } = writeSegment(writer, 20 * KIB);
  await cluster.run(sealed.stable, cluster.limits.flushIntervalMs);
  t.pass();
});

test("a summary that was never read is one round trip, and of a mirrored segment no more than two", async (t) => {
  for (const servers of [3, 5]) {
    const cluster = await Cluster.start({ seed: 12, servers });
    const writer = cluster.writer();
    const long = writeSegment(writer, writer.capacityBytes);
    const short = writeSegment(writer, 1 * KIB);
    await cluster.run(writer.flush(2));
    const reader = cluster.reader();
    for (const [{ address, records }, most] of [
      [long, 1],
      [short, 2],
    ] as const) {
      const before = reader.counters.roundTrips;
      const summary = await cluster.run(reader.summary(address.log, address.sequence, address.group, address.groupVersion));
      t.deepEqual(summary.records, [...records]);
      t.true(reader.counters.roundTrips - before <= most, `${servers} servers: ${reader.counters.roundTrips - before}`);
    }
  }
});

for (const length of [8, 100])
  test(`a segment of records of ${length} bytes has room for a transaction and its summary behind them`, async (t) => {
    const cluster = await Cluster.start({ seed: 16, servers: 3 });
    const writer = cluster.writer();
    const records = [];
    for (;;) {
      const placed = writer.place(length);
      if (placed === undefined) break;
      placed.bytes.fill(records.length);
      records.push({ kind: RecordKind.block, owner: 1, position: 0, term: 0, offset: placed.offset, length });
    }
    t.true(writer.openBytes <= writer.capacityBytes && writer.openBytes > writer.capacityBytes / 2);
    t.is(writer.place(4096), undefined);
    const transaction = writer.place(SMALL.transactionBytes - 8, true);
    t.truthy(transaction);
    if (transaction === undefined) return;
    const bytes = pattern(transaction.bytes.length, 3);
    bytes.copy(transaction.bytes);
    records.push({ kind: RecordKind.transaction, owner: 0, position: 0, term: 0, offset: transaction.offset, length: bytes.length });
    writer.seal(records, { class: SegmentClass.data, urgent: true });
    await cluster.run(writer.flush(1));
    const reader = cluster.reader();
    t.deepEqual((await cluster.run(reader.summary(writer.log, 1, 1, 1))).records, records);
    const address = { log: writer.log, sequence: 1, offset: transaction.offset, length: bytes.length, group: 1, groupVersion: 1 };
    t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
  });

test("placed bytes are read from memory until they are stable", async (t) => {
  const cluster = await Cluster.start({ seed: 17, servers: 3 });
  const writer = cluster.writer();
  const placed = writer.place(5000);
  if (placed === undefined) return t.fail();
  const bytes = pattern(5000, 1);
  bytes.copy(placed.bytes);
  t.deepEqual(writer.read(1, placed.offset, 5000), bytes);
  writer.seal([], { class: SegmentClass.data, urgent: false });
  t.deepEqual(writer.read(1, placed.offset, 5000), bytes);
  await cluster.run(writer.flush(1));
  t.is(writer.read(1, placed.offset, 5000), undefined);
});

test("a writer without a free buffer is ready again when segments become stable", async (t) => {
  const cluster = await Cluster.start({ seed: 18, servers: 3 });
  const writer = cluster.writer();
  let segments = 0;
  while (writer.ready) {
    writeSegment(writer, 20 * KIB);
    segments++;
  }
  t.true(segments * 20 * KIB > SMALL.dirtyBytes / 2);
  t.is(writer.place(1), undefined);
  await cluster.run(writer.whenReady());
  t.true(writer.ready);
  t.truthy(writer.place(1));
});
