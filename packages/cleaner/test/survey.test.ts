import { type Handlers, type ListedFragment, roundUp, summaryBytes } from "@dazzle/core";
import test from "ava";
import { choose } from "../src/policy.ts";
import { LOOK_PAGES, Surveyor } from "../src/survey.ts";
import { GROUP, liveBytesOf, logRow, oneMember, stored } from "./support/one-member.ts";

const nothing = () => false;

interface Log {
  readonly fragments: readonly ListedFragment[];
  readonly live: ReadonlyMap<number, number>;
  readonly trimmedTo: number;
}

/** Pages are as long as the server and the manager please. */
function handlersOf(logs: ReadonlyMap<number, Log>, pageOf: { list: number; live: number }): Handlers {
  const of = (log: number): Log => logs.get(log) ?? { fragments: [], live: new Map(), trimmedTo: 0 };
  return {
    list: ({ log, after }) => {
      const above = of(log).fragments.filter(({ sequence }) => sequence > after);
      const fragments = above.slice(0, pageOf.list);
      return { reply: { fragments, more: above.length > fragments.length, stableSequence: 0, trimmedTo: 0, vouched: true, boot: "" } };
    },
    liveBytes: ({ log, after }) => ({ reply: liveBytesOf(of(log).live, of(log).trimmedTo, after, pageOf.live) }),
  };
}

const LOG: Log = {
  fragments: [1, 2, 4, 5, 6, 7].map((sequence) => stored(3, sequence, 1_000, 100 - sequence)),
  live: new Map([
    [1, 500],
    [4, 950],
    [6, 10],
    [7, 1_000],
  ]),
  trimmedTo: 6,
};

for (const [name, pageOf] of Object.entries({
  "in one page": { list: 100, live: 100 },
  "in pages of the server": { list: 2, live: 100 },
  "in pages of the manager": { list: 100, live: 1 },
  "in pages of both": { list: 3, live: 2 },
}))
  test(`segments up to trimmed-to are counted once, with what lives in them, ${name}`, async (t) => {
    const options = oneMember(handlersOf(new Map([[3, LOG]]), pageOf), [logRow(3)]);
    const { stock, candidates } = await new Surveyor(options, GROUP, nothing).look(new AbortController().signal);
    t.deepEqual(stock, {
      ...{ segments: 5, bytes: 5_000, liveBytes: 1_460, empty: 2, emptyBytes: 2_000 },
      histogram: [3, 0, 0, 0, 0, 1, 0, 0, 0, 1],
    });
    t.deepEqual(
      candidates.map(({ sequence, live, age }) => [sequence, live, age]),
      [
        [1, 500, 99],
        [4, 950, 96],
        [6, 10, 94],
      ],
    );
  });

test("of short records nothing is won where all of them live, and nearly everything where few do", async (t) => {
  const RECORDS = 1_000;
  for (const length of [1, 16, 100, 1_000]) {
    const summaryOffset = RECORDS * roundUp(length, 8);
    const segments = [1, 2, 3, 4].map((sequence) => ({ ...stored(3, sequence, summaryOffset + summaryBytes(RECORDS)), summaryOffset }));
    for (const living of [RECORDS, RECORDS / 50]) {
      const live = new Map(segments.map(({ sequence }) => [sequence, living * length]));
      const handlers = handlersOf(new Map([[3, { fragments: segments, live, trimmedTo: 4 }]]), { list: 9, live: 9 });
      const { stock, candidates } = await new Surveyor(oneMember(handlers, [logRow(3)]), GROUP, nothing).look(new AbortController().signal);
      const segmentBytes = segments[0]?.payloadBytes ?? 0;
      const chosen = choose(candidates, { policy: "adaptive", shortage: 1, count: 9, segmentBytes });
      t.is(chosen.length, living === RECORDS ? 0 : 4, `${length} bytes, ${living} live`);
      if (living === RECORDS) t.true(stock.liveBytes > 0.99 * stock.bytes);
      else t.true(stock.liveBytes < 0.2 * stock.bytes);
    }
  }
});

test("managers' logs, other groups' segments and what lies past a decided end are left out", async (t) => {
  const other = { ...stored(5, 2, 1_000), group: 2 };
  const logs = new Map([
    [3, LOG],
    [4, { ...LOG, trimmedTo: 100 }],
    [
      5,
      {
        fragments: [stored(5, 1, 1_000), other, stored(5, 3, 1_000)],
        live: new Map([
          [1, 1],
          [2, 1],
          [3, 1],
        ]),
        trimmedTo: 100,
      },
    ],
  ]);
  const rows = [logRow(3, { groups: [] }), logRow(4, { kind: "manager" }), logRow(5, { state: "closed", end: 2 })];
  const { candidates } = await new Surveyor(oneMember(handlersOf(logs, { list: 100, live: 100 }), rows), GROUP, nothing).look(
    new AbortController().signal,
  );
  t.deepEqual(
    candidates.map(({ log, sequence }) => [log, sequence]),
    [[5, 1]],
  );
});

test("a segment that lies under two versions counts once, under the newer", async (t) => {
  const fragments = [stored(3, 1, 1_000), { ...stored(3, 1, 1_000), groupVersion: 2 }];
  const logs = new Map([[3, { fragments, live: new Map([[1, 1]]), trimmedTo: 1 }]]);
  const { candidates } = await new Surveyor(oneMember(handlersOf(logs, { list: 9, live: 9 }), [logRow(3)]), GROUP, nothing).look(
    new AbortController().signal,
  );
  t.deepEqual(
    candidates.map(({ groupVersion }) => groupVersion),
    [2],
  );
});

test("closed logs are told of, and what lives in them is found, though others have more to be won than is kept in memory", async (t) => {
  const MANY = 140_000;
  const sequences = Array.from({ length: MANY }, (_, index) => index + 1);
  const many: Log = {
    fragments: sequences.map((sequence) => stored(3, sequence, 1_000)),
    live: new Map(sequences.map((sequence) => [sequence, 600])),
    trimmedTo: MANY,
  };
  const full = (log: number): Log => ({
    fragments: [1, 2, 3].map((sequence) => stored(log, sequence, 1_000)),
    live: new Map([
      [1, 900],
      [3, 900],
    ]),
    trimmedTo: 3,
  });
  const rows = [logRow(3), logRow(5, { state: "closed", end: 3 }), logRow(6, { state: "closed", end: 3 })];
  const logs = new Map([3, 5, 6].map((log) => [log, log === 3 ? many : full(log)]));
  const surveyor = new Surveyor(oneMember(handlersOf(logs, { list: MANY, live: MANY }), rows), GROUP, nothing);
  const { signal } = new AbortController();
  const { candidates, closedLogs } = await surveyor.look(signal);
  t.false(candidates.some(({ log }) => log !== 3));
  t.deepEqual(
    closedLogs.map(({ log, liveBytes }) => [Number(log), liveBytes]),
    [
      [5, 1_800],
      [6, 1_800],
    ],
  );
  const living = async (liveBytes: number) => {
    const ids = closedLogs.map(({ log }) => log);
    const found = await surveyor.living(ids, ({ log, sequence }) => log === 5 || sequence > 1, { liveBytes, segments: 9 }, signal);
    return found.map(({ log, sequence }) => [Number(log), Number(sequence)]);
  };
  t.deepEqual(await living(10_000), [
    [5, 1],
    [5, 3],
    [6, 3],
  ]);
  t.deepEqual(await living(2_000), [
    [5, 1],
    [5, 3],
  ]);
});

test("what is left out takes no room from others, and is counted", async (t) => {
  const MANY = 70_000;
  const sequences = Array.from({ length: MANY }, (_, index) => index + 1);
  const log: Log = {
    fragments: sequences.map((sequence) => stored(3, sequence, 1_000)),
    live: new Map(sequences.map((sequence) => [sequence, sequence === MANY ? 900 : 600])),
    trimmedTo: MANY,
  };
  const options = oneMember(handlersOf(new Map([[3, log]]), { list: MANY, live: MANY }), [logRow(3, { state: "closed", end: MANY })]);
  const surveyor = new Surveyor(options, GROUP, ({ sequence }) => sequence < MANY);
  const { signal } = new AbortController();
  for (let round = 0; round < 2; round++) {
    const { candidates, closedLogs, stock } = await surveyor.look(signal);
    t.is(candidates.length, 1);
    t.is(Number(candidates[0]?.sequence), MANY);
    t.is(stock.segments, MANY);
    t.is(closedLogs[0]?.liveBytes, stock.liveBytes);
  }
  const living = await surveyor.living([logRow(3).id], () => true, { liveBytes: 1_200, segments: 9 }, signal);
  t.is(living.length, 2, "closed logs are emptied all the same");
});

test("nothing is told while nobody speaks for a slot", async (t) => {
  const handlers: Handlers = {
    ...handlersOf(new Map([[3, LOG]]), { list: 9, live: 9 }),
    liveBytes: ({ after }) => ({ reply: { ...liveBytesOf(LOG.live, 6, after, 9), slots: [0, 1], terms: [1, 1] } }),
  };
  await t.throwsAsync(new Surveyor(oneMember(handlers, [logRow(3)]), GROUP, nothing).look(new AbortController().signal), {
    message: /slot 2/,
  });
});

test("nothing is told while two speak for a slot", async (t) => {
  const told = liveBytesOf(LOG.live, 6, 0, 9);
  const handlers: Handlers = {
    ...handlersOf(new Map([[3, LOG]]), { list: 9, live: 9 }),
    liveBytes: () => ({ reply: { ...told, slots: [...told.slots, 2], terms: [...told.terms, 1] } }),
  };
  await t.throwsAsync(new Surveyor(oneMember(handlers, [logRow(3)]), GROUP, nothing).look(new AbortController().signal), {
    message: /one slot/,
  });
});

test("a group of many pages is looked through in several looks, each of bounded cost, and each segment once a round", async (t) => {
  const PAGE = 10;
  const SEGMENTS = 2 * LOOK_PAGES * PAGE;
  const sequences = Array.from({ length: SEGMENTS }, (_, index) => index + 1);
  const long: Log = {
    fragments: sequences.map((sequence) => stored(3, sequence, 1_000)),
    live: new Map(sequences.map((sequence) => [sequence, 100])),
    trimmedTo: SEGMENTS,
  };
  let messages = 0;
  const inner = handlersOf(
    new Map([
      [3, long],
      [5, { ...LOG, fragments: LOG.fragments.map((fragment) => ({ ...fragment, log: 5 })) }],
    ]),
    { list: PAGE, live: SEGMENTS },
  );
  const counted =
    <Request, Context, Answer>(handler: ((request: Request, context: Context) => Answer) | undefined) =>
    (request: Request, context: Context) => {
      messages++;
      return (handler as (request: Request, context: Context) => Answer)(request, context);
    };
  const handlers = { list: counted(inner.list), liveBytes: counted(inner.liveBytes) } as Handlers;
  const surveyor = new Surveyor(oneMember(handlers, [logRow(5), logRow(3)]), GROUP, nothing);
  const looks = [];
  for (let look = 0; look < 3; look++) {
    messages = 0;
    looks.push(await surveyor.look(new AbortController().signal));
    t.true(messages <= 2 * LOOK_PAGES);
  }
  t.deepEqual(
    looks.map(({ isWhole }) => isWhole),
    [false, false, true],
  );
  t.is(looks[0]?.candidates.length, SEGMENTS / 2);
  t.is(looks[2]?.stock.segments, SEGMENTS + 5);
  t.is(looks[2]?.candidates.length, SEGMENTS + 3);
  long.live.delete(1);
  const again = await surveyor.look(new AbortController().signal);
  t.is(again.candidates.length, SEGMENTS + 2, "what lies ahead is as it was before");
  t.is(new Set(again.candidates.map(({ log, sequence }) => `${log}/${sequence}`)).size, SEGMENTS + 2);
  t.is(again.stock.segments, SEGMENTS + 5, "the round before told of everything");
});
