import { DazzleError, findGroup, joined, type MemberId, withGroup, withLog } from "@dazzle/core";
import { FragmentRebuilder, LogReader, moveSegments, outdatedVersions, scanGroup } from "@dazzle/log";
import test from "ava";
import { alone, grow } from "./support/alone.ts";
import { Cluster, GROUP } from "./support/cluster.ts";
import { declareLost, freeze, heldUnder, moveAll, reads, regroup, segments } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const LEAVER = 4 as MemberId;

const outdated = (cluster: Cluster) => outdatedVersions(cluster.map, findGroup(cluster.map, GROUP)).map(({ version }) => version as number);

test("what a server that leaves stores is whole on the others, though one of them fails in between", async (t) => {
  const cluster = await Cluster.start({ seed: 1, servers: 4 });
  const live = await segments(cluster, 9);
  const closed = await segments(cluster, 5);
  closed.writer.close();
  cluster.change((map) => withLog(map, closed.writer.log, { state: "closed", end: 5 }));
  regroup(cluster, [1, 2, 3]);
  t.deepEqual((await moveAll(cluster, { members: [1] })).scans.get(1)?.waits, ["version 1 is not frozen yet"]);
  await freeze(cluster);
  let taken = 0;
  cluster.server(2).intercept = (message, _request, _context, next) => {
    if (message === "restore" && ++taken === 4) cluster.server(2).crash();
    return next();
  };
  const needed = { live: null, trimmedTo: 9 };
  t.true((await moveAll(cluster, { members: [1, 3, 4], needed })).failed > 0);
  await reads(t, cluster, [...live.written, ...closed.written]);
  cluster.server(2).intercept = null;
  await cluster.run(cluster.server(2).start());
  await cluster.world.advance(2_000);
  const all = await moveAll(cluster, { members: [1, 2, 3, 4], needed });
  t.is(all.failed, 0);
  t.is(heldUnder(await moveAll(cluster, { members: [1, 2, 3, 4], needed }), 1), 0);
  cluster.server(LEAVER).crash();
  await reads(t, cluster, [...live.written, ...closed.written]);
  cluster.server(1).crash();
  await reads(t, cluster, [...live.written, ...closed.written]);
});

for (const [what, isKilled, members] of [
  ["is there", false, [1, 2, 3, 4]],
  ["is dead", true, [1, 2, 3]],
] as const)
  test(`each segment is moved once, and of all who hold something of it each moves as many, where the server that leaves ${what}`, async (t) => {
    const cluster = await Cluster.start({ seed: 2, servers: 4 });
    const client = cluster.client();
    const writer = cluster.writer({ client });
    const count = 48;
    for (let sequence = 1; sequence <= count; sequence++) {
      writeSegment(writer, 30 * KIB);
      await cluster.run(writer.flush(sequence));
    }
    if (isKilled) cluster.server(LEAVER).kill();
    regroup(cluster, [1, 2, 3]);
    await freeze(cluster);
    const needed = { live: null, trimmedTo: count };
    await cluster.run(client.options.map.refresh());
    const found: (readonly string[])[] = [];
    for (const member of members) {
      const { tasks } = await cluster.run(
        scanGroup({ ...client.options, self: member as MemberId, needed: async () => needed }, findGroup(cluster.map, GROUP), false),
      );
      found.push(tasks.map(({ log, sequence }) => `${log} ${sequence}`));
    }
    const all = Array.from({ length: count }, (_, index) => `${writer.log} ${index + 1}`);
    t.deepEqual(found.flat().sort(), all.sort());
    for (const own of found) t.is(own.length, count / members.length, JSON.stringify(found));
  });

test("what a live log may still store is written again, and its old set deleted only once it is trimmed", async (t) => {
  const cluster = await Cluster.start({ seed: 3, servers: 4 });
  const { written } = await segments(cluster, 4);
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  const members = [1, 2, 3, 4];
  const before = await moveAll(cluster, { members, needed: { live: null, trimmedTo: 3 } });
  t.is(before.moved.length, 4);
  const kept = await moveAll(cluster, { members, needed: { live: null, trimmedTo: 3 } });
  t.true(heldUnder(kept, 1) > 0);
  t.true([...kept.scans.values()].some(({ waits }) => /trimmed to 3, not yet/.test(waits.join())));
  await moveAll(cluster, { members, needed: { live: null, trimmedTo: 4 } });
  t.is(heldUnder(await moveAll(cluster, { members, needed: { live: null, trimmedTo: 4 } }), 1), 0);
  cluster.server(LEAVER).crash();
  cluster.server(2).crash();
  await reads(t, cluster, written);
});

test("a set is not deleted for an older one that stays, which may have been given up for it", async (t) => {
  const cluster = await Cluster.start({ seed: 78, servers: 3 });
  const { writer, written } = await segments(cluster, 6);
  regroup(cluster, [1, 2]);
  await freeze(cluster);
  await moveAll(cluster, { members: [1, 2, 3] });
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  t.deepEqual(outdated(cluster), [2]);
  const client = cluster.client();
  await cluster.run(client.options.map.refresh());
  const group = findGroup(cluster.map, GROUP);
  const reader = cluster.reader(client);
  const sequences = [1, 2, 3, 4, 5, 6];
  for (const self of [1, 2, 3] as MemberId[]) {
    // Whoever wrote them anew has them trimmed, after the servers were listed: what it gave up is deleted.
    const needed = async () => {
      const request = { log: writer.log, sequences, trimmedTo: 6, group: GROUP, groupVersion: 1 };
      for (const member of [1, 2, 3] as MemberId[]) await client.options.peers.call(member, "delete", request, { deadlineMs: 10_000 });
      return { live: null, trimmedTo: 6 };
    };
    const move = { ...client.options, self, needed, reader, onMoved: () => {}, isOver: () => false, rest: async () => {} };
    const { tasks } = await cluster.run(scanGroup(move, group, false));
    t.is((await cluster.run(moveSegments(move, group, tasks))).failed, 0);
  }
  await reads(t, cluster, written);
  cluster.server(2).crash();
  await reads(t, cluster, written);
});

test("a version of which one server is gone is not frozen without the others, lest a log end below what they hold", async (t) => {
  const cluster = await Cluster.start({ seed: 76, servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  // On the second and the third server.
  const written = [writeSegment(writer, 200, { urgent: true })];
  await cluster.run(writer.flush(1));
  client.instance.kill();
  cluster.server(2).kill();
  cluster.server(3).crash();
  regroup(cluster, [1, 3]);
  declareLost(cluster, 2);
  await t.throwsAsync(freeze(cluster), { code: "unreachable" });
  await cluster.run(cluster.server(3).start());
  await freeze(cluster);
  t.is((await cluster.run(cluster.recover(writer.log))).end, 1);
  await reads(t, cluster, written);
});

test("what was held alone is written again once its group has parity, and survives its loss; the log can be ended without it", async (t) => {
  const cluster = await alone(71);
  const writer = cluster.writer();
  const written = [writeSegment(writer, 20 * KIB), writeSegment(writer, 1_000), writeSegment(writer, 24 * KIB)];
  await cluster.run(writer.flush(3));
  grow(cluster);
  await freeze(cluster);
  t.is((await moveAll(cluster, { members: [1] })).moved.length, 3);
  cluster.server(1).kill();
  await reads(t, cluster, written);
  t.is((await cluster.run(cluster.recover(writer.log))).end, 3);
  await reads(t, cluster, written);
});

test("a look ends early where the servers have no room, and not where segments fail for another reason", async (t) => {
  const cluster = await alone(77);
  const writer = cluster.writer();
  const all = 120;
  for (let sequence = 1; sequence <= all; sequence++) {
    writeSegment(writer, 200);
    await cluster.run(writer.flush(sequence));
  }
  grow(cluster);
  await freeze(cluster);
  for (const code of ["noSpace", "diskFailed"] as const) {
    for (const server of cluster.servers)
      server.intercept = (message, _request, _context, next) => {
        if (message === "restore") throw new DazzleError(code, "it takes nothing");
        return next();
      };
    const { failed } = await moveAll(cluster, { members: [1] });
    if (code === "noSpace") t.true(failed > 0 && failed < all, `${failed}`);
    else t.is(failed, all);
  }
  for (const server of cluster.servers) server.intercept = null;
  t.is((await moveAll(cluster, { members: [1] })).moved.length, all);
});

test("what was moved once is so once more as the group gets a second parity, before any set of it is deleted", async (t) => {
  const cluster = await alone(74);
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const written = [writeSegment(writer, 20 * KIB), writeSegment(writer, 1_000), writeSegment(writer, 24 * KIB)];
  await cluster.run(writer.flush(3));
  grow(cluster, 2, 1);
  await freeze(cluster);
  await moveAll(cluster, { members: [1, 2, 3] });
  grow(cluster, 3, 2);
  await cluster.run(client.options.map.refresh());
  writer.trimmedTo = 3;
  written.push(writeSegment(writer, 24 * KIB));
  await cluster.run(writer.flush(4));
  await freeze(cluster);
  t.is((await moveAll(cluster, { members: [1, 2, 3] })).failed, 0);
  for (const [one, other] of [
    [1, 2],
    [2, 3],
    [1, 3],
  ] as const) {
    for (const member of [one, other]) cluster.server(member).kill();
    await reads(t, cluster, written);
    for (const member of [one, other]) await cluster.run(cluster.server(member).start());
    await cluster.world.advance(2_000);
  }
});

test("what was moved to a server that is given up before the old set is deleted is read from that, whether the mover knows yet or not", async (t) => {
  for (const isTold of [true, false]) {
    const cluster = await Cluster.start({ seed: 82, servers: 3, parity: 0 });
    regroup(cluster, [1, 2], 0);
    const { written } = await segments(cluster, 14);
    regroup(cluster, [1, 3], 0);
    await freeze(cluster);
    const { options } = cluster.client();
    options.map.learn(cluster.map);
    const group = findGroup(cluster.map, GROUP);
    const move = { ...options, self: 1 as MemberId, needed: async () => ({ live: null, trimmedTo: 14 }), reader: new LogReader(options) };
    const { tasks } = await cluster.run(scanGroup(move, group, false));
    let restores = 0;
    cluster.server(3).intercept = (message, _request, _context, next) =>
      message === "restore" && ++restores > 3 ? new Promise(() => {}) : next();
    const { version } = options.map;
    const moving = moveSegments(
      { ...move, onMoved: () => {}, isOver: () => options.map.version > version, rest: async () => {} },
      group,
      tasks,
    );
    await cluster.run(() => restores > 3);
    cluster.server(3).frozen = true;
    declareLost(cluster, 3);
    regroup(cluster, [1, 2], 0);
    if (isTold) options.map.learn(cluster.map);
    t.true((await cluster.run(moving)).failed > 0);
    await reads(t, cluster, written);
  }
});

test("what a dead server held is rebuilt from the others, what has no redundancy left before all else", async (t) => {
  const cluster = await Cluster.start({ seed: 4, servers: 5 });
  const first = await segments(cluster, 6);
  regroup(cluster, [1, 2, 3, 5]);
  const second = await segments(cluster, 6);
  cluster.server(5).kill();
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  const needed = { live: null, trimmedTo: 6 };
  const { moved, failed, scans } = await moveAll(cluster, { members: [1], needed });
  t.is(failed, 0);
  t.true(moved.length > 0 && scans.get(1)?.lost === 0);
  const all = await moveAll(cluster, { members: [1, 2, 3, 4], needed });
  t.is(all.failed, 0);
  t.is(heldUnder(await moveAll(cluster, { members: [1, 2, 3, 4], needed }), 1), 0);
  t.is(heldUnder(await moveAll(cluster, { members: [1, 2, 3, 4], needed }), 2), 0);
  cluster.server(1).crash();
  await reads(t, cluster, [...first.written, ...second.written]);
});

test("who was declared lost and hangs is not waited for while what it held is rebuilt", async (t) => {
  const cluster = await Cluster.start({ seed: 79, servers: 4 });
  const { written } = await segments(cluster, 6);
  regroup(cluster, [1, 2, 3]);
  declareLost(cluster, LEAVER);
  await freeze(cluster);
  const asked: string[] = [];
  cluster.server(LEAVER).intercept = (message) => {
    asked.push(message);
    return new Promise(() => {});
  };
  const needed = { live: null, trimmedTo: 6 };
  const beganMs = cluster.world.nowMs;
  t.is((await moveAll(cluster, { members: [1, 2, 3], needed })).failed, 0);
  t.is(heldUnder(await moveAll(cluster, { members: [1, 2, 3], needed }), 1), 0);
  t.deepEqual(asked, []);
  t.true(cluster.world.nowMs - beganMs < 1_000);
  await reads(t, cluster, written);
});

test("what is moved between the moments when it is found and when it is read is looked for again", async (t) => {
  const cluster = await Cluster.start({ seed: 80, servers: 4 });
  const { written } = await segments(cluster, 4);
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  const mover = cluster.client();
  const client = cluster.client();
  for (const { options } of [mover, client]) await cluster.run(options.map.refresh());
  const group = findGroup(cluster.map, GROUP);
  const needed = async () => ({ live: null, trimmedTo: 4 });
  const reader = new LogReader({ ...mover.options, message: "readToMove" });
  const move = { ...mover.options, needed, reader, onMoved: () => {}, isOver: () => false, rest: async () => {} };
  const moveShares = async () => {
    for (const self of [1, 2, 3, 4] as MemberId[])
      await moveSegments({ ...move, self }, group, (await scanGroup({ ...move, self }, group, false)).tasks);
  };
  let moving: Promise<void> | null = null;
  let isFound = false;
  for (const server of cluster.servers)
    server.intercept = async (message, request, _context, next) => {
      if (message !== "read") return next();
      if ((request as { groupVersion: number }).groupVersion < 0) isFound = true;
      else if (isFound) {
        moving ??= moveShares();
        await moving;
      }
      return next();
    };
  const [first] = written as [Written];
  const read = cluster.reader(client).read({ ...first.address, groupVersion: 2 });
  t.true(joined(await cluster.run(read)).equals(first.bytes));
  t.not(moving, null);
});

test("where a newer version was begun and came short, the older one is read and moved", async (t) => {
  const cluster = await Cluster.start({ seed: 81, servers: 4 });
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  const { written } = await segments(cluster, 6);
  regroup(cluster, [1, 2, 3, 4]);
  await freeze(cluster);
  const needed = { live: null, trimmedTo: 6 };
  cluster.server(4).crash();
  await moveAll(cluster, { members: [1, 2, 3], needed });
  // Of 2+1 two fragments are left, of 3+1 two as well.
  cluster.server(3).kill();
  declareLost(cluster, 3);
  await cluster.run(cluster.server(4).start());
  await reads(t, cluster, written);
  const { store } = cluster.server(1);
  const rebuilder = new FragmentRebuilder(cluster.client().options);
  const { fragments } = await cluster.run(store.list(written[0]?.address.log as number, 0, 100));
  const begun = fragments.filter(({ groupVersion }) => groupVersion === 3);
  t.true(begun.length > 0);
  for (const { log, sequence, group, groupVersion, index, dataBytes } of begun) {
    const key = { log, sequence, group, groupVersion, index };
    const { reply, tail } = await cluster.run(store.read({ ...key, offset: 0, length: dataBytes }));
    t.deepEqual(await cluster.run(rebuilder.rebuild({ ...reply, ...key }, 0, dataBytes)), Buffer.from(tail[1] as Uint8Array));
  }
  regroup(cluster, [1, 2, 4]);
  await freeze(cluster);
  t.is((await moveAll(cluster, { members: [1, 2, 4], needed })).failed, 0);
  cluster.server(1).crash();
  await reads(t, cluster, written);
});

test("of segments with and without redundancy those without come first", async (t) => {
  const cluster = await Cluster.start({ seed: 5, servers: 4 });
  // Mirrored ones have two copies, of which the dead server holds one of two of four.
  const { writer } = await segments(cluster, 12);
  cluster.server(LEAVER).kill();
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  const client = cluster.client();
  await cluster.run(client.options.map.refresh());
  const { options } = client;
  const scan = await cluster.run(
    scanGroup(
      { ...options, self: 1 as MemberId, needed: async () => ({ live: null, trimmedTo: 12 }) },
      findGroup(cluster.map, GROUP),
      false,
    ),
  );
  const exposed = scan.tasks.map(({ isExposed }) => isExposed);
  t.true(exposed.includes(true), `${writer.log}`);
  t.deepEqual(
    exposed,
    [...exposed].sort((one, other) => Number(other) - Number(one)),
  );
});

test("a version with the servers of the current one is left alone, a narrower one and one of a server that was removed is not", async (t) => {
  const cluster = await Cluster.start({ seed: 6, servers: 4 });
  const wantsAll = () => cluster.change((map) => withGroup(map, { ...findGroup(map, GROUP), wanted: [1, 2, 3, 4] as MemberId[] }));
  regroup(cluster, [1, 2, 3]);
  wantsAll();
  t.deepEqual(outdated(cluster), [], "a server that is out for a while");
  regroup(cluster, [1, 2, 3, 4]);
  t.deepEqual(outdated(cluster), [2]);
  regroup(cluster, [1, 2, 3, 4], 2);
  t.deepEqual(outdated(cluster), [1, 2, 3], "less parity");
  regroup(cluster, [1, 2, 3]);
  t.deepEqual(outdated(cluster), [1, 3, 4], "the fourth is not wanted any more");
  declareLost(cluster, 3);
  t.deepEqual(outdated(cluster), [1, 2, 3, 4]);
});

test("what nobody needs is not moved, unless its deletion is held up", async (t) => {
  const cluster = await Cluster.start({ seed: 7, servers: 4 });
  const { writer } = await segments(cluster, 6);
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  const needed = { live: new Set([2, 5]), trimmedTo: 6 };
  const { moved, scans } = await moveAll(cluster, { members: [1, 2, 3, 4], needed });
  t.deepEqual([...moved].sort(), [`${writer.log} 2`, `${writer.log} 5`]);
  t.is(
    [...scans.values()].reduce((sum, { dead }) => sum + dead, 0),
    4,
  );
  t.is((await moveAll(cluster, { members: [1, 2, 3, 4], needed, copyDead: true })).moved.length, 4);
});

test("what was deleted everywhere while a server was away is not lost when it comes back with its fragments", async (t) => {
  const cluster = await Cluster.start({ seed: 83, servers: 4 });
  const { client, writer } = await segments(cluster, 4);
  cluster.server(3).kill();
  const request = { log: writer.log, sequences: [1, 2, 3], trimmedTo: 3, group: -1, groupVersion: -1 };
  for (const member of [1, 2, LEAVER] as MemberId[])
    await cluster.run(client.options.peers.call(member, "delete", request, { deadlineMs: 5_000 }));
  await cluster.run(cluster.server(3).start());
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  const lost = async (live: readonly number[]) =>
    (await moveAll(cluster, { members: [3], needed: { live: new Set(live), trimmedTo: 3 } })).scans.get(3)?.lost;
  t.is(await lost([]), 0);
  t.is(await lost([2]), 1);
});

test("a wanted server that is away may have the rest: nothing is written twice, and what is lost with two servers does not hold up the rest", async (t) => {
  const cluster = await Cluster.start({ seed: 8, servers: 4 });
  const { written } = await segments(cluster, 8);
  const needed = { live: null, trimmedTo: 8 };
  cluster.server(LEAVER).kill();
  cluster.server(3).kill();
  declareLost(cluster, LEAVER);
  declareLost(cluster, 3);
  regroup(cluster, [1, 2]);
  await freeze(cluster);
  const all = await moveAll(cluster, { members: [1, 2], needed });
  t.is(all.failed, 0);
  const after = await moveAll(cluster, { members: [1, 2], needed });
  t.is(heldUnder(after, 1), 0, "what is lost keeps no version in the map");
  t.true([...after.scans.values()].some(({ lost }) => lost > 0));
  const reader = cluster.reader();
  let whole = 0;
  for (const { address, bytes } of written)
    await cluster.run(reader.read(address)).then(
      (pieces) => t.true(++whole > 0 && joined(pieces).equals(bytes)),
      (error) => t.regex(error.code, /segmentLost|fragmentMissing/),
    );
  t.true(whole > 0);
});

test("the log of a writer that died with servers that are declared lost ends before what is gone", async (t) => {
  const cluster = await Cluster.start({ seed: 11, servers: 4 });
  const { writer } = await segments(cluster, 6);
  writer.close();
  for (const member of [3, 4]) {
    cluster.server(member).kill();
    declareLost(cluster, member);
  }
  regroup(cluster, [1, 2]);
  const { end } = await cluster.run(cluster.recover(writer.log));
  t.true(end < 6);
  t.is(cluster.map.logs.find(({ id }) => id === writer.log)?.state, "ended");
});
