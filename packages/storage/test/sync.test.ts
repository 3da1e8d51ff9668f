import { bootId, isDazzleError } from "@dazzle/core";
import test from "ava";
import { Tickets } from "../src/tickets.ts";
import { SimBench } from "./support/bench.ts";
import { how, sample } from "./support/fragments.ts";
import { overFiles } from "./support/wrapped.ts";

const BOOT = bootId("0".repeat(32));

/** Everything that promises can do without the disk is done. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Tickets over a disk that the test answers for. */
function byHand() {
  const flushes: Array<{ succeed(): void; fail(error: Error): void }> = [];
  const failures: unknown[] = [];
  let offset = 0;
  const flush = () =>
    new Promise<void>((succeed, fail) => {
      flushes.push({ succeed, fail });
    });
  const tickets = new Tickets(
    BOOT,
    () => ({ volume: 1, offset }),
    flush,
    (error) => failures.push(error),
  );
  const begin = () => {
    const ticket = tickets.begin({ volume: 1, offset });
    offset += 512;
    return ticket;
  };
  return { tickets, begin, flushes, failures };
}

test("durable is a prefix: a sync waits for writes with lower tickets", async (t) => {
  const { tickets, begin, flushes } = byHand();
  begin();
  begin();
  begin();
  tickets.finish(2);
  const second = tickets.wait(2);
  await settled();
  t.is(flushes.length, 0);
  tickets.finish(1);
  await settled();
  t.is(flushes.length, 1);
  flushes[0]?.succeed();
  await second;
  t.is(tickets.durable, 2);
  t.deepEqual(tickets.durablePlace, { volume: 1, offset: 1_024 });
});

test("one flush at a time; who comes during one joins the next, with all others", async (t) => {
  const { tickets, begin, flushes } = byHand();
  begin();
  tickets.finish(1);
  const first = tickets.wait(1);
  const others = [2, 3, 4].map((ticket) => {
    begin();
    tickets.finish(ticket);
    return tickets.wait(ticket);
  });
  await settled();
  t.is(flushes.length, 1);
  flushes[0]?.succeed();
  await first;
  // It was not written when the flush began, so the flush says nothing of it.
  t.is(tickets.durable, 1);
  await settled();
  t.is(flushes.length, 2);
  flushes[1]?.succeed();
  await Promise.all(others);
  t.is(tickets.durable, 4);
  await tickets.wait(3);
  t.is(flushes.length, 2);
});

test("a flush that fails is told once and never tried again", async (t) => {
  const { tickets, begin, flushes, failures } = byHand();
  begin();
  tickets.finish(1);
  tickets.wait(1).catch(() => {});
  await settled();
  flushes[0]?.fail(new Error("EIO"));
  await settled();
  t.is(failures.length, 1);
  t.is(flushes.length, 1);
  t.is(tickets.durable, 0);
});

test("stores that wait together share few syncs", async (t) => {
  let syncs = 0;
  const bench = await SimBench.open("shared", {
    wrap: (disk) =>
      overFiles(disk, (file) => ({
        sync: () => {
          syncs++;
          return file.sync();
        },
      })),
  });
  syncs = 0;
  const stores = Array.from({ length: 64 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 500 }));
  const replies = await bench.run(Promise.all(stores.map(({ arrived }) => bench.store.store(arrived, how({ sync: true })))));
  for (const { ticket, durable } of replies) t.true(durable >= ticket);
  t.true(syncs <= 8, `${syncs} syncs for 64 stores`);
});

test("a failed sync refuses what is not durable, begins a new boot, and the file is never synced again", async (t) => {
  const synced: string[] = [];
  const bench = await SimBench.open("failed sync", {
    wrap: (disk) =>
      overFiles(disk, (file, path) => ({
        sync: () => {
          synced.push(path);
          return file.sync();
        },
      })),
  });
  const samples = [1, 2, 3, 4].map((sequence) => sample(bench.random, { log: 1, sequence }));
  const arrived = (at: number) => (samples[at] as (typeof samples)[0]).arrived;
  const { boot } = bench.store;
  await bench.run(bench.store.store(arrived(0), how({ sync: true })));
  await bench.run(bench.store.store(arrived(1), how()));
  bench.node.drive.failNext("sync");
  synced.length = 0;
  await t.throwsAsync(bench.run(bench.store.store(arrived(2), how({ sync: true }))), { code: "diskFailed" } as object);
  t.not(bench.store.boot, boot);
  await t.throwsAsync(bench.run(bench.store.sync(boot, 2)), { code: "bootChanged" } as object);
  await bench.world.advance(100);
  t.true(bench.store.healthy);
  t.is((await bench.run(bench.store.store(arrived(3), how({ sync: true })))).ticket, 1);
  t.is((await bench.run(bench.store.store(arrived(1), how()))).ticket, 2);
  await bench.run(bench.store.syncAll());
  const [failed, ...later] = synced;
  t.true(later.length > 0);
  t.false(later.includes(failed as string));
  bench.stop("powerCut");
  await bench.start();
  const { fragments } = await bench.run(bench.store.list(1, 0, 10));
  t.deepEqual(
    fragments.map(({ sequence }) => sequence),
    [1, 2, 4],
  );
});

test("a failed write fails the stores that were not durable, and only them", async (t) => {
  const bench = await SimBench.open("failed write");
  const samples = [1, 2, 3].map((sequence) => sample(bench.random, { log: 1, sequence }));
  await bench.run(bench.store.store(samples[0]?.arrived as never, how({ sync: true })));
  bench.node.drive.failNext("write");
  const outcomes = await bench.run(
    Promise.allSettled(samples.slice(1).map(({ arrived }) => bench.store.store(arrived, how({ sync: true })))),
  );
  for (const outcome of outcomes) t.true(outcome.status === "rejected" && isDazzleError(outcome.reason, "diskFailed"));
  await bench.world.advance(100);
  t.is(bench.store.stat().fragments, 1);
  await bench.run(bench.store.store(samples[1]?.arrived as never, how({ sync: true })));
  t.is(bench.store.stat().fragments, 2);
});

test("a delete is not answered where a commit failed that was to make durable how far the log is trimmed, though there is nothing to delete", async (t) => {
  const bench = await SimBench.open("failed commit");
  const trim = (trimmedTo: number) => bench.store.delete({ log: 1, sequences: [trimmedTo], trimmedTo, group: -1, groupVersion: -1 }, null);
  await bench.run(trim(1));
  bench.node.drive.failNext("commit");
  for (const outcome of await bench.run(Promise.allSettled([trim(2), trim(3)])))
    t.true(outcome.status === "rejected" && isDazzleError(outcome.reason, "diskFailed"));
});

test("a sync of another boot, or of a ticket that was not given, is refused", async (t) => {
  const bench = await SimBench.open("boot");
  await t.throwsAsync(bench.store.sync("f".repeat(32), 0), { code: "bootChanged" } as object);
  await t.throwsAsync(bench.store.sync(bench.store.boot, 1), { code: "invalid" } as object);
  t.deepEqual(await bench.store.sync(bench.store.boot, 0), { boot: bench.store.boot, durable: 0 });
});

test("one sync covers every volume that was written", async (t) => {
  const bench = await SimBench.open("rotated");
  const samples = Array.from({ length: 12 }, (_, at) => sample(bench.random, { log: 1, sequence: at + 1, payloadBytes: 100_000 }));
  for (const { arrived } of samples) await bench.run(bench.store.store(arrived, how()));
  await bench.run(bench.store.syncAll());
  bench.stop("powerCut");
  await bench.start();
  t.is(bench.store.stat().fragments, 12);
});
