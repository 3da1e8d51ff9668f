import { assert, DazzleError, findGroup, findLog, joined, type MemberId, withGroup } from "@dazzle/core";
import { type LogWriter, unreadableWithout } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { Cluster, GROUP, SECOND_GROUP, SMALL } from "./support/cluster.ts";
import { freeze, heldUnder, moveAll, regroup } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

async function readsBack(t: ExecutionContext, cluster: Cluster, written: readonly Written[]): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes } of written) t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
}

/** Writes segments that fill one in either group, each once the one before is stable. */
async function writeMany(cluster: Cluster, writer: LogWriter, count: number): Promise<Written[]> {
  const written: Written[] = [];
  for (let index = 0; index < count; index++) {
    await cluster.run(writer.whenReady());
    const one = writeSegment(writer, 30 * KIB);
    written.push(one);
    await cluster.run(writer.flush(one.sealed.sequence));
  }
  return written;
}

function inGroup(written: readonly Written[], group: number): Written[] {
  return written.filter(({ sealed }) => sealed.group === group);
}

/** Two groups of three, their disks of so many bytes, and a writer that uses both. */
async function spreading(seed: number, diskBytes: readonly number[] = []) {
  const cluster = await Cluster.start({ seed, servers: 3, second: 3 });
  for (const [group, bytes] of diskBytes.entries())
    for (const server of cluster.servers.slice(3 * group, 3 * group + 3)) server.instance.drive.capacityBytes = bytes;
  // They look at their disks.
  await cluster.world.advance(2_000);
  for (const server of cluster.servers) server.store.stat();
  await cluster.world.advance(100);
  const client = cluster.client();
  const log = cluster.addLog([GROUP]);
  const writer = cluster.writer({ client, log, spreads: true });
  await cluster.world.advance(100);
  return { cluster, client, log, writer };
}

test("a segment is found in another group of its log than the address says, and in any where the log has left the map", async (t) => {
  const cluster = await Cluster.start({ seed: 201, servers: 3, second: 3 });
  const writer = cluster.writer({ group: SECOND_GROUP });
  const written = [writeSegment(writer, 20 * KIB), writeSegment(writer, 1_000)];
  await cluster.run(writer.flush(2));
  for (const isGone of [false, true]) {
    if (isGone) cluster.change((map) => ({ ...map, logs: [] }));
    for (const group of [GROUP, 7])
      for (const { address, bytes } of written) t.deepEqual(joined(await cluster.run(cluster.reader().read({ ...address, group }))), bytes);
    const { address, records } = written[0] as (typeof written)[0];
    const summary = await cluster.run(cluster.reader().summary(address.log, address.sequence, GROUP, 1));
    t.like(summary, { group: SECOND_GROUP, groupVersion: 1 });
    t.is(summary.records.length, records.length);
  }
});

test("what is deleted under a version of one group stays under the same version of another", async (t) => {
  const cluster = await Cluster.start({ seed: 202, servers: 3, second: 3 });
  const writer = cluster.writer({ group: SECOND_GROUP });
  writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(1));
  const { options } = cluster.client();
  const request = { log: writer.log, sequences: [1], trimmedTo: 1, groupVersion: 1 };
  const held = () => cluster.server(4).store.stat().fragments;
  await cluster.run(options.peers.call(4 as MemberId, "delete", { ...request, group: GROUP }));
  t.is(held(), 1);
  await cluster.run(options.peers.call(4 as MemberId, "delete", { ...request, group: SECOND_GROUP }));
  t.is(held(), 0);
});

test("a log that spreads writes to each group in proportion to its room, having registered it, and is read and recovered whole", async (t) => {
  const { cluster, client, log, writer } = await spreading(203, [60 * MIB, 20 * MIB]);
  const written = await writeMany(cluster, writer, 120);
  t.deepEqual(findLog(cluster.map, log)?.groups, [GROUP, SECOND_GROUP]);
  // Of 60 MiB data leaves 8 free, and of 20.
  const ratio = inGroup(written, GROUP).length / inGroup(written, SECOND_GROUP).length;
  t.true(ratio > 3 && ratio < 6, `${ratio}`);
  await readsBack(t, cluster, written);
  client.instance.kill();
  t.is((await cluster.run(cluster.recover(log))).end, 120);
  await readsBack(t, cluster, written);
});

test("a group whose servers are slow gets less", async (t) => {
  const { cluster, writer } = await spreading(211);
  for (const member of [4, 5, 6]) cluster.world.network.slow(cluster.server(member).name, 40);
  const written = await writeMany(cluster, writer, 60);
  t.true(inGroup(written, GROUP).length > 3 * inGroup(written, SECOND_GROUP).length);
  t.true(inGroup(written, SECOND_GROUP).length > 0);
});

test("who writes little stays in one group", async (t) => {
  const { cluster, log, writer } = await spreading(204);
  for (let index = 0; index < 20; index++) await cluster.run(writer.flush(writeSegment(writer, 200, { urgent: true }).sealed.sequence));
  t.deepEqual(findLog(cluster.map, log)?.groups, [GROUP]);
});

test("a log over two groups that is cut off anywhere keeps what was told stable", async (t) => {
  for (let seed = 0; seed < 6; seed++) {
    const { cluster, client, log, writer } = await spreading(2_050 + seed);
    const written: Written[] = [];
    let told = 0;
    writer.onStable(({ sequence }) => {
      told = sequence;
    });
    const untilMs = cluster.world.nowMs + 20 + cluster.world.random.below(150);
    while (cluster.world.nowMs < untilMs) {
      await cluster.world.advance(1);
      if (writer.ready) written.push(writeSegment(writer, 1 + cluster.world.random.below(28 * KIB)));
    }
    if (seed % 2 === 0) client.instance.kill();
    else {
      cluster.world.powerCut();
      for (const server of cluster.servers) await cluster.run(server.start());
    }
    t.true(new Set(written.map(({ sealed }) => sealed.group)).size === 2, `seed ${seed}`);
    const { end } = await cluster.run(cluster.recover(log));
    t.true(end >= told, `seed ${seed}: end ${end}, told ${told}`);
    await readsBack(
      t,
      cluster,
      written.filter(({ sealed }) => sealed.sequence <= end),
    );
  }
});

test("while too few servers of a group are left all is written to the other, what was under way too; the log is recovered once they are back", async (t) => {
  const { cluster, client, log, writer } = await spreading(206);
  const before = await writeMany(cluster, writer, 8);
  t.true(inGroup(before, SECOND_GROUP).length > 0);
  for (const member of [1, 2, 3]) cluster.server(member).kill();
  const during = await writeMany(cluster, writer, 8);
  t.is(inGroup(during, SECOND_GROUP).length, 8);
  await readsBack(t, cluster, inGroup(before, SECOND_GROUP));
  await readsBack(t, cluster, during);
  for (const member of [1, 2, 3]) await cluster.run(cluster.server(member).start());
  await cluster.world.advance(5_000);
  const after = await writeMany(cluster, writer, 8);
  t.true(inGroup(after, GROUP).length > 0, "it is used again");
  const all = [...before, ...during, ...after];
  await readsBack(t, cluster, all);
  client.instance.kill();
  t.is((await cluster.run(cluster.recover(log))).end, all.length);
  await readsBack(t, cluster, all);
});

test("a server that one group can do without is left out, and both go on", async (t) => {
  const { cluster, writer } = await spreading(207);
  cluster.server(2).kill();
  const written = await writeMany(cluster, writer, 12);
  t.is(cluster.currentVersion().servers.length, 2);
  t.true(inGroup(written, GROUP).length > 0 && inGroup(written, SECOND_GROUP).length > 0);
  await readsBack(t, cluster, written);
});

test("a log that does not spread goes elsewhere while its group can't be written, and stays there", async (t) => {
  const cluster = await Cluster.start({ seed: 208, servers: 3, second: 3 });
  const log = cluster.addLog([GROUP]);
  const writer = cluster.writer({ log });
  t.is(inGroup(await writeMany(cluster, writer, 6), GROUP).length, 6);
  for (const member of [1, 2, 3]) cluster.server(member).kill();
  t.is(inGroup(await writeMany(cluster, writer, 3), SECOND_GROUP).length, 3);
  for (const member of [1, 2, 3]) await cluster.run(cluster.server(member).start());
  await cluster.world.advance(5_000);
  t.is(inGroup(await writeMany(cluster, writer, 3), SECOND_GROUP).length, 3);
});

test("what is on disk at too few servers of a group that can't be written goes to the other, too, before it is told stable", async (t) => {
  const cluster = await Cluster.start({ seed: 301, servers: 3, second: 3 });
  const writer = cluster.writer();
  let stores = 0;
  cluster.server(3).intercept = (message, _request, _context, next) =>
    message === "store" && ++stores === 1 ? new Promise(() => {}) : next();
  const written = [1, 2].map(() => writeSegment(writer, 30 * KIB, { urgent: true }));
  await cluster.run(() => writer.counters.stores === 5);
  for (const member of [2, 3]) cluster.server(member).kill();
  await cluster.run(writer.flush(2));
  t.is(inGroup(written, SECOND_GROUP).length, 2);
  await readsBack(t, cluster, written);
});

test("what was still on its way to a group that was given up is not sent any more once its buffer may be used again", async (t) => {
  const cluster = await Cluster.start({ seed: 214, servers: 3, second: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  await writeMany(cluster, writer, 2);
  const servers = [1, 2, 3] as MemberId[];
  const before = servers.map((member) => client.options.peers.connected(member));
  cluster.world.network.partitionOneWay(
    [client.instance.name],
    servers.map((member) => cluster.server(member).name),
  );
  const written = await writeMany(cluster, writer, 1);
  t.is(inGroup(written, SECOND_GROUP).length, 1);
  t.deepEqual(
    before.map((peer) => peer?.closed),
    [true, true, true],
  );
});

test("what went to another group and came back to the first is not deleted there when it is trimmed", async (t) => {
  const cluster = await Cluster.start({ seed: 209, servers: 3, second: 3 });
  const writer = cluster.writer();
  // One server of the first group keeps what it has.
  for (const member of [1, 2]) cluster.server(member).kill();
  const one = writeSegment(writer, 30 * KIB);
  for (const member of [4, 5, 6]) cluster.server(member).frozen = true;
  await cluster.run(() => one.sealed.group === SECOND_GROUP);
  for (const member of [4, 5, 6]) cluster.server(member).kill();
  for (const member of [1, 2]) await cluster.run(cluster.server(member).start());
  await cluster.run(writer.flush(1));
  t.is(one.sealed.group as number, GROUP as number);
  writer.trimmedTo = 1;
  await cluster.world.advance(1_000);
  await readsBack(t, cluster, [one]);
});

/** A segment that lies in the second group, and of which one fragment is left in the first. */
async function givenUp(seed: number) {
  const cluster = await Cluster.start({ seed, servers: 3, second: 3 });
  for (const member of [1, 2])
    cluster.server(member).intercept = (message, _request, _context, next) => {
      if (message === "store") throw new DazzleError("noSpace", "it is full");
      return next();
    };
  const writer = cluster.writer();
  const one = writeSegment(writer, 30 * KIB);
  await cluster.run(writer.flush(1));
  assert(one.sealed.group === SECOND_GROUP && cluster.server(3).store.stat().fragments === 1, "it was given up in the first group");
  return { cluster, one };
}

test("what is left of a set that was given up does not pass for the segment where those who have it take their time", async (t) => {
  const { cluster, one } = await givenUp(212);
  for (const member of [4, 5, 6])
    cluster.server(member).intercept = async (message, _request, _context, next) => {
      if (message === "read") await new Promise<void>((resolve) => cluster.world.after(2 * SMALL.readHedgeMs, resolve));
      return next();
    };
  const address = { ...one.address, group: GROUP };
  t.deepEqual(joined(await cluster.run(cluster.reader().read(address))), one.bytes);
});

test("what is left of a set that was given up is not lost with a server of its group", async (t) => {
  const { cluster } = await givenUp(213);
  const { options } = cluster.client();
  for (const member of [1, 2, 3])
    t.is((await cluster.run(unreadableWithout({ ...options, group: GROUP, member: member as MemberId }))).size, 0);
});

test("what is left of a set that was given up keeps no version in the map for a dead server which was removed, and does for one that is wanted", async (t) => {
  const { cluster, one } = await givenUp(215);
  const members = [1, 3];
  const needed = { live: new Set([1]), trimmedTo: 1 };
  const held = async () => heldUnder(await moveAll(cluster, { members, needed, copyDead: true }), 1);
  cluster.server(2).kill();
  regroup(cluster, members);
  await freeze(cluster);
  t.is(await held(), 0);
  cluster.change((map) => withGroup(map, { ...findGroup(map, GROUP), wanted: [1, 2, 3] as MemberId[] }));
  t.is(await held(), 1);
  await readsBack(t, cluster, [one]);
});

test("what two dead servers that were removed may have is waited for, where one parity makes up for one", async (t) => {
  const { cluster } = await givenUp(216);
  for (const member of [1, 2]) cluster.server(member).kill();
  regroup(cluster, [3], 0);
  const { scans } = await moveAll(cluster, { members: [3], needed: { live: new Set([1]), trimmedTo: 1 }, copyDead: true });
  t.is(scans.get(3)?.held.get(1), 1);
});

test("what a full group does not take goes to the other; ENOSPC comes when none has room", async (t) => {
  const { cluster, writer } = await spreading(210, [9.5 * MIB, 11 * MIB]);
  const written: Written[] = [];
  let refused: DazzleError | undefined;
  while (refused === undefined) {
    try {
      written.push(...(await writeMany(cluster, writer, 1)));
    } catch (error) {
      refused = error as DazzleError;
    }
  }
  t.is(refused.errno, "ENOSPC", refused.message);
  // Eight of each disk stay free: data of 1.5 MiB and of 3, on two servers of three.
  const bytes = (group: number) => inGroup(written, group).length * 30 * KIB;
  t.true(bytes(GROUP) > 2 * MIB && bytes(SECOND_GROUP) > 4.5 * MIB, `${bytes(GROUP)} ${bytes(SECOND_GROUP)}`);
  await readsBack(t, cluster, written.slice(-20));
});
