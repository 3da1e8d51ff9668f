import { type DazzleError, joined } from "@dazzle/core";
import type { LogWriter } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { Cluster, SMALL } from "./support/cluster.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const PAUSE_MS = 5_000;

async function stream(cluster: Cluster, writer: LogWriter, segments: number): Promise<Written[]> {
  const written: Written[] = [];
  for (let at = 0; at < segments; at++) {
    await cluster.run(writer.whenReady());
    written.push(writeSegment(writer, 20 * KIB));
  }
  return written;
}

async function readsBack(t: ExecutionContext, cluster: Cluster, written: readonly Written[]): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes } of written) t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
}

/** Writes on, over what `happens` to the second server, until all is stable. */
async function writesOn(t: ExecutionContext, cluster: Cluster, happens: () => void): Promise<{ writer: LogWriter; written: Written[] }> {
  const writer = cluster.writer();
  const written = await stream(cluster, writer, 4);
  await cluster.run(writer.flush(4));
  happens();
  const startMs = cluster.world.nowMs;
  written.push(...(await stream(cluster, writer, 12)));
  await cluster.run(writer.flush(writer.openSequence));
  t.true(cluster.world.nowMs - startMs < PAUSE_MS, `${cluster.world.nowMs - startMs} ms`);
  t.is(writer.counters.regroups, 1);
  t.deepEqual(
    cluster.currentVersion().servers.map(({ member }) => member as number),
    [1, 3],
  );
  await readsBack(t, cluster, written);
  return { writer, written };
}

test("a server that answers while its disk hangs is left out, and is used again when it does not", async (t) => {
  const cluster = await Cluster.start({ seed: 61, servers: 3, admission: true });
  const { faults } = cluster.server(2).instance.drive;
  const before = { ...faults };
  const { writer, written } = await writesOn(t, cluster, () => Object.assign(faults, { minDelayMs: 30_000, maxDelayMs: 30_000 }));
  t.true(cluster.server(2).store.stat().stalledMs > 0);
  Object.assign(faults, before);
  await cluster.run(() => cluster.currentVersion().servers.length === 3, 300_000);
  written.push(...(await stream(cluster, writer, 4)));
  await cluster.run(writer.flush(writer.openSequence));
  await readsBack(t, cluster, written);
});

test("a server that takes everything and brings nothing to disk is left out", async (t) => {
  const cluster = await Cluster.start({ seed: 62, servers: 3 });
  await writesOn(t, cluster, () => {
    const { drive } = cluster.server(2).instance;
    Object.defineProperty(drive, "sync", { value: () => new Promise<void>(() => {}) });
  });
});

test("nor does it stay because it goes on taking what comes", async (t) => {
  const cluster = await Cluster.start({ seed: 67, servers: 3 });
  const writer = cluster.writer();
  const written = await stream(cluster, writer, 2);
  await cluster.run(writer.flush(2));
  Object.defineProperty(cluster.server(2).instance.drive, "sync", { value: () => new Promise<void>(() => {}) });
  const startMs = cluster.world.nowMs;
  written.push(writeSegment(writer, 20 * KIB));
  let isFlushed = false;
  const flushing = writer.flush(3).then(() => {
    isFlushed = true;
  });
  flushing.catch(() => {});
  while (!isFlushed && cluster.world.nowMs - startMs < PAUSE_MS) {
    await cluster.world.advance(SMALL.serverSuspectMs / 4);
    if (writer.ready) written.push(writeSegment(writer, 500));
  }
  t.true(isFlushed);
  await cluster.run(writer.flush(writer.openSequence));
  await readsBack(t, cluster, written);
});

test("a server whose disk fails at every sync is left out", async (t) => {
  const cluster = await Cluster.start({ seed: 63, servers: 3 });
  await writesOn(t, cluster, () => Object.assign(cluster.server(2).instance.drive.faults, { syncErrorChance: 1 }));
});

test("a server whose index has failed is left out", async (t) => {
  const cluster = await Cluster.start({ seed: 64, servers: 3 });
  const { drive } = cluster.server(2).instance;
  await writesOn(t, cluster, () => {
    drive.failNext("commit");
    cluster
      .server(2)
      .store.list(1, 0, 1)
      .catch(() => {});
  });
});

test("a disk that takes a while keeps its server in the group", async (t) => {
  const cluster = await Cluster.start({ seed: 65, servers: 3 });
  const { faults } = cluster.server(2).instance.drive;
  const writer = cluster.writer();
  const written = await stream(cluster, writer, 4);
  Object.assign(faults, { minDelayMs: 100, maxDelayMs: 0.6 * SMALL.serverDeadlineMs });
  written.push(...(await stream(cluster, writer, 8)));
  await cluster.run(writer.flush(writer.openSequence), 600_000);
  t.is(writer.counters.regroups, 0);
  await readsBack(t, cluster, written);
});

test("where it can't be left out, who waits hears of it", async (t) => {
  const cluster = await Cluster.start({ seed: 66, servers: 2 });
  const writer = cluster.writer();
  Object.assign(cluster.server(2).instance.drive.faults, { minDelayMs: 1e7, maxDelayMs: 1e7 });
  writeSegment(writer, 20 * KIB);
  const error = await t.throwsAsync<DazzleError>(cluster.run(writer.flush(1), 60_000));
  t.regex(error.message, /s2 \(/);
});

test("who ends a log leaves its own server out when its disk hangs meanwhile", async (t) => {
  const cluster = await Cluster.start({ seed: 68, servers: 3 });
  const writing = cluster.client();
  const writer = cluster.writer({ client: writing });
  const written = await stream(cluster, writer, 2);
  await cluster.run(writer.flush(2));
  const others = [cluster.server(2), cluster.server(3)];
  // Never stable: a recovery writes it again, whole.
  cluster.server(1).intercept = (message, _request, _context, next) => (message === "store" ? new Promise(() => {}) : next());
  written.push(writeSegment(writer, 20 * KIB, { urgent: true }));
  await cluster.run(() => others.every(({ store }) => store.stat().fragments === 3));
  writing.instance.kill();
  const own = cluster.server(1);
  own.intercept = (message, _request, _context, next) => {
    if (message === "restore") Object.assign(own.instance.drive.faults, { minDelayMs: 1e7, maxDelayMs: 1e7 });
    return next();
  };
  const { end } = await cluster.run(cluster.recover(writer.log, cluster.clientAt(own)), 60_000);
  t.is(end, 3);
  t.deepEqual(
    cluster.currentVersion().servers.map(({ member }) => member as number),
    [2, 3],
  );
  await readsBack(t, cluster, written);
});
