import {
  ALL_SLOTS,
  type ClusterMap,
  DazzleError,
  type LogId,
  MapCache,
  type MemberId,
  NO_SLOTS,
  type Peers,
  type Reply,
  type Request,
  type SlotMask,
  withSlot,
} from "@dazzle/core";
import { initialMap } from "@dazzle/manager";
import test from "ava";
import type { LiveHere, Segment } from "../src/liveness/live-here.ts";
import { LiveInCluster } from "../src/liveness/live-in-cluster.ts";

type Answer = Reply<"liveAmong">;

const ME = 1 as MemberId;
const MOUNT_LOG = 7;
const MY_LOG = 8;
const OTHERS_LOG = 9;

const only = (...slots: number[]): SlotMask => slots.reduce<SlotMask>((mask, slot) => withSlot(mask, slot), NO_SLOTS);

/** Slots 0 … 31 are member 1's, the others member 2's; member 3 has none. */
function mapOf(version: number, terms: ReadonlyMap<number, { manager: number; term: number }> = new Map()): ClusterMap {
  const members = [1, 2, 3].map((id) => ({
    id: id as MemberId,
    name: `node${id}`,
    addresses: [`unix:node${id}`],
    roles: ["manager" as const, "keeper" as const],
    incarnation: 1,
    leaving: false,
    store: null,
  }));
  const map = initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members, manager: ME });
  const log = (id: number, kind: "mount" | "manager", member: number) => ({
    id: id as LogId,
    kind,
    member: member as MemberId,
    process: `${id}`,
    state: "live" as const,
    groups: [],
    end: null,
    label: "",
  });
  return {
    ...map,
    version,
    nextLog: 10,
    logs: [log(MOUNT_LOG, "mount", 3), log(MY_LOG, "manager", 1), log(OTHERS_LOG, "manager", 3)],
    slots: map.slots.map((row, slot) => ({
      ...row,
      manager: (terms.get(slot)?.manager ?? (slot < 32 ? 1 : 2)) as MemberId,
      term: terms.get(slot)?.term ?? 5,
    })),
  };
}

/** Says that nothing is live, of the slots that a map gives a member. */
function answerOf(map: ClusterMap, member: number, changes: Partial<Answer> = {}): Answer {
  const slots = map.slots.flatMap(({ manager }, slot) => (manager === member ? [slot] : []));
  const terms = slots.map((slot) => map.slots[slot]?.term ?? 0);
  return { version: map.version, trimmedTo: 100, live: [], slots, terms, ...changes };
}

interface Bench {
  readonly cluster: LiveInCluster;
  readonly asked: Array<{ member: number; sequences: readonly number[] }>;
}

/** Managers that answer by the script; one without an answer is silent. `newest`: what the keepers have. `known`: how far the asking one knows the log to be trimmed. */
function bench(map: ClusterMap, answers: ReadonlyMap<number, Answer | (() => Answer)>, newest = map, known = 100): Bench {
  const asked: Bench["asked"] = [];
  const said = (member: number) => {
    const answer = answers.get(member);
    return typeof answer === "function" ? answer() : answer;
  };
  const cache = new MapCache({ read: async () => newest, compareAndSwap: async () => {} }, map);
  const peers = {
    call: async (member: MemberId, _name: string, { sequences }: Request<"liveAmong">) => {
      asked.push({ member, sequences });
      const reply = said(member);
      if (reply === undefined) throw new DazzleError("unreachable", "nobody listens");
      return { reply, tail: [] };
    },
  } as unknown as Peers;
  const here = { trimmedTo: () => known, answer: async () => said(ME) } as unknown as LiveHere;
  return { cluster: new LiveInCluster({ here, map: cache, peers, logger: () => {}, member: ME }), asked };
}

const judge = async ({ cluster }: Bench, log: number, segments: readonly Segment[], silent = new Set<MemberId>()) =>
  [...(await cluster.judge(log, segments, silent)).entries()].sort(([one], [other]) => one - other);

test("what all managers concerned say decides, and nobody else is asked", async (t) => {
  const map = mapOf(3);
  const answers = new Map([
    [1, answerOf(map, 1, { live: [11] })],
    [2, answerOf(map, 2, { live: [13] })],
  ]);
  const all = bench(map, answers);
  const segments = [
    { sequence: 11, slots: only(1, 40) },
    { sequence: 12, slots: only(1, 40) },
    { sequence: 13, slots: only(1, 40) },
    { sequence: 14, slots: only(1) },
    { sequence: 101, slots: only(1) },
  ];
  t.deepEqual(await judge(all, MOUNT_LOG, segments), [
    [11, "live"],
    [12, "dead"],
    [13, "live"],
    [14, "dead"],
    // It is not trimmed.
    [101, "live"],
  ]);
  t.deepEqual(all.asked, [{ member: 2, sequences: [12, 13] }]);
});

test("who needs nothing of a segment before it is known to be trimmed is asked once more", async (t) => {
  const map = mapOf(3);
  const segment = { sequence: 1, slots: only(1, 40) };
  const asked = async (...second: Answer[]) => {
    const answers = new Map<number, Answer | (() => Answer)>([
      [1, answerOf(map, 1)],
      [2, () => second.shift() as Answer],
    ]);
    const cluster = bench(map, answers, map, 0);
    return { verdicts: await judge(cluster, MOUNT_LOG, [segment]), questions: cluster.asked.length };
  };
  // It had yet to apply the segment as it was asked first; meanwhile it has, and the log is trimmed.
  t.deepEqual(await asked(answerOf(map, 2, { trimmedTo: 0 }), answerOf(map, 2, { live: [1] })), { verdicts: [[1, "live"]], questions: 2 });
  t.deepEqual(await asked(answerOf(map, 2), answerOf(map, 2, { trimmedTo: 0 })), { verdicts: [[1, "dead"]], questions: 2 });
});

test("where a manager that is concerned is silent, it is not decided", async (t) => {
  const map = mapOf(3);
  const silent = bench(map, new Map([[1, answerOf(map, 1)]]));
  t.deepEqual(await judge(silent, MOUNT_LOG, [{ sequence: 1, slots: only(1, 40) }]), [[1, "open"]]);
  t.deepEqual(await judge(silent, MOUNT_LOG, [{ sequence: 1, slots: only(1) }]), [[1, "dead"]]);
});

test("a slot that is on its way when it is asked about is spoken for by neither manager", async (t) => {
  const before = mapOf(3);
  const after = mapOf(4, new Map([[40, { manager: 1, term: 6 }]]));
  const without = (answer: Answer) => ({
    ...answer,
    slots: answer.slots.filter((slot) => slot !== 40),
    terms: answer.terms.slice(0, answer.slots.length - (answer.slots.includes(40) ? 1 : 0)),
  });
  const segment = { sequence: 1, slots: only(1, 40) };
  // The old owner has given it up, the new one has not read it yet.
  const moving = new Map([
    [1, answerOf(before, 1)],
    [2, without({ ...answerOf(before, 2), version: 4 })],
  ]);
  t.deepEqual(await judge(bench(before, moving, after), MOUNT_LOG, [segment]), [[1, "open"]]);
  // The old owner still says that nothing of it is there, and somebody knows already that it is not the owner any more.
  const stale = new Map([
    [1, { ...answerOf(before, 1), version: 4 }],
    [2, answerOf(before, 2)],
  ]);
  t.deepEqual(await judge(bench(before, stale, after), MOUNT_LOG, [segment]), [[1, "open"]]);
  // The new one has it.
  const moved = new Map([
    [1, answerOf(after, 1)],
    [2, answerOf(after, 2)],
  ]);
  t.deepEqual(await judge(bench(before, moved, after), MOUNT_LOG, [segment]), [[1, "dead"]]);
});

test("sorted runs in a manager's log may be of any slot, and its writer says how far it is trimmed", async (t) => {
  const map = mapOf(3);
  const segments = [
    { sequence: 1, slots: NO_SLOTS },
    { sequence: 60, slots: NO_SLOTS },
  ];
  const own = bench(
    map,
    new Map([
      [1, answerOf(map, 1)],
      [2, answerOf(map, 2, { live: [60] })],
    ]),
  );
  t.deepEqual(await judge(own, MY_LOG, segments), [
    [1, "dead"],
    [60, "live"],
  ]);
  const unknown = { trimmedTo: 0 };
  const others = new Map([
    [1, answerOf(map, 1, unknown)],
    [2, answerOf(map, 2, unknown)],
    [3, answerOf(map, 3, { trimmedTo: 50 })],
  ]);
  t.deepEqual(await judge(bench(map, others, map, 0), OTHERS_LOG, segments), [
    [1, "dead"],
    [60, "live"],
  ]);
  others.delete(3);
  t.deepEqual(await judge(bench(map, others, map, 0), OTHERS_LOG, segments), [
    [1, "open"],
    [60, "open"],
  ]);
});

test("of a segment of which nothing is known every slot is asked", async (t) => {
  const map = mapOf(3);
  const answers = new Map([
    [1, answerOf(map, 1)],
    [2, answerOf(map, 2)],
  ]);
  t.deepEqual(await judge(bench(map, answers), MOUNT_LOG, [{ sequence: 1, slots: ALL_SLOTS }]), [[1, "dead"]]);
  answers.set(2, { ...answerOf(map, 2), slots: [32], terms: [5] });
  t.deepEqual(await judge(bench(map, answers), MOUNT_LOG, [{ sequence: 1, slots: ALL_SLOTS }]), [[1, "open"]]);
});

test("a manager that did not answer is not asked again by who remembers that, and nothing is dead without it", async (t) => {
  const map = mapOf(3);
  const silent = new Set<MemberId>();
  const cluster = bench(map, new Map([[1, answerOf(map, 1)]]));
  const segments = [{ sequence: 1, slots: ALL_SLOTS }];
  for (let round = 0; round < 3; round++) t.deepEqual(await judge(cluster, MOUNT_LOG, segments, silent), [[1, "open"]]);
  t.deepEqual([...silent], [2]);
  t.is(cluster.asked.length, 1);
  // The writer of a log is asked for how far it is trimmed.
  const own = bench(map, new Map([1, 2].map((member) => [member, answerOf(map, member)])));
  t.deepEqual(await judge(own, OTHERS_LOG, segments, new Set([3 as MemberId])), [[1, "open"]]);
  t.deepEqual(
    own.asked.map(({ member }) => member),
    [2],
  );
});
