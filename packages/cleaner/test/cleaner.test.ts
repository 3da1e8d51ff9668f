import { BLOCK_BYTES, DazzleError, findLog, type Handlers, joined, RecordKind, type Request, SegmentClass, sleep } from "@dazzle/core";
import test from "ava";
import { GROUP } from "../../log/test/support/cluster.ts";
import { Cleaner } from "../src/cleaner.ts";
import { CLOSED_LOGS_MAX } from "../src/old-logs.ts";
import { Bench, SELF } from "./support/bench.ts";
import { liveBytesOf, logRow, oneMember, stored } from "./support/one-member.ts";

/** A mount's log with one block in each of its segments. */
async function written(bench: Bench, segments: number): Promise<Request<"cleanSegments">> {
  const writer = bench.cluster.writer();
  const sequences: number[] = [];
  for (let block = 0; block < segments; block++) {
    await bench.cluster.run(writer.whenReady());
    const placed = writer.place(BLOCK_BYTES);
    if (placed === undefined) throw new Error("a new segment has room for a block");
    placed.bytes.fill(block + 1);
    const record = { kind: RecordKind.block, owner: 9, position: block * BLOCK_BYTES, term: 0, offset: placed.offset, length: BLOCK_BYTES };
    sequences.push(writer.seal([record], { class: SegmentClass.data, urgent: true }).sequence);
  }
  await bench.cluster.run(writer.flush(segments));
  return {
    group: GROUP,
    logs: sequences.map(() => writer.log),
    sequences,
    groupVersions: sequences.map(() => 1),
    always: sequences.map(() => true),
  };
}

function clean(handlers: Handlers, request: Request<"cleanSegments">) {
  const context = { peer: undefined, signal: new AbortController().signal, tail: [] };
  return (async () => handlers.cleanSegments?.(request, context))();
}

function logsOf({ cluster }: Bench) {
  return cluster.map.logs.filter(({ kind }) => kind === "cleaner");
}

test("segments are cleaned into one log of the cleaner's, which it closes when it stops", async (t) => {
  const bench = await Bench.start();
  const request = await written(bench, 6);
  const cleaner = new Cleaner(bench.options);
  cleaner.start();
  t.deepEqual(logsOf(bench), [], "it begins none before it moves something");
  const answer = await bench.cluster.run(
    clean(cleaner.handlers, { ...request, sequences: [1, 2, 3], logs: [1, 1, 1], groupVersions: [1, 1, 1], always: [true, true, true] }),
  );
  t.like(answer?.reply, { bytesRead: 3 * BLOCK_BYTES, skippedSequences: [] });
  await bench.cluster.run(
    clean(cleaner.handlers, { ...request, sequences: [4, 5, 6], logs: [1, 1, 1], groupVersions: [1, 1, 1], always: [true, true, true] }),
  );
  const [row] = logsOf(bench);
  t.is(bench.moves.length, 6);
  for (const { sequence, block, offset, length } of bench.moves) {
    const read = bench.reader.read({ log: row?.id ?? 0, sequence, offset, length, group: GROUP, groupVersion: 1 });
    t.true(joined(await bench.cluster.run(read)).equals(Buffer.alloc(BLOCK_BYTES, block + 1)));
  }
  t.is(logsOf(bench).length, 1);
  await bench.cluster.run(cleaner.stop());
  t.like(logsOf(bench)[0], { state: "closed", end: 2 });
  await t.throwsAsync(bench.cluster.run(clean(cleaner.handlers, request)), { message: /notReady/ });
});

test("a member that leaves closes its log, and takes no more work", async (t) => {
  const bench = await Bench.start();
  const request = await written(bench, 2);
  const cleaner = new Cleaner(bench.options);
  cleaner.start();
  await bench.cluster.run(clean(cleaner.handlers, request));
  const log = logsOf(bench)[0]?.id ?? 0;
  t.is(findLog(bench.cluster.map, log)?.state, "live");
  bench.cluster.change((map) => ({ ...map, members: map.members.map((one) => (one.id === SELF ? { ...one, leaving: true } : one)) }));
  await bench.cluster.run(bench.options.map.refresh());
  await bench.cluster.run(() => findLog(bench.cluster.map, log)?.state === "closed", 5_000);
  await t.throwsAsync(bench.cluster.run(clean(cleaner.handlers, request)), { message: /notReady/ });
  await bench.cluster.run(cleaner.stop());
});

test("a log that was given up while the map could not be changed is expelled later, though there is always something to clean", async (t) => {
  const bench = await Bench.start();
  const request = await written(bench, 3);
  const cleaner = new Cleaner(bench.options);
  cleaner.start();
  const { map } = bench.options;
  const change = map.change.bind(map);
  await bench.cluster.run(clean(cleaner.handlers, { ...request, sequences: [1], logs: [1], groupVersions: [1], always: [true] }));
  const log = logsOf(bench)[0]?.id ?? 0;
  map.change = () => Promise.reject(new DazzleError("unreachable", "no majority of the keepers answers"));
  bench.refusal = new DazzleError("inputOutput", "it can't be moved");
  await t.throwsAsync(
    bench.cluster.run(clean(cleaner.handlers, { ...request, sequences: [2], logs: [1], groupVersions: [1], always: [true] })),
  );
  t.is(findLog(bench.cluster.map, log)?.state, "live");
  map.change = change;
  let go: () => void = () => {};
  bench.beforeStillAt = () => new Promise((resolve) => (go = resolve));
  const next = clean(cleaner.handlers, { ...request, sequences: [3], logs: [1], groupVersions: [1], always: [true] });
  await bench.cluster.run(() => findLog(bench.cluster.map, log)?.state === "expelled", 60_000);
  go();
  bench.refusal = null;
  await bench.cluster.run(next);
  t.deepEqual(
    logsOf(bench).map(({ state }) => state),
    ["expelled", "live"],
  );
  await bench.cluster.run(cleaner.stop());
});

test("managers are told again how far its log is trimmed, though nothing is moved any more", async (t) => {
  const bench = await Bench.start();
  const request = await written(bench, 1);
  const cleaner = new Cleaner(bench.options);
  cleaner.start();
  await bench.cluster.run(clean(cleaner.handlers, request));
  t.is(bench.trimmedTo.at(-1), 1);
  bench.trimmedTo.length = 0;
  await bench.cluster.run(() => bench.trimmedTo.includes(1), 60_000);
  await bench.cluster.run(cleaner.stop());
});

test("a log that has moved nothing for an hour is closed, and the next set begins another", async (t) => {
  const bench = await Bench.start();
  const request = await written(bench, 2);
  const cleaner = new Cleaner(bench.options);
  cleaner.start();
  await bench.cluster.run(clean(cleaner.handlers, { ...request, sequences: [1], logs: [1], groupVersions: [1], always: [true] }));
  t.is(logsOf(bench)[0]?.state, "live");
  await bench.cluster.run(() => logsOf(bench)[0]?.state === "closed", 4_000_000);
  await bench.cluster.run(clean(cleaner.handlers, { ...request, sequences: [2], logs: [1], groupVersions: [1], always: [true] }));
  t.deepEqual(
    logsOf(bench).map(({ state }) => state),
    ["closed", "live"],
  );
  await bench.cluster.run(cleaner.stop());
});

test("a log that has moved nothing for an hour is left as it is where as many are closed as the map may keep", async (t) => {
  const bench = await Bench.start();
  const request = await written(bench, 1);
  const closed = Array.from({ length: CLOSED_LOGS_MAX }, (_, index) => logRow(100 + index, { state: "closed", end: 0 }));
  bench.cluster.change((map) => ({ ...map, nextLog: 1_000, logs: [...map.logs, ...closed] }));
  await bench.cluster.run(bench.options.map.refresh());
  const cleaner = new Cleaner(bench.options);
  cleaner.start();
  await bench.cluster.run(clean(cleaner.handlers, request));
  await bench.cluster.world.advance(4_000_000);
  t.is(logsOf(bench)[0]?.state, "live");
  bench.cluster.change((map) => ({ ...map, logs: map.logs.filter(({ id }) => id !== closed[0]?.id) }));
  await bench.cluster.run(bench.options.map.refresh());
  await bench.cluster.run(() => logsOf(bench)[0]?.state === "closed", 60_000);
  await bench.cluster.run(cleaner.stop());
});

/** Two groups of one member, which leads both, one of so many logs that a look does not get to the end, and how often it was looked what is in the logs of each. */
function twoGroups() {
  const OTHER = 2 as typeof GROUP;
  const looks = { asked: 0, other: 0 };
  const handlers: Handlers = {
    stat: () => ({
      reply: {
        ...{ store: "", boot: "", bytesTotal: 1e12, bytesFree: 9e11, bytesForData: 9e11, bytesUsed: looks.asked + looks.other },
        ...{ bytesReserved: 0, fragments: 4, damaged: 0, stalledMs: 0 },
      },
    }),
    list: async ({ log }) => {
      await sleep(options.ports.clock, 10);
      looks[log === 4 ? "other" : "asked"]++;
      const fragments = [{ ...stored(log, 1, 1_000), group: log === 4 ? OTHER : GROUP }];
      return { reply: { fragments, more: false, stableSequence: 1, trimmedTo: 1, vouched: true, boot: "" } };
    },
    liveBytes: ({ after, limit }) => ({ reply: liveBytesOf(new Map([[1, 1_000]]), 1, after, limit) }),
  };
  const options = oneMember(handlers, [...Array.from({ length: 40 }, (_, index) => logRow(10 + index)), logRow(4, { groups: [OTHER] })]);
  const { current } = options.map;
  const group = current.groups[0] as NonNullable<(typeof current.groups)[0]>;
  options.map.learn({ ...current, version: 2, groups: [group, { ...group, id: OTHER, name: "other" }] });
  return { options, looks, OTHER };
}

test("while somebody waits for one group the others are not looked at, and each is looked at in its own time otherwise", async (t) => {
  const { options, looks } = twoGroups();
  const cleaner = new Cleaner(options);
  cleaner.start();
  const context = { peer: undefined, signal: new AbortController().signal, tail: [] };
  for (let second = 0; second < 60; second++) {
    await cleaner.handlers.clean?.({ id: "asker", group: GROUP, until: 1, stop: false }, context);
    await options.world.advance(1_000);
  }
  t.true(looks.asked > 30);
  t.is(looks.other, 0);
  await options.world.advance(60_000);
  t.true(looks.other > 0 && looks.other <= 6, `${looks.other}`);
});

test("a group that is in the map no more is forgotten", async (t) => {
  const { options, OTHER } = twoGroups();
  const cleaner = new Cleaner(options);
  cleaner.start();
  await options.world.advance(30_000);
  t.deepEqual(
    cleaner.status.map(({ group }) => group),
    [GROUP, OTHER],
  );
  const { current } = options.map;
  options.map.learn({ ...current, version: 3, groups: current.groups.slice(0, 1) });
  await options.world.advance(30_000);
  t.deepEqual(
    cleaner.status.map(({ group }) => group),
    [GROUP],
  );
});

test("what is no set of segments is refused", async (t) => {
  const bench = await Bench.start();
  const cleaner = new Cleaner(bench.options);
  await t.throwsAsync(clean(cleaner.handlers, { group: GROUP, logs: [1], sequences: [1, 2], groupVersions: [1, 1], always: [] }), {
    message: /badMessage/,
  });
});
