import { type Candidate, choose, oldestFirst, type Policy, shortageOf } from "@dazzle/cleaner";
import { logId, sequence } from "@dazzle/core";
import test from "ava";

const FULL = 1024 * 1024;
const EVERY_POLICY: readonly Policy[] = ["greedy", "costBenefit", "adaptive"];

/** A segment of log 1, of which `share` lives. */
function segment(at: number, share: number, age = 10, bytes = FULL): Candidate {
  return { log: logId(1), sequence: sequence(at), bytes, live: Math.round(share * bytes), age };
}

function chosen(candidates: readonly Candidate[], policy: Policy, shortage = 0, count = 8): number[] {
  return choose(candidates, { policy, shortage, count, segmentBytes: FULL }).map((each) => each.sequence);
}

test("greedy takes the emptiest first, however old", (t) => {
  t.deepEqual(chosen([segment(1, 0.4, 1000), segment(2, 0.1, 1), segment(3, 0.3, 10)], "greedy"), [2, 3, 1]);
});

test("cost-benefit takes an old segment before an emptier young one", (t) => {
  t.deepEqual(chosen([segment(1, 0.4, 1000), segment(2, 0.2, 1), segment(3, 0.2, 20)], "costBenefit"), [1, 3, 2]);
});

test("adaptive counts age, however short space is: what is hot is left to empty itself", (t) => {
  for (const shortage of [0, 1]) t.deepEqual(chosen([segment(1, 0.4, 1000), segment(2, 0.2, 1)], "adaptive", shortage), [1, 2]);
});

test("empty segments are not moved", (t) => {
  for (const policy of EVERY_POLICY) t.deepEqual(chosen([segment(1, 0), segment(2, 0.4)], policy), [2], policy);
});

test("nearly full segments are moved only where space is short, and full ones never", (t) => {
  const nearlyFull = [1, 2, 3, 4].map((at) => segment(at, 0.9));
  const full = [5, 6, 7, 8].map((at) => segment(at, 1));
  for (const policy of EVERY_POLICY) {
    t.deepEqual(chosen([...full, ...nearlyFull], policy, 0), [], policy);
    t.deepEqual(chosen([...full, ...nearlyFull], policy, 0.5), [1, 2, 3, 4], policy);
  }
});

test("small segments are merged though all in them lives, and one alone is left", (t) => {
  const small = [1, 2, 3].map((at) => segment(at, 1, 10, 4096));
  for (const policy of EVERY_POLICY) {
    t.deepEqual(chosen(small, policy), [1, 2, 3], policy);
    t.deepEqual(chosen(small.slice(0, 1), policy), [], policy);
  }
});

test("what is chosen from many is the best of all, in order", (t) => {
  const many = Array.from({ length: 10_000 }, (_, at) => segment(at + 1, ((at * 7919) % 9973) / 9973 + 0.0001));
  const inOrder = many.toSorted((one, other) => one.live - other.live);
  t.deepEqual(
    chosen(many, "greedy", 1, 50),
    inOrder.slice(0, 50).map((each) => each.sequence),
  );
});

test("shortage grows from none to all as space goes", (t) => {
  t.deepEqual(
    [0.9, 0.02, 0.0125, 0.005, 0].map((free) => Number(shortageOf(free).toFixed(3))),
    [0, 0, 0.5, 1, 1],
  );
});

test("survivors are written oldest first", (t) => {
  t.deepEqual(
    oldestFirst([segment(1, 1, 5), segment(2, 1, 50), segment(3, 1, 20)]).map(({ age }) => age),
    [50, 20, 5],
  );
});
