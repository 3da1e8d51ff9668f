import type { MemberId } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { HEDGES_MAX, LATE_MIN_MS, ReadTimes } from "../src/read-times.ts";

const MAX_MS = 300;
const [ONE, OTHER] = [1, 2] as [MemberId, MemberId];

test("a read is late after the longest time at first, and after some times what nearly all take once that is known, of each server alone", (t) => {
  const { random } = new World(1);
  const times = new ReadTimes(MAX_MS);
  t.is(times.lateAfterMs(ONE), MAX_MS);
  for (let read = 0; read < 1_000; read++) {
    times.answered(ONE, random.below(100) < 3 ? 200 : random.between(10, 20));
    times.answered(OTHER, random.between(0, 2));
  }
  const lateMs = times.lateAfterMs(ONE);
  t.true(lateMs > 20 && lateMs < 90, `${lateMs}`);
  t.is(times.lateAfterMs(OTHER), LATE_MIN_MS);
});

test("a server that becomes slower is waited for longer within some answers, within bounds, and one that becomes faster less", (t) => {
  const times = new ReadTimes(MAX_MS);
  const answer = (count: number, tookMs: number) => {
    for (let read = 0; read < count; read++) times.answered(ONE, tookMs);
  };
  answer(1_000, 8);
  t.true(times.lateAfterMs(ONE) < 20);
  answer(20, 100);
  t.true(times.lateAfterMs(ONE) > 100);
  answer(100, 5_000);
  t.is(times.lateAfterMs(ONE), MAX_MS);
  answer(1_000, 8);
  t.true(times.lateAfterMs(ONE) < 20);
});

test("of reads that are all late, few are asked twice", (t) => {
  const times = new ReadTimes(MAX_MS);
  let hedged = 0;
  for (let read = 0; read < 1_000; read++) {
    times.asked(ONE, read);
    if (times.tryHedge()) hedged++;
  }
  t.true(hedged >= 50 && hedged <= 50 + HEDGES_MAX, `${hedged}`);
});

test("a server is silent where it answers nothing for the longest time, and not because one answer is missing", (t) => {
  const times = new ReadTimes(MAX_MS);
  times.asked(ONE, 0);
  t.false(times.isSilent(ONE, MAX_MS - 1));
  t.true(times.isSilent(ONE, MAX_MS));
  t.false(times.isSilent(OTHER, MAX_MS));
  times.asked(ONE, 200);
  times.answered(ONE, 50);
  t.false(times.isSilent(ONE, MAX_MS));
  times.asked(ONE, 1_000);
  times.failed(ONE);
  t.false(times.isSilent(ONE, 2_000));
});
