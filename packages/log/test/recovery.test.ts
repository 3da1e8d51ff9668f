import {
  type DazzleError,
  deferred,
  FRAGMENT_HEADER,
  findLog,
  isDazzleError,
  joined,
  type LogId,
  type MemberId,
  readSafe,
  sleep,
} from "@dazzle/core";
import { listLog } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { freezeReplaced, leaveOut } from "../src/regroup.ts";
import { type Client, Cluster, GROUP, type Intercept } from "./support/cluster.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;

/** Lets only these fragments ("sequence/index") be stored; the writer hears nothing of the others. */
function storing(allowed: ReadonlySet<string>): Intercept {
  return (message, _request, context, next) => {
    if (message !== "store") return next();
    const header = joined(context.tail);
    const name = `${readSafe(header, FRAGMENT_HEADER.sequence)}/${header.readUInt8(FRAGMENT_HEADER.index)}`;
    return allowed.has(name) ? next() : new Promise(() => {});
  };
}

async function readsUpTo(t: ExecutionContext, cluster: Cluster, written: readonly Written[], end: number): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes, sealed } of written) {
    if (sealed.sequence > end) continue;
    const found = joined(await cluster.run(reader.read(address)));
    t.true(found.equals(bytes), `segment ${sealed.sequence}`);
  }
}

// Two segments, one striped over three servers and one mirrored over two: every set of their fragments that a crash may leave.
const FRAGMENTS = ["1/0", "1/1", "1/2", "2/0", "2/1"];
for (let silent = 0; silent <= 3; silent++)
  test(`every crash of a writer, ${silent === 0 ? "all servers" : `server ${silent} silent`}: two recoveries agree, and all up to the end survives a loss`, async (t) => {
    for (let mask = 0; mask < 2 ** FRAGMENTS.length; mask++) {
      const allowed = new Set(FRAGMENTS.filter((_, index) => (mask & (1 << index)) !== 0));
      const cluster = await Cluster.start({ seed: `crash ${silent} ${mask}`, servers: 3 });
      for (const server of cluster.servers) server.intercept = storing(allowed);
      const client = cluster.client();
      const writer = cluster.writer({ client });
      const written = [writeSegment(writer, 20 * KIB, { urgent: true }), writeSegment(writer, 100, { urgent: true })];
      await cluster.world.advance(50);
      const told = writer.stableSequence;
      client.instance.kill();
      for (const server of cluster.servers) server.intercept = null;
      if (silent > 0) cluster.server(silent).kill();
      const [one, other] = await cluster.run(Promise.all([cluster.recover(writer.log), cluster.recover(writer.log)]));
      t.is(one.end, other.end);
      t.true(one.end >= told, `fragments ${[...allowed]}: end ${one.end}, told ${told}`);
      t.like(findLog(cluster.map, writer.log), { state: "ended", end: one.end });
      if (told === 2) t.is(one.end, 2);
      // Any one more server may go: the segments lie whole on those that are left.
      const left = cluster.currentVersion().servers.map(({ member }) => member as number);
      cluster.server(left[mask % left.length] as number).crash();
      await readsUpTo(t, cluster, written, one.end);
    }
  });

const TWO_PARITIES = ["1/0", "1/1", "1/2", "1/3", "2/0", "2/1", "2/2"];
test("two parities, every crash of a writer, any two servers silent: what was told stable is read, and survives the loss of two more", async (t) => {
  for (let mask = 0; mask < 2 ** TWO_PARITIES.length; mask++) {
    const allowed = new Set(TWO_PARITIES.filter((_, index) => (mask & (1 << index)) !== 0));
    const cluster = await Cluster.start({ seed: `two parities ${mask}`, servers: 4, parity: 2 });
    for (const server of cluster.servers) server.intercept = storing(allowed);
    const client = cluster.client();
    const writer = cluster.writer({ client });
    const written = [writeSegment(writer, 20 * KIB, { urgent: true }), writeSegment(writer, 100, { urgent: true })];
    await cluster.world.advance(50);
    const told = writer.stableSequence;
    client.instance.kill();
    for (const server of cluster.servers) server.intercept = null;
    const silent = [cluster.server(1 + (mask % 4)), cluster.server(1 + ((mask + 1 + (mask % 3)) % 4))];
    for (const server of silent) server.kill();
    const recovery = cluster.recover(writer.log);
    await cluster.world.advance(3_000);
    // Two servers can't keep two parities: what is to be made whole waits for one that comes back.
    for (const server of silent) await cluster.run(server.start());
    const { end } = await cluster.run(recovery);
    t.true(end >= told, `fragments ${[...allowed]}: end ${end}, told ${told}`);
    for (const server of [cluster.server(1 + (mask % 4)), cluster.server(1 + ((mask + 2) % 4))]) server.crash();
    await readsUpTo(t, cluster, written, end);
  }
});

/** Of segment 1, servers 2 and 3 hold a fragment and server 1 holds none. A recovery that does not hear server 3 (`short`) proves it beyond the
 * end; one that does not hear server 1 (`long`) finds it recoverable. `meanwhile` is asked about each restore. */
async function twoViews(seed: number, meanwhile: (next: () => Promise<never>) => unknown) {
  const cluster = await Cluster.start({ seed, servers: 3 });
  for (const server of cluster.servers) server.intercept = storing(new Set(["1/0", "1/1"]));
  const writing = cluster.client();
  const writer = cluster.writer({ client: writing });
  writeSegment(writer, 20 * KIB, { urgent: true });
  await cluster.world.advance(50);
  writing.instance.kill();
  cluster.expel(writer.log);
  const long = cluster.client("long");
  const short = cluster.client("short");
  for (const server of cluster.servers)
    server.intercept = (message, _request, context, next) => {
      const asker = context.peer?.remote ?? "";
      const deaf = (server.member === 1 && asker.includes("long")) || (server.member === 3 && asker.includes("short"));
      if (deaf && (message === "adopt" || message === "list")) return new Promise(() => {});
      return message === "restore" ? meanwhile(next) : next();
    };
  return { cluster, log: writer.log, long, short };
}

test("an end that another recovery decided stands, though more was made stable meanwhile", async (t) => {
  const release = deferred();
  let restored = 0;
  const { cluster, log, long, short } = await twoViews(60, async (next) => {
    const answer = await next();
    restored++;
    await release.promise;
    return answer;
  });
  const swap = deferred();
  let swapping = false;
  cluster.shared.beforeSwap = async () => {
    cluster.shared.beforeSwap = null;
    swapping = true;
    await swap.promise;
  };
  const shorter = cluster.recover(log, short);
  await cluster.run(() => swapping);
  const longer = cluster.recover(log, long);
  await cluster.run(() => restored === 3);
  swap.resolve();
  t.is((await cluster.run(shorter)).end, 0);
  release.resolve();
  t.is((await cluster.run(longer)).end, 0);
  t.is(findLog(cluster.map, log)?.end, 0);
});

test("a recovery whose restores are refused, because another one decided an earlier end, answers that end", async (t) => {
  const release = deferred();
  const { cluster, log, long, short } = await twoViews(70, async (next) => {
    await release.promise;
    return next();
  });
  const longer = cluster.recover(log, long);
  await cluster.world.advance(1_000);
  t.is((await cluster.run(cluster.recover(log, short))).end, 0);
  for (const server of cluster.servers) await cluster.run(server.map.refresh());
  release.resolve();
  t.is((await cluster.run(longer)).end, 0);
});

async function written(cluster: Cluster, client: Client, lengths: readonly number[]): Promise<{ log: LogId; written: Written[] }> {
  const writer = cluster.writer({ client });
  const segments = lengths.map((length) => writeSegment(writer, length));
  await cluster.run(writer.flush(lengths.length));
  return { log: writer.log as LogId, written: segments };
}

test("recovery of a log that is whole ends it at its last segment, again and again", async (t) => {
  const cluster = await Cluster.start({ seed: 61, servers: 3 });
  const client = cluster.client();
  const { log } = await written(cluster, client, [20 * KIB, 100, 20 * KIB]);
  client.instance.kill();
  t.like(await cluster.run(cluster.recover(log)), { end: 3, trimmedTo: 0 });
  const { version } = cluster.map;
  t.like(await cluster.run(cluster.recover(log)), { end: 3, trimmedTo: 0 });
  t.is(cluster.map.version, version);
});

test("a fragment whose record's header rots before it is indexed is no proof that its segment was never stable", async (t) => {
  const cluster = await Cluster.start({ seed: "rotten record", servers: 3 });
  const client = cluster.client();
  // Mirrored, by the second server and the third.
  const { log, written: segments } = await written(cluster, client, [100]);
  // A later record tells that the first was on disk.
  await written(cluster, cluster.client(), [100]);
  client.instance.kill();
  cluster.server(3).kill();
  const rotten = cluster.server(2);
  rotten.kill();
  rotten.instance.drive.flip("volumes/00000001", 0);
  await cluster.run(rotten.start());
  const { end } = await cluster.run(cluster.recover(log));
  t.is(end, 1);
  await readsUpTo(t, cluster, segments, 1);
});

test("of a long tail that was stable nothing is written again because a server is silent, and it is read without it", async (t) => {
  const SEGMENTS = 40;
  const cluster = await Cluster.start({ seed: "long tail", servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const written: Written[] = [];
  for (let count = 1; count <= SEGMENTS; count++) {
    written.push(writeSegment(writer, count % 2 === 0 ? 20 * KIB : 100, { urgent: true }));
    await cluster.run(writer.flush(count));
  }
  client.instance.kill();
  cluster.server(2).kill();
  let restores = 0;
  for (const server of cluster.servers)
    server.intercept = (message, _request, _context, next) => {
      if (message === "restore") restores++;
      return next();
    };
  const { end, trimmedTo, places } = await cluster.run(cluster.recover(writer.log));
  t.deepEqual([end, trimmedTo, places.size], [SEGMENTS, 0, SEGMENTS]);
  // The last was stable as well, and no header could tell.
  t.true(restores > 0 && restores <= 3, `${restores} fragments were restored`);
  await readsUpTo(t, cluster, written, end);
});

test("where the segments of an ended log lie is told, also under a version that was replaced and frozen since", async (t) => {
  const cluster = await Cluster.start({ seed: "places", servers: 3 });
  const client = cluster.client();
  const { log } = await written(cluster, client, [20 * KIB, 100, 20 * KIB]);
  client.instance.kill();
  t.is((await cluster.run(cluster.recover(log))).places.size, 3);
  cluster.server(2).kill();
  const { options } = cluster.client();
  t.true(await cluster.run(leaveOut({ ...options, group: GROUP, member: 2 })));
  await cluster.run(freezeReplaced(options, GROUP));
  const { end, places } = await cluster.run(cluster.recover(log));
  t.is(end, 3);
  const oldest = { group: GROUP, groupVersion: 1 };
  t.deepEqual(
    [...places].sort(([one], [other]) => one - other),
    [1, 2, 3].map((sequence) => [sequence, oldest]),
  );
});

test("where the end is decided, how far the log is trimmed is waited for while all servers are slow, and is never made up", async (t) => {
  const cluster = await Cluster.start({ seed: "slow", servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  for (let count = 1; count <= 5; count++) {
    writer.trimmedTo = Math.min(3, count - 1);
    await cluster.run(writeSegment(writer, 100, { urgent: true }).sealed.stable);
  }
  client.instance.kill();
  t.like(await cluster.run(cluster.recover(writer.log)), { end: 5, trimmedTo: 3 });
  // A disk that is busy makes the map that is to be adopted wait.
  for (const server of cluster.servers)
    server.intercept = async (message, _request, _context, next) => {
      if (message === "adopt") await sleep(server.instance.ports.clock, 700);
      return next();
    };
  t.like(await cluster.run(cluster.recover(writer.log)), { end: 5, trimmedTo: 3 });
  for (const server of cluster.servers) server.kill();
  const error = await t.throwsAsync<DazzleError>(cluster.run(cluster.recover(writer.log)));
  t.is(error.code, "unreachable");
  t.regex(error.message, /s1, s2, s3/);
});

for (const at of ["read", "restore"] as const)
  test(`a segment that is deleted before the ${at} by which it was to be made redundant is left alone, and the end is decided without it`, async (t) => {
    const cluster = await Cluster.start({ seed: `deleted before the ${at}`, servers: 3 });
    const client = cluster.client();
    const { log } = await written(cluster, client, [100, 20 * KIB]);
    client.instance.kill();
    cluster.server(2).kill();
    cluster.change((map) => ({ ...map, members: map.members.map((row) => (row.id === 2 ? { ...row, store: null } : row)) }));
    const { peers } = cluster.client().options;
    const request = { log, sequences: [1, 2], trimmedTo: 2, group: -1, groupVersion: -1 };
    const remove = () => Promise.all([1, 3].map((member) => peers.call(member as MemberId, "delete", request, { deadlineMs: 10_000 })));
    let deleting: Promise<unknown> | undefined;
    for (const server of cluster.servers)
      server.intercept = async (message, _request, _context, next) => {
        if (message !== at) return next();
        deleting ??= remove();
        await deleting;
        return next();
      };
    const recovered = await cluster.run(cluster.recover(log));
    t.like(recovered, { end: 2, trimmedTo: 2 });
    t.not(deleting, undefined);
    t.is(recovered.places.size, 0);
  });

test("recovery of a log that nothing was written to ends it at 0", async (t) => {
  const cluster = await Cluster.start({ seed: 62, servers: 3 });
  const log = cluster.addLog();
  t.like(await cluster.run(cluster.recover(log)), { end: 0, trimmedTo: 0 });
});

test("a store after the end is refused, also by way of a server that slept through the recovery", async (t) => {
  const cluster = await Cluster.start({ seed: 63, servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  await cluster.run(writeSegment(writer, 100, { urgent: true }).sealed.stable);
  // The writer is cut off, not dead; server 3 sleeps while the others end its log.
  cluster.world.network.partition([client.instance.name], ["s1", "s2", "s3"]);
  cluster.server(3).frozen = true;
  const late = [writeSegment(writer, 20 * KIB, { urgent: true }), writeSegment(writer, 100, { urgent: true })];
  const { end } = await cluster.run(cluster.recover(writer.log));
  t.is(end, 1);
  cluster.server(3).frozen = false;
  cluster.world.network.heal();
  for (const { sealed } of late) {
    const error = await t.throwsAsync<DazzleError>(cluster.run(sealed.stable));
    t.true(isDazzleError(error, "logSealed", "expelled"), error.message);
  }
  t.is(writer.stableSequence, 1);
  const options = cluster.client().options;
  t.deepEqual(
    (await cluster.run(listLog(options, writer.log))).sequences.map(({ sequence }) => sequence),
    [1],
  );
});

test("silence is waited for: undecidable while two of three are silent, decided when one returns", async (t) => {
  const cluster = await Cluster.start({ seed: 64, servers: 3 });
  const client = cluster.client();
  const { log } = await written(cluster, client, [20 * KIB, 100]);
  client.instance.kill();
  cluster.server(1).kill();
  cluster.server(2).kill();
  const recovering = cluster.recover(log);
  recovering.catch(() => {});
  await cluster.world.advance(10_000);
  t.is(findLog(cluster.map, log)?.end, null);
  await cluster.run(cluster.server(2).start());
  t.is((await cluster.run(recovering)).end, 2);
});

test("silence that lasts rejects, naming who is awaited, and decides nothing", async (t) => {
  const cluster = await Cluster.start({ seed: 65, servers: 3 });
  const client = cluster.client();
  const { log } = await written(cluster, client, [20 * KIB, 100]);
  client.instance.kill();
  cluster.server(1).kill();
  cluster.server(2).frozen = true;
  const error = await t.throwsAsync<DazzleError>(cluster.run(cluster.recover(log)));
  t.is(error.code, "unreachable");
  t.regex(error.message, /s1/);
  t.regex(error.message, /s2/);
  t.is(findLog(cluster.map, log)?.end, null);
});

test("an emptied directory under an old name proves nothing", async (t) => {
  const cluster = await Cluster.start({ seed: 66, servers: 3 });
  const client = cluster.client();
  const { log } = await written(cluster, client, [20 * KIB, 100]);
  client.instance.kill();
  cluster.server(1).kill();
  cluster.server(2).kill();
  cluster.server(2).drive = "another drive";
  await cluster.run(cluster.server(2).start());
  const error = await t.throwsAsync<DazzleError>(cluster.run(cluster.recover(log)));
  t.is(error.code, "unreachable");
  t.is(findLog(cluster.map, log)?.end, null);
});

test("a segment that was stable and of which too much is damaged is reported lost, not taken for the end", async (t) => {
  const cluster = await Cluster.start({ seed: 67, servers: 3 });
  const client = cluster.client();
  const { log } = await written(cluster, client, [20 * KIB, 28 * KIB, 100]);
  client.instance.kill();
  const without: Intercept = async (message, _request, _context, next) => {
    const answer = (await next()) as { reply: { fragments: ReadonlyArray<{ sequence: number }>; stableSequence: number } };
    if (message !== "list") return answer;
    return { reply: { ...answer.reply, fragments: answer.reply.fragments.filter(({ sequence }) => sequence !== 2), stableSequence: 2 } };
  };
  cluster.server(1).intercept = without;
  cluster.server(2).intercept = without;
  const error = await t.throwsAsync<DazzleError>(cluster.run(cluster.recover(log)));
  t.is(error.code, "segmentLost");
  t.regex(error.message, /segment 2/);
  t.is(findLog(cluster.map, log)?.end, null);
});

test("a replaced version is frozen in the background, and then its dead servers are not waited for past its record", async (t) => {
  const cluster = await Cluster.start({ seed: 68, servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(1));
  cluster.server(3).kill();
  writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(2));
  await cluster.world.advance(1_000);
  const frozen = cluster.map.groups[0]?.versions[0]?.frozen;
  t.true((frozen?.[writer.log] ?? -1) >= 1);
  t.true((frozen?.[writer.log] ?? 9) <= 2);
  client.instance.kill();
  const { options } = cluster.client();
  await cluster.run(
    options.peers.call(1 as never, "delete", { log: writer.log, sequences: [], trimmedTo: 2, group: -1, groupVersion: -1 }),
  );
  cluster.server(2).kill();
  t.like(await cluster.run(cluster.recover(writer.log)), { end: 2, trimmedTo: 2 });
});

test("listLog tells what is held, each segment under the version that most is held of", async (t) => {
  const cluster = await Cluster.start({ seed: 69, servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const first = writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(1));
  cluster.server(3).kill();
  const second = writeSegment(writer, 100);
  writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(3));
  const listing = await cluster.run(listLog(client.options, writer.log));
  t.is(listing.trimmedTo, 0);
  t.true(listing.stableSequence >= 1);
  t.deepEqual(
    listing.sequences.map(({ sequence, groupVersion, fragments }) => `${sequence}@${groupVersion}: ${fragments}`),
    ["1@1: 2", "2@2: 2", "3@2: 2"],
  );
  t.is(listing.sequences[0]?.payloadBytes, first.sealed.payloadBytes);
  t.is(listing.sequences[1]?.payloadBytes, second.sealed.payloadBytes);
  t.deepEqual(
    (await cluster.run(listLog(client.options, writer.log, 2))).sequences.map(({ sequence }) => sequence),
    [3],
  );
  for (const server of cluster.servers) server.kill();
  const error = await t.throwsAsync<DazzleError>(cluster.run(listLog(client.options, writer.log)));
  t.regex(error.message, /s1, s2, s3|s1, s2/);
});

test("recovery of a long tail after a power cut keeps all that was told stable", async (t) => {
  for (let seed = 0; seed < 10; seed++) {
    const cluster = await Cluster.start({ seed: `power ${seed}`, servers: 3 });
    const client = cluster.client();
    const writer = cluster.writer({ client });
    const segments: Written[] = [];
    let told = 0;
    writer.onStable(({ sequence }) => {
      told = sequence;
    });
    const untilMs = cluster.world.nowMs + 20 + cluster.world.random.below(100);
    while (cluster.world.nowMs < untilMs) {
      await cluster.world.advance(1);
      if (writer.ready)
        segments.push(writeSegment(writer, 1 + cluster.world.random.below(28 * KIB), { urgent: cluster.world.random.chance(0.2) }));
    }
    cluster.world.powerCut();
    for (const server of cluster.servers) await cluster.run(server.start());
    const { end } = await cluster.run(cluster.recover(writer.log));
    t.true(end >= told, `seed ${seed}: end ${end}, told ${told}`);
    await readsUpTo(t, cluster, segments, end);
  }
});
