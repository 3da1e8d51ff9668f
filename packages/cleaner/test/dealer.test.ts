import { DazzleError, type LogId, type MemberId, type Peers, type Request, type Sequence, sleep } from "@dazzle/core";
import test from "ava";
import { Alarm } from "../src/alarm.ts";
import { Dealer, setsOf } from "../src/dealer.ts";
import { SetAside } from "../src/set-aside.ts";
import type { StoredSegment } from "../src/survey.ts";
import { GROUP, oneMember } from "./support/one-member.ts";

const FULL = 1024 * 1024;

function segment(sequence: number): StoredSegment {
  return { log: 3 as LogId, sequence: sequence as Sequence, groupVersion: 1, bytes: FULL, live: FULL, named: FULL, age: 0, seenMs: 0 };
}

/** A group with cleaners 1, 2, …, each of which does what `doing` says. */
function bench(...doing: ((sequences: readonly number[], signal: AbortSignal | undefined) => Promise<void>)[]) {
  const options = oneMember({});
  const { map, world, ports } = options;
  const [member] = map.current.members;
  const members = doing.map((_, index) => ({ ...(member as NonNullable<typeof member>), id: (index + 1) as MemberId }));
  map.learn({ ...map.current, version: 2, members });
  const asked: { readonly member: number; readonly sequences: readonly number[] }[] = [];
  const call = async (member: number, _name: string, { sequences }: Request<"cleanSegments">, { signal }: { signal?: AbortSignal }) => {
    asked.push({ member, sequences });
    await doing[member - 1]?.(sequences, signal);
    return {
      reply: {
        bytesRead: FULL,
        bytesWritten: FULL,
        skippedLogs: [],
        skippedSequences: [],
        skippedRetry: [],
        fullLogs: [],
        fullSequences: [],
      },
      tail: [],
    };
  };
  const peers = { call } as unknown as Peers;
  const dealer = new Dealer({ ...options, peers }, GROUP, new Alarm(), new AbortController().signal);
  const deal = (segments: number) => {
    const chosen = Array.from({ length: segments }, (_, index) => segment(index + 1));
    const endMs = ports.clock.nowMs() + 2_000;
    const isWanted = () => ports.clock.nowMs() < endMs;
    return world.run(dealer.deal(setsOf(chosen, FULL), { shortage: 1, endMs, isWanted, isHurried: () => true }, new SetAside()), 3_600_000);
  };
  /** Who is asked when sets are dealt now. */
  const membersAsked = async (segments = 8) => {
    asked.length = 0;
    await deal(segments);
    return [...new Set(asked.map(({ member }) => member))].sort();
  };
  const pause = () => sleep(ports.clock, 100);
  return { dealer, deal, membersAsked, world, pause, clock: ports.clock, nowMs: () => ports.clock.nowMs() };
}

/** How long it takes until cleaner 2 is asked again. */
async function leftOutMs({ membersAsked, world, nowMs }: ReturnType<typeof bench>): Promise<number> {
  const fromMs = nowMs();
  while (!(await membersAsked()).includes(2)) await world.advance(1_000);
  return nowMs() - fromMs;
}

test("who takes much longer than the others loses its set, and is left out longer each time, until it does one", async (t) => {
  let isStuck = true;
  let cancelled = 0;
  const cluster = bench(
    () => cluster.pause(),
    (_, signal) => {
      if (!isStuck) return cluster.pause();
      signal?.addEventListener("abort", () => cancelled++);
      return new Promise(() => {});
    },
  );
  await cluster.deal(40);
  t.is(cancelled, 1);
  t.true(cluster.nowMs() < 20_000, "long before the deadline of a set");
  t.is(cluster.dealer.tally.segments, 36, "all but what was lost");
  t.deepEqual(await cluster.membersAsked(), [1]);
  const first = await leftOutMs(cluster);
  t.true((await leftOutMs(cluster)) > first);
  isStuck = false;
  await leftOutMs(cluster);
  t.deepEqual(await cluster.membersAsked(), [1, 2]);
});

test("a cleaner that is slow is left to its set where nobody else does any", async (t) => {
  const cluster = bench(
    async () => {
      throw new DazzleError("notReady", "no");
    },
    () => sleep(cluster.clock, 60_000),
  );
  await cluster.deal(40);
  t.is(cluster.dealer.tally.segments, 4);
});

test("where every cleaner has failed all are asked again, and it is said why", async (t) => {
  const fail = async () => {
    throw new DazzleError("noSpace", "the log has no room");
  };
  const cluster = bench(fail, fail);
  await cluster.deal(8);
  t.regex(cluster.dealer.failure, /no room/);
  t.deepEqual(await cluster.membersAsked(), [1, 2]);
});

test("a cleaner that takes no more work now is asked again the next time", async (t) => {
  const cluster = bench(
    () => cluster.pause(),
    async () => {
      throw new DazzleError("notReady", "this cleaner takes no more work");
    },
  );
  for (let time = 0; time < 3; time++) t.deepEqual(await cluster.membersAsked(), [1, 2]);
});
