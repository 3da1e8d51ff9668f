import {
  ALL_SLOTS,
  type ClusterMap,
  DazzleError,
  deferred,
  type Logger,
  MapCache,
  type MemberId,
  type MessageName,
  type Peers,
} from "@dazzle/core";
import { initialMap } from "@dazzle/manager";
import { World } from "@dazzle/sim";
import test from "ava";
import { Audit } from "../src/liveness/audit.ts";
import type { Segment } from "../src/liveness/live-here.ts";
import type { Verdict } from "../src/liveness/live-in-cluster.ts";
import { SegmentDeleter } from "../src/liveness/segment-deleter.ts";

const ME = 1 as MemberId;
const LOG = 1;
const TRIMMED = 100;

function firstMap(): ClusterMap {
  const member = {
    id: ME,
    name: "node",
    addresses: ["unix:node"],
    roles: ["storage" as const, "manager" as const, "keeper" as const],
    incarnation: 1,
    leaving: false,
    store: null,
  };
  const map = initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members: [member], manager: ME });
  const servers = [{ member: ME, store: "00000000000000000000000000000001" }];
  const version = { version: 1, servers, dataFragments: 1, parityFragments: 0, frozen: null };
  const groups = [{ id: 1, name: "all", parity: 0, versions: [version], wanted: [ME] }] as unknown as ClusterMap["groups"];
  const row = { id: LOG, kind: "mount", member: ME, process: "mount", state: "live", groups: [1], end: null, label: "" };
  return { ...map, nextLog: 2, groups, logs: [row] as unknown as ClusterMap["logs"] };
}

interface Asked {
  readonly log: number;
  readonly sequences: number[];
  readonly after: number;
}

/** A deleter and an audit beside one storage server that holds segments of one log; what the cluster needs is said by the test. */
function bench(held: number[]) {
  const world = new World(1);
  const { clock } = world.spawn("node").ports;
  const lines: string[] = [];
  const logger: Logger = (_level, message) => void lines.push(message);
  const map = new MapCache({ read: async () => map.current, compareAndSwap: async () => {} }, firstMap());
  const judged: number[] = [];
  const verdicts = new Map<number, Verdict>();
  const judging = { before: async (_log: number) => {} };
  const judge = async (log: number, segments: readonly Segment[]) => {
    await judging.before(log);
    judged.push(...segments.map(({ sequence }) => sequence));
    return new Map(segments.map(({ sequence }): [number, Verdict] => [sequence, verdicts.get(sequence) ?? "live"]));
  };
  const answers: Partial<Record<MessageName, (request: Asked) => unknown>> = {
    listLogs: () => ({ logs: [LOG] }),
    list: ({ after }) => ({ fragments: held.filter((sequence) => sequence > after).map((sequence) => ({ sequence })), more: false }),
    delete: ({ sequences }) => {
      held.splice(0, held.length, ...held.filter((sequence) => !sequences.includes(sequence)));
      return {};
    },
  };
  const storage = { isSilent: false, calls: 0 };
  const peers = {
    call: async (_member: MemberId, name: MessageName, request: Asked) => {
      storage.calls++;
      if (storage.isSilent) throw new DazzleError("unreachable", "nobody answers there");
      return { reply: answers[name]?.(request), tail: [] };
    },
  } as unknown as Peers;
  const trimmedTo = () => TRIMMED;
  const shared = { map, peers, clock, logger };
  const deleter = new SegmentDeleter({
    ...shared,
    events: { judge, neededHere: async () => new Set<number>(), trimmedTo, overflowed: () => {} },
  });
  const audit = new Audit({
    ...shared,
    deleter,
    events: { judge, isLogLive: async () => "live", trimmedTo, decides: () => true },
  });
  return { world, map, deleter, audit, judged, judging, verdicts, held, answers, lines, storage };
}

test("a segment that was offered goes when it is judged dead, is forgotten when it is live, and is judged again while that is open", async (t) => {
  const { world, deleter, verdicts, held } = bench([1, 2, 3]);
  verdicts.set(1, "dead").set(2, "open");
  for (const sequence of [1, 2, 3]) deleter.offer(LOG, sequence, ALL_SLOTS);
  await world.run(() => !held.includes(1));
  await world.advance(5_000);
  t.deepEqual(held, [2, 3]);
  t.is(deleter.waiting, 1);
  verdicts.set(2, "dead").set(3, "dead");
  await world.run(() => !held.includes(2));
  await world.advance(5_000);
  t.deepEqual(held, [3]);
  t.is(deleter.waiting, 0);
});

test("what is offered by several slots at once is judged once, for all of them", async (t) => {
  const { world, deleter, judged } = bench([1]);
  deleter.offer(LOG, 1, { low: 1, high: 0 });
  deleter.offer(LOG, 1, { low: 4, high: 8 });
  t.is(deleter.waiting, 1);
  await world.run(() => judged.length > 0);
  await world.advance(5_000);
  t.deepEqual(judged, [1]);
});

test("what is dead of one log goes while another one can't be judged, which is told once for all of them", async (t) => {
  const { world, deleter, judging, verdicts, lines, answers } = bench([]);
  verdicts.set(1, "dead");
  const gone: number[] = [];
  answers.delete = ({ log }) => void gone.push(log);
  let fails = true;
  judging.before = async (log) => {
    if (fails && log % 2 === 1) throw new DazzleError("timedOut", "the log does not become stable");
  };
  for (let log = 1; log <= 6; log++) deleter.offer(log, 1, ALL_SLOTS);
  await world.run(() => gone.length === 3);
  t.deepEqual(gone, [2, 4, 6]);
  t.deepEqual(lines, ["segments are deleted later"]);
  fails = false;
  await world.run(() => gone.length === 6);
  t.deepEqual(gone, [2, 4, 6, 1, 3, 5]);
  t.is(deleter.waiting, 0);
});

test("what was judged dead goes before the next log is judged, however long that takes", async (t) => {
  const { world, deleter, judging, verdicts, answers } = bench([]);
  verdicts.set(1, "dead");
  const gone: number[] = [];
  answers.delete = ({ log }) => void gone.push(log);
  const answered = deferred();
  judging.before = async (log) => {
    if (log === 2) await answered.promise;
  };
  for (let log = 1; log <= 3; log++) deleter.offer(log, 1, ALL_SLOTS);
  await world.run(() => gone.length === 1);
  answered.resolve();
  await world.run(() => gone.length === 3);
  t.deepEqual(gone, [1, 2, 3]);
});

test("after slots changed hands, what servers hold is looked through, until it is known of every segment whether it is needed", async (t) => {
  const { world, map, verdicts, held, judged } = bench([1, 2]);
  verdicts.set(1, "open");
  await world.advance(20_000);
  t.deepEqual(judged, []);
  const { current } = map;
  map.learn({ ...current, version: current.version + 1, slots: current.slots.map((row) => ({ ...row, term: row.term + 1 })) });
  await world.run(() => judged.filter((sequence) => sequence === 1).length > 2);
  t.deepEqual(held, [1, 2]);
  verdicts.set(1, "dead");
  await world.run(() => !held.includes(1));
  t.deepEqual(held, [2]);
});

test("what is held above a sequence is looked through once its server answers, which is asked once at a time for all that is due", async (t) => {
  const { world, audit, verdicts, held, answers } = bench([1, 2, 3]);
  for (const sequence of held) verdicts.set(sequence, "dead");
  const { list } = answers;
  let asked = 0;
  answers.list = () => {
    asked++;
    throw new DazzleError("unreachable", "nobody listens");
  };
  for (const after of [1, 2]) audit.log(LOG, after);
  await world.run(() => asked === 3);
  await world.advance(1_000);
  t.deepEqual([asked, held], [3, [1, 2, 3]]);
  answers.list = list as typeof answers.list;
  await world.run(() => !held.includes(3));
  await world.advance(20_000);
  t.deepEqual(held, [1]);
});

test("a server that does not answer is asked ever more seldom, is told of once, and is looked through when it answers again", async (t) => {
  const { world, audit, verdicts, held, lines, storage } = bench([1, 2]);
  verdicts.set(1, "dead");
  storage.isSilent = true;
  audit.server(ME);
  audit.log(LOG);
  await world.advance(600_000);
  t.true(storage.calls > 10 && storage.calls < 30, `${storage.calls} calls`);
  t.is(lines.length, 1);
  storage.isSilent = false;
  await world.run(() => !held.includes(1), 31_000);
  storage.isSilent = true;
  const before = storage.calls;
  audit.server(ME);
  await world.advance(3_000);
  t.is(storage.calls, before + 2, "who has answered is asked again soon");
  t.is(lines.length, 2);
});

test("what is due at a member that left is forgotten", async (t) => {
  const { world, map, audit, storage } = bench([1]);
  storage.isSilent = true;
  audit.server(ME);
  await world.advance(1_000);
  const { current } = map;
  map.learn({ ...current, version: current.version + 1, members: [] });
  await world.advance(60_000);
  t.is(storage.calls, 1);
});
