import type { LogId, Sequence } from "@dazzle/core";
import test from "ava";
import { SetAside } from "../src/set-aside.ts";
import type { StoredSegment } from "../src/survey.ts";

const MINUTE = 60_000;

function segment(sequence: number, seenMs: number, named = 100): StoredSegment {
  return {
    log: 3 as LogId,
    sequence: sequence as Sequence,
    groupVersion: 1,
    bytes: 1_000,
    live: Math.min(1_000, named),
    named,
    age: 0,
    seenMs,
  };
}

test("what is full is left alone for an hour, or until less lives in it", (t) => {
  const aside = new SetAside();
  aside.full([segment(1, 0, 500)], 0);
  t.true(aside.isFull(segment(1, 0, 500), 59 * MINUTE));
  t.false(aside.isFull(segment(1, 0, 500), 60 * MINUTE));
  t.false(aside.isFull(segment(1, 0, 440), MINUTE));
  t.false(aside.isFull(segment(2, 0, 500), MINUTE));
});

test("what is full and counted wrong, or may be, is still to be seen", (t) => {
  const aside = new SetAside();
  aside.full([segment(1, 0, 950), segment(2, 0, 950)], 0);
  aside.cleaned([segment(2, 0)], 0);
  t.true(aside.isOnlyFull(segment(1, 0, 950), MINUTE));
  t.false(aside.isOnlyFull(segment(1, 0, 1_001), MINUTE));
  t.false(aside.isOnlyFull(segment(2, 0, 950), MINUTE));
  t.false(aside.isOnlyFull(segment(3, 0, 950), MINUTE));
});

test("what is damaged is left alone for a while", (t) => {
  const aside = new SetAside();
  aside.skip([segment(1, 0)], 0);
  t.true(aside.has(segment(1, 0), 9 * MINUTE));
  t.false(aside.has(segment(1, 0), 11 * MINUTE));
  t.false(aside.has(segment(2, 0), 0));
});

test("what something passing was in the way of is left alone for a moment, longer each time, up to a minute", (t) => {
  const aside = new SetAside();
  const one = segment(1, 0);
  let nowMs = 0;
  const pauses: number[] = [];
  for (let tries = 0; tries < 6; tries++) {
    aside.postpone([one], nowMs);
    pauses.push((aside.nextRetryMs([segment(2, 0), one], nowMs) - nowMs) / 1_000);
    t.true(aside.has(one, nowMs));
    nowMs = aside.nextRetryMs([one], nowMs);
    t.false(aside.has(one, nowMs));
  }
  t.deepEqual(pauses, [5, 10, 20, 40, 60, 60]);
  t.is(aside.nextRetryMs([one], nowMs), Number.POSITIVE_INFINITY);
  aside.skip([one], nowMs);
  t.true(aside.has(one, nowMs + 9 * MINUTE));
  t.is(aside.nextRetryMs([one], nowMs), Number.POSITIVE_INFINITY);
});

test("what was cleaned is not cleaned again, and its count is wrong where it is still there after minutes, which is told once", (t) => {
  const aside = new SetAside();
  aside.cleaned([segment(1, 0), segment(2, 0)], 0);
  t.true(aside.has(segment(1, 0), 60 * MINUTE));
  t.deepEqual(aside.check([segment(1, MINUTE)]), [], "a large file that is being removed");
  t.is(aside.wrong, 0);
  t.deepEqual(
    aside.check([segment(1, 6 * MINUTE), segment(2, -1)]).map(({ sequence }) => Number(sequence)),
    [1],
    "not what was looked at before",
  );
  t.deepEqual(aside.check([segment(1, 7 * MINUTE)]), []);
  t.is(aside.wrong, 1);
  aside.keepOnly([segment(1, 8 * MINUTE)], 7 * MINUTE);
  t.is(aside.wrong, 1);
  aside.keepOnly([], 9 * MINUTE);
  t.is(aside.wrong, 0);
  t.false(aside.has(segment(1, 0), 10 * MINUTE));
});

test("what was cleaned after the looking began is not forgotten when that ends", (t) => {
  const aside = new SetAside();
  aside.cleaned([segment(1, 0)], 5 * MINUTE);
  aside.keepOnly([], 4 * MINUTE);
  t.true(aside.has(segment(1, 0), 6 * MINUTE));
});

test("what counted more than it holds once is not left alone any more when it counts no more than that", (t) => {
  const aside = new SetAside();
  aside.check([segment(1, 0, 1_001)]);
  t.true(aside.has(segment(1, 0), MINUTE));
  aside.check([segment(1, 6 * MINUTE, 1_001)]);
  t.is(aside.wrong, 1);
  t.deepEqual(aside.check([segment(1, 7 * MINUTE, 1_000)]), []);
  t.is(aside.wrong, 0);
  t.false(aside.has(segment(1, 0), 7 * MINUTE));
});

test("what counts more than it holds is wrong where that stays", (t) => {
  const aside = new SetAside();
  t.deepEqual(aside.check([segment(1, 0, 1_001), segment(2, 0, 1_000)]), []);
  t.is(aside.check([segment(1, 6 * MINUTE, 1_001)]).length, 1);
});
