import { type DazzleError, isDazzleError, joined, type Request } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { Cluster, type Intercept, SMALL } from "./support/cluster.ts";
import { regroup } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;

async function stored(options: {
  seed: number;
  servers: number;
  lengths: readonly number[];
  parity?: number;
}): Promise<{ cluster: Cluster; written: Written[] }> {
  const cluster = await Cluster.start(options);
  const writer = cluster.writer();
  const written: Written[] = [];
  for (const length of options.lengths) {
    await cluster.run(writer.whenReady());
    written.push(writeSegment(writer, length));
  }
  await cluster.run(writer.flush(options.lengths.length));
  return { cluster, written };
}

async function readsAll(t: ExecutionContext, cluster: Cluster, written: readonly Written[], reader = cluster.reader()): Promise<void> {
  for (const { address, bytes } of written) {
    t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
    const at = Math.floor(bytes.length / 2);
    const part = { ...address, offset: address.offset + at, length: Math.min(3000, bytes.length - at) };
    t.deepEqual(joined(await cluster.run(reader.read(part))), bytes.subarray(at, at + part.length));
  }
}

/** Turns over a bit of what `read` answers, where the request is for one of these segments. */
function damaging(sequences: readonly number[]): Intercept {
  return async (message, request, _context, next) => {
    const answer = (await next()) as { reply: { length: number }; tail: Uint8Array[] };
    if (message !== "read" || answer.reply.length === 0 || !sequences.includes((request as Request<"read">).sequence)) return answer;
    const bytes = Buffer.from(joined(answer.tail));
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 0x10;
    return { ...answer, tail: [bytes] };
  };
}

const LENGTHS = [500, 20 * KIB, 28 * KIB + 100, 12 * KIB, 30 * KIB];

for (const servers of [2, 3, 5])
  for (let dead = 1; dead <= servers; dead++)
    test(`${servers} servers: all is read while server ${dead} is dead, and while it answers damage`, async (t) => {
      const { cluster, written } = await stored({ seed: 40 + servers, servers, lengths: LENGTHS });
      const reader = cluster.reader();
      cluster.server(dead).intercept = damaging(written.map((_, index) => index + 1));
      await readsAll(t, cluster, written, reader);
      t.true(reader.counters.damaged > 0 && reader.counters.reconstructed > 0);
      const line = cluster.world.log.find(({ message }) => message === "a fragment is damaged");
      t.is(line?.fields.server, `s${dead}`);
      t.is(line?.fields.log, 1);
      t.true(typeof line?.fields.sequence === "number" && typeof line.fields.index === "number");
      cluster.server(dead).kill();
      await readsAll(t, cluster, written);
      await readsAll(t, cluster, written, reader);
    });

for (const servers of [3, 4, 6])
  test(`${servers} servers with two parities: all is read while any two are dead, answer damage, or one does this and one that`, async (t) => {
    const { cluster, written } = await stored({ seed: 30 + servers, servers, lengths: LENGTHS, parity: 2 });
    const { dataFragments, parityFragments } = cluster.currentVersion();
    t.is(`${dataFragments}+${parityFragments}`, `${servers - 2}+2`);
    const damages = damaging(written.map((_, index) => index + 1));
    for (const one of cluster.servers)
      for (const other of cluster.servers) {
        if (other.member <= one.member) continue;
        one.intercept = damages;
        other.intercept = damages;
        await readsAll(t, cluster, written);
        other.kill();
        await readsAll(t, cluster, written);
        one.kill();
        await readsAll(t, cluster, written);
        one.intercept = null;
        other.intercept = null;
        for (const server of [one, other]) await cluster.run(server.start());
        await cluster.world.advance(2_000);
      }
  });

test("with two parities, a third one damaged is a loss, and is told; silent, it may come back", async (t) => {
  const { cluster, written } = await stored({ seed: 37, servers: 6, lengths: [60 * KIB], parity: 2 });
  const { address } = written[0] as Written;
  for (const member of [1, 2, 3]) cluster.server(member).intercept = damaging([1]);
  const error = await t.throwsAsync<DazzleError>(cluster.run(cluster.reader().read(address)));
  t.is(error.code, "segmentLost");
  cluster.server(3).kill();
  const silent = await t.throwsAsync<DazzleError>(cluster.run(cluster.reader().read(address)));
  t.is(silent.code, "unreachable");
});

test("two servers that answer late are not waited for longer than the hedge, and asked last for a while", async (t) => {
  const { cluster, written } = await stored({ seed: 38, servers: 6, lengths: [60 * KIB, 60 * KIB, 60 * KIB, 60 * KIB], parity: 2 });
  const reader = cluster.reader();
  await readsAll(t, cluster, written, reader);
  for (const member of [2, 3]) cluster.server(member).frozen = true;
  const startMs = cluster.world.nowMs;
  await readsAll(t, cluster, written, reader);
  t.true(cluster.world.nowMs - startMs < 2 * SMALL.readHedgeMs + 200, `${cluster.world.nowMs - startMs} ms`);
});

test("a server that answers late is not waited for longer than the hedge, and asked last for a while", async (t) => {
  const { cluster, written } = await stored({ seed: 51, servers: 3, lengths: [20 * KIB, 20 * KIB, 20 * KIB, 20 * KIB] });
  const reader = cluster.reader();
  await readsAll(t, cluster, written, reader);
  cluster.server(2).frozen = true;
  const startMs = cluster.world.nowMs;
  await readsAll(t, cluster, written, reader);
  t.true(cluster.world.nowMs - startMs < SMALL.readHedgeMs + 200, `${cluster.world.nowMs - startMs} ms`);
  t.true(reader.counters.hedged > 0 && reader.counters.hedged <= 2);
});

test("a read that takes much longer than its server usually does is had from the others, and the server goes on being asked first", async (t) => {
  const { cluster, written } = await stored({ seed: 55, servers: 3, lengths: [20 * KIB] });
  const reader = cluster.reader();
  const lateMs = SMALL.readHedgeMs / 3;
  for (let read = 0; read < 300; read++) await readsAll(t, cluster, written, reader);
  t.is(reader.counters.hedged, 0);
  let held = 0;
  cluster.server(2).intercept = async (name, _request, _context, next) => {
    if (name !== "read" || ++held % 2 === 0) return next();
    await new Promise<void>((resolve) => cluster.world.after(lateMs, resolve));
    return next();
  };
  for (let read = 0; read < 4; read++) {
    const startMs = cluster.world.nowMs;
    await readsAll(t, cluster, written, reader);
    t.true(cluster.world.nowMs - startMs < lateMs, `${cluster.world.nowMs - startMs} ms`);
  }
  t.true(held >= 4 && reader.counters.hedged > 0 && reader.counters.hedged <= held, `${reader.counters.hedged} of ${held}`);
});

test("at first touch, too, a silent server costs the hedge once", async (t) => {
  const { cluster, written } = await stored({ seed: 52, servers: 3, lengths: [20 * KIB, 20 * KIB, 20 * KIB, 20 * KIB, 900, 900] });
  cluster.server(2).frozen = true;
  const startMs = cluster.world.nowMs;
  await readsAll(t, cluster, written);
  // Twice: for the fragments, and where the whole group is asked.
  t.true(cluster.world.nowMs - startMs < 4 * SMALL.readHedgeMs, `${cluster.world.nowMs - startMs} ms`);
});

test("two damaged fragments: segmentLost, naming the log and the segment; other segments are read", async (t) => {
  const { cluster, written } = await stored({ seed: 53, servers: 3, lengths: [28 * KIB, 28 * KIB] });
  for (const member of [1, 2]) cluster.server(member).intercept = damaging([2]);
  const reader = cluster.reader();
  const [first, second] = written as [Written, Written];
  t.deepEqual(joined(await cluster.run(reader.read(first.address))), first.bytes);
  const error = await t.throwsAsync<DazzleError>(cluster.run(reader.read(second.address)));
  t.is(error.code, "segmentLost");
  t.regex(error.message, /log 1 segment 2/);
});

test("both copies of a mirrored segment damaged: segmentLost", async (t) => {
  const { cluster, written } = await stored({ seed: 54, servers: 2, lengths: [500] });
  for (const server of cluster.servers) server.intercept = damaging([1]);
  const error = await t.throwsAsync<DazzleError>(cluster.run(cluster.reader().read((written[0] as Written).address)));
  t.is(error.code, "segmentLost");
});

test("one damaged and one dead: unreachable, for the dead one may come back; then all is read", async (t) => {
  const { cluster, written } = await stored({ seed: 55, servers: 3, lengths: [28 * KIB] });
  cluster.server(1).intercept = damaging([1]);
  cluster.server(2).kill();
  const reader = cluster.reader();
  const { address, bytes } = written[0] as Written;
  const error = await t.throwsAsync<DazzleError>(cluster.run(reader.read(address)));
  t.is(error.code, "unreachable");
  t.regex(error.message, /log 1 segment 1/);
  await cluster.run(cluster.server(2).start());
  await cluster.world.advance(2_000);
  t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
});

test("a segment that nobody has: fragmentMissing; with a server silent: unreachable", async (t) => {
  const { cluster, written } = await stored({ seed: 56, servers: 3, lengths: [28 * KIB] });
  const { address } = written[0] as Written;
  const reader = cluster.reader();
  const missing = await t.throwsAsync<DazzleError>(cluster.run(reader.read({ ...address, sequence: 9 })));
  t.is(missing.code, "fragmentMissing");
  cluster.server(3).kill();
  const silent = await t.throwsAsync<DazzleError>(cluster.run(reader.read({ ...address, sequence: 9 })));
  t.is(silent.code, "unreachable");
});

test("a segment that is deleted between the moments when it is found and when it is read: fragmentMissing", async (t) => {
  const { cluster, written } = await stored({ seed: 49, servers: 3, lengths: [20 * KIB] });
  const { address } = written[0] as Written;
  const reader = cluster.reader();
  regroup(cluster, [1, 2, 3]);
  const isDeleted = new Set<number>();
  for (const { member, store } of cluster.servers)
    cluster.server(member).intercept = async (message, request, _context, next) => {
      if (message === "read" && (request as Request<"read">).groupVersion === 1 && !isDeleted.has(member)) {
        isDeleted.add(member);
        await store.delete({ log: address.log, sequences: [1], trimmedTo: 1, group: -1, groupVersion: -1 }, null);
      }
      return next();
    };
  await t.throwsAsync(cluster.run(reader.read({ ...address, groupVersion: 2 })), { code: "fragmentMissing" } as object);
  t.true(isDeleted.size > 0);
});

test("a placement is only a hint: a segment is found under the version it lies under", async (t) => {
  const cluster = await Cluster.start({ seed: 57, servers: 3 });
  const writer = cluster.writer();
  const before = writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(1));
  cluster.server(3).kill();
  const after = [writeSegment(writer, 20 * KIB), writeSegment(writer, 500), writeSegment(writer, 20 * KIB)];
  await cluster.run(writer.flush(4));
  t.is(after[0]?.sealed.groupVersion, 2);
  for (const { address, bytes } of [before, ...after]) {
    const wrong = { ...address, groupVersion: address.groupVersion === 1 ? 2 : 1 };
    t.deepEqual(joined(await cluster.run(cluster.reader().read(wrong))), bytes);
  }
  // Of this one the third server would have the summary.
  const summary = await cluster.run(cluster.reader().summary(writer.log, 4, 1, 1));
  t.is(summary.groupVersion, 2);
});

test("a cancelled read rejects cancelled", async (t) => {
  const { cluster, written } = await stored({ seed: 58, servers: 3, lengths: [28 * KIB] });
  for (const server of cluster.servers) server.frozen = true;
  const controller = new AbortController();
  const read = cluster.reader().read((written[0] as Written).address, controller.signal);
  read.catch(() => {});
  await cluster.world.advance(100);
  controller.abort();
  const error = await t.throwsAsync(cluster.run(read, 10));
  t.true(isDazzleError(error, "cancelled"));
});

test("bytes of this process's own segments come from memory", async (t) => {
  const cluster = await Cluster.start({ seed: 59, servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const { LogReader } = await import("@dazzle/log");
  const local = (log: number, sequence: number, offset: number, length: number) =>
    log === writer.log ? writer.read(sequence, offset, length) : undefined;
  const reader = new LogReader({ ...client.options, local });
  const { address, bytes } = writeSegment(writer, 20 * KIB);
  t.deepEqual(joined(await reader.read(address)), bytes);
  t.is(reader.counters.roundTrips, 0);
  await cluster.run(writer.flush(1));
  t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
  t.true(reader.counters.roundTrips > 0);
});
