import { DazzleError, type Handlers, type Request, sleep } from "@dazzle/core";
import test from "ava";
import { Alarm } from "../src/alarm.ts";
import { GroupLeader, writeCost } from "../src/group-leader.ts";
import { CLOSED_LOGS_MAX } from "../src/old-logs.ts";
import { GROUP, liveBytesOf, logRow, oneMember, stored } from "./support/one-member.ts";

const FULL = 1024 * 1024;
const STORE = "00000000000000000000000000000001";

/** A group of one server: what it holds, who cleans it. */
class Bench {
  /** Live bytes by sequence; a full segment each, but for those that were written by the cleaner, in which all lives. */
  readonly live = new Map<number, number>();
  readonly targets = new Set<number>();
  freeShare = 0.9;
  readonly cleaned: number[][] = [];
  surveys = 0;
  cleaning: (request: Request<"cleanSegments">) => number[] = () => [];
  skippedRetry = false;
  isAllFull = false;
  beforeCleaned = async () => {};
  beforeCounted = () => {};
  readonly #ending = new AbortController();
  readonly #handlers: Handlers = {
    stat: () => ({
      reply: {
        ...{ store: STORE, boot: "", bytesTotal: 1e12, bytesFree: 1e12 * this.freeShare, bytesUsed: this.live.size * FULL },
        ...{ bytesForData: 1e12 * this.freeShare, bytesReserved: 0, fragments: this.live.size, damaged: 0, stalledMs: 0 },
      },
    }),
    list: () => {
      this.surveys++;
      const fragments = [...this.live.keys()]
        .sort((one, other) => one - other)
        .map((sequence) => stored(3, sequence, this.targets.has(sequence) ? (this.live.get(sequence) ?? 0) : FULL));
      return { reply: { fragments, more: false, stableSequence: 0, trimmedTo: 0, vouched: true, boot: "" } };
    },
    liveBytes: ({ after, limit }) => {
      this.beforeCounted();
      return { reply: liveBytesOf(this.live, 1_000_000, after, limit) };
    },
    cleanSegments: async (request) => {
      await this.beforeCleaned();
      const { logs: fullLogs, sequences: fullSequences } = request;
      const nothing = { bytesRead: 0, bytesWritten: 0, skippedLogs: [], skippedSequences: [], skippedRetry: [] };
      if (this.isAllFull) return { reply: { ...nothing, fullLogs, fullSequences } };
      const skipped = this.cleaning(request);
      const done = request.sequences.filter((sequence) => !skipped.includes(sequence));
      this.cleaned.push([...done]);
      const written = done.reduce((sum, sequence) => sum + (this.live.get(sequence) ?? 0), 0);
      for (const sequence of done) this.live.delete(sequence);
      const target = 1_000 + this.cleaned.length;
      this.targets.add(target);
      this.live.set(target, written);
      return {
        reply: {
          ...{ bytesRead: written, bytesWritten: written, skippedLogs: skipped.map(() => 3), skippedSequences: skipped },
          skippedRetry: skipped.map(() => this.skippedRetry),
          ...{ fullLogs: [], fullSequences: [] },
        },
      };
    },
  };
  readonly options = oneMember(this.#handlers, [logRow(3)]);
  isOtherAsked = false;
  readonly leader = new GroupLeader(this.options, GROUP, new Alarm(), this.#ending.signal, () => this.isOtherAsked);

  fill(segments: number, share: number): void {
    for (let sequence = 1; sequence <= segments; sequence++) this.live.set(sequence, Math.round(share * FULL));
  }

  end(): void {
    this.#ending.abort();
  }

  turn(): Promise<number> {
    return this.options.world.run(this.leader.turn(), 3_600_000);
  }

  ask(fields: Partial<Request<"clean">> = {}) {
    return this.leader.ask({ id: "asker", group: GROUP, until: 0.9, stop: false, ...fields });
  }
}

test("with space to spare and little to win nothing is cleaned, and it is not looked through again before something changes", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  await bench.turn();
  await bench.turn();
  t.deepEqual(bench.cleaned, []);
  t.is(bench.surveys, 1);
  bench.live.set(5, FULL);
  await bench.turn();
  t.is(bench.surveys, 2);
});

test("with space to spare what is worth it is cleaned, in disjoint sets", async (t) => {
  const bench = new Bench();
  bench.fill(40, 0.3);
  await bench.turn();
  const cleaned = bench.cleaned.flat();
  t.true(bench.cleaned.length > 1);
  t.is(new Set(cleaned).size, cleaned.length);
  t.is(cleaned.length, 40);
});

test("a leader that ends while it cleans makes no pause behind that", async (t) => {
  const bench = new Bench();
  bench.fill(40, 0.3);
  const { world, ports } = bench.options;
  bench.beforeCleaned = async () => {
    bench.end();
    await sleep(ports.clock, 1_000);
  };
  await world.run(bench.leader.turn(), 2_000);
  t.is(bench.cleaned.length, 1);
});

test("a group for which nobody waits gives way to one for which somebody does", async (t) => {
  const bench = new Bench();
  bench.fill(40, 0.3);
  bench.beforeCleaned = async () => {
    bench.isOtherAsked = true;
  };
  await bench.turn();
  t.is(bench.cleaned.length, 1);
  bench.ask({ until: 1 });
  await bench.turn();
  t.is(bench.cleaned.flat().length, 40);
});

test("whoever asks gets it cleaned to what was asked for, and no further", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  bench.live.set(5, FULL);
  bench.live.set(6, FULL);
  t.false(bench.ask({ until: 0.85 }).done);
  await bench.turn();
  t.is(bench.cleaned.flat().length, 3);
  await bench.turn();
  const told = bench.ask({ until: 0.85 });
  t.true(told.done);
  t.is(told.segments, 3);
  t.is(told.bytesWon, 1.5 * FULL);
});

test("it is done where nothing is left to win", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.97);
  bench.ask({ until: 1 });
  await bench.turn();
  t.true(bench.ask({ until: 1 }).done);
  t.deepEqual(bench.cleaned, []);
});

test("who does not ask again is not cleaned for any more; who stops isn't at once", async (t) => {
  for (const stop of [true, false]) {
    const bench = new Bench();
    bench.ask();
    t.true(bench.leader.isAsked);
    if (stop) bench.ask({ stop: true });
    else await bench.options.world.advance(6_000);
    t.false(bench.leader.isAsked);
  }
});

test("the shorter space is, the less it takes for something to be cleaned", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  bench.freeShare = 0.008;
  await bench.turn();
  t.is(bench.cleaned.flat().length, 4);
});

test("what could not be cleaned is left alone for a while", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  bench.cleaning = ({ sequences }) => sequences.filter((sequence) => sequence === 2);
  bench.ask({ until: 1 });
  await bench.turn();
  t.is(bench.ask().skipped, 1);
  bench.ask({ until: 1 });
  await bench.turn();
  t.deepEqual(bench.cleaned.flat().sort(), [1, 3, 4]);
  t.is(bench.ask().skipped, 1);
});

test("what could not be cleaned for a reason that passes is tried again soon, also where nothing changes meanwhile", async (t) => {
  const bench = new Bench();
  bench.fill(40, 0.3);
  bench.skippedRetry = true;
  bench.cleaning = ({ sequences }) => [...sequences];
  await bench.turn();
  const before = bench.surveys;
  await bench.turn();
  await bench.turn();
  t.is(bench.surveys, before + 1, "it is not looked for before it is tried again");
  bench.cleaning = () => [];
  await bench.options.world.advance(6_000);
  await bench.turn();
  t.is(bench.cleaned.flat().length, 40);
});

test("what a cleaner fails to do stays to be done", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  bench.cleaning = () => {
    throw new DazzleError("notReady", "no");
  };
  bench.ask();
  await bench.turn();
  t.deepEqual(bench.cleaned, []);
  bench.cleaning = () => [];
  bench.ask();
  await bench.turn();
  t.is(bench.cleaned.flat().length, 4);
});

test("where every set fails, or nobody can be surveyed, it says why, and for how long it has got nowhere", async (t) => {
  for (const what of ["cleaning", "surveying"]) {
    const bench = new Bench();
    bench.fill(4, 0.5);
    const fail = () => {
      throw new DazzleError("noSpace", `${what} fails`);
    };
    if (what === "cleaning") bench.cleaning = fail;
    else bench.beforeCounted = fail;
    let told = bench.ask();
    for (let second = 0; second <= 120; second++) {
      await bench.turn().catch(() => {});
      await bench.options.world.advance(1_000);
      told = bench.ask();
    }
    t.regex(told.hindrance, new RegExp(`${what} fails`));
    t.true(told.hinderedMs >= 120_000, `${told.hinderedMs}`);
    t.like(bench.ask({ id: "another" }), { hinderedMs: 0 });
    bench.cleaning = () => [];
    bench.beforeCounted = () => {};
    await bench.turn();
    t.like(bench.ask(), { hindrance: "", hinderedMs: 0, segments: 4 });
  }
});

test("a failure long ago hinders nothing while nothing is tried", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  bench.beforeCounted = () => {
    throw new DazzleError("noSpace", "surveying fails");
  };
  bench.ask({ id: "before" });
  await t.throwsAsync(bench.turn());
  await bench.options.world.advance(600_000);
  bench.ask({ id: "behind" });
  await bench.options.world.advance(600_000);
  for (const id of ["before", "behind"]) t.true(bench.ask({ id }).hinderedMs < 60_000, id);
});

test("what is empty is waited for from when nothing else was left, however it changes and whoever asks", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.99);
  bench.ask({ until: 1 });
  let isDone = false;
  for (let second = 0; second < 20; second++) {
    bench.live.set(100 + second, 0);
    bench.ask({ id: `${second}`, until: 1 });
    await bench.turn();
    isDone = bench.ask({ until: 1 }).done;
    if (second < 10) t.false(isDone, `${second}`);
    await bench.options.world.advance(1_000);
  }
  t.true(isDone);
});

/** A group of a live log with 40 segments, and of many closed ones with one full segment each. */
function manyLogs() {
  const LIVE = 500;
  const closed = Array.from({ length: CLOSED_LOGS_MAX + 20 }, (_, index) => 100 + index);
  const cleaned: number[] = [];
  const state = { liveShare: 1 / 4, beforeCounted: () => {} };
  const handlers: Handlers = {
    stat: () => ({
      reply: {
        ...{ store: STORE, boot: "", bytesTotal: 1e12, bytesFree: 9e11, bytesForData: 9e11, bytesUsed: 1, bytesReserved: 0 },
        ...{ fragments: 1, damaged: 0, stalledMs: 0 },
      },
    }),
    list: ({ log }) => {
      const fragments = Array.from({ length: log === LIVE ? 40 : 1 }, (_, index) => stored(log, index + 1, FULL));
      return { reply: { fragments, more: false, stableSequence: 0, trimmedTo: 40, vouched: true, boot: "" } };
    },
    liveBytes: ({ log, after, limit }) => {
      state.beforeCounted();
      const liveOf = log === LIVE ? state.liveShare * FULL : FULL;
      const live = new Map(Array.from({ length: log === LIVE ? 40 : 1 }, (_, index) => [index + 1, liveOf]));
      return { reply: liveBytesOf(live, 40, after, limit) };
    },
    cleanSegments: ({ logs }) => {
      cleaned.push(...logs);
      return {
        reply: { bytesRead: 1, bytesWritten: 1, skippedLogs: [], skippedSequences: [], skippedRetry: [], fullLogs: [], fullSequences: [] },
      };
    },
  };
  const options = oneMember(handlers, [logRow(LIVE)]);
  const { map, world } = options;
  const limits = { ...options.limits, fragmentBytes: FULL / 2 };
  const leader = new GroupLeader({ ...options, limits }, GROUP, new Alarm(), new AbortController().signal);
  const close = () => {
    const rows = closed.map((log) => logRow(log, { state: "closed", end: 1 }));
    map.learn({ ...map.current, version: map.current.version + 1, logs: [...map.current.logs, ...rows] });
  };
  const ask = () => leader.ask({ id: "asker", group: GROUP, until: 1, stop: false });
  /** One look takes 32 pages. */
  const round = async () => {
    for (let look = 0; look < 3; look++) await world.run(leader.turn());
  };
  return { LIVE, closed, cleaned, state, world, leader, close, ask, round };
}

test("closed logs that are too many are emptied also while there is something to win, a few at a time", async (t) => {
  const { LIVE, closed, cleaned, close, ask, round } = manyLogs();
  close();
  ask();
  await round();
  t.deepEqual([...new Set(cleaned)], [LIVE, ...closed.slice(0, 8)]);
});

test("it is not done before it is known what is to be cleaned, also where nothing was before, and much has died since", async (t) => {
  const { cleaned, state, world, leader, close, ask, round } = manyLogs();
  state.liveShare = 1;
  await world.run(leader.turn());
  close();
  state.liveShare = 1 / 4;
  await world.advance(1_000);
  ask();
  const told: boolean[] = [];
  state.beforeCounted = () => told.push(ask().done);
  await round();
  t.true(cleaned.length > 0);
  t.deepEqual(new Set(told), new Set([false]));
});

test("who leads no more remembers nothing of the group but what it has done", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  bench.cleaning = ({ sequences }) => [...sequences];
  bench.ask({ until: 1 });
  await bench.turn();
  t.is(bench.ask({ until: 1, stop: true }).skipped, 4);
  const { map } = bench.options;
  const roles = (names: readonly "cleaner"[]) =>
    map.learn({ ...map.current, version: map.current.version + 1, members: map.current.members.map((row) => ({ ...row, roles: names })) });
  roles([]);
  await bench.turn();
  t.like(bench.leader.status, { state: "follows", skipped: 4 });
  roles(["cleaner"]);
  bench.ask({ until: 1 });
  await bench.turn();
  t.is(bench.leader.status?.skipped, 8, "it is tried at once");
});

test("what its cleaners find full is not dealt to them again, and nothing is left then", async (t) => {
  const bench = new Bench();
  bench.fill(4, 0.5);
  bench.isAllFull = true;
  bench.ask({ until: 0.9 });
  await bench.turn();
  t.false(bench.ask().done);
  await bench.turn();
  t.like(bench.ask(), { done: true, segments: 0, skipped: 0, bytesWon: 0 });
});

test("the write cost is what was moved for what was won", (t) => {
  const tally = { segments: 0, skipped: 0, bytesRead: 0, bytesWritten: 0, bytesWon: 0 };
  t.is(writeCost(tally), 1);
  t.is(writeCost({ ...tally, bytesRead: 100, bytesWritten: 100, bytesWon: 100 }), 3);
});
