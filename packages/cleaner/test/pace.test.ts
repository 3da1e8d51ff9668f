import test from "ava";
import { Pace } from "../src/pace.ts";

const MIB = 1024 * 1024;

function paceAfter(...tookMs: readonly number[]): Pace {
  const pace = new Pace();
  for (const ms of tookMs) pace.done({ segments: 8, bytes: 8 * MIB, tookMs: ms });
  return pace;
}

test("who takes longer than at its quickest works less, and as much as ever when that is over", (t) => {
  const idle = paceAfter(100, 100, 100);
  const busy = paceAfter(100, 100, 400, 400, 400, 400, 400);
  t.is(idle.shareAt(0), 0.05);
  t.true(busy.slowdown > 3 && busy.slowdown < 5);
  t.true(busy.shareAt(0) < 0.4 * idle.shareAt(0));
  for (let set = 0; set < 10; set++) busy.done({ segments: 8, bytes: 8 * MIB, tookMs: 100 });
  t.true(busy.shareAt(0) > 0.9 * idle.shareAt(0));
});

test("what is short is won whoever is busy, the more the shorter", (t) => {
  const busy = paceAfter(100, ...new Array<number>(50).fill(100_000));
  t.true(busy.shareAt(0) >= 0.005, "it never stops");
  const shares = [0, 0.25, 0.5, 0.75, 1].map((shortage) => busy.shareAt(shortage));
  t.deepEqual(
    shares,
    shares.toSorted((one, other) => one - other),
  );
  t.is(shares.at(-1), 1);
  t.is(paceAfter(100).shareAt(0.5), 0.5);
});

test("a cluster that has become slower for good is not busy for ever", (t) => {
  const pace = paceAfter(100);
  for (let set = 0; set < 400; set++) pace.done({ segments: 8, bytes: 8 * MIB, tookMs: 300 });
  t.true(pace.slowdown < 1.1);
});

test("work of nothing says nothing", (t) => {
  const pace = paceAfter(100);
  pace.done({ segments: 0, bytes: 0, tookMs: 50 });
  pace.done({ segments: 256, bytes: 0, tookMs: 5 });
  pace.done({ segments: 8, bytes: 8 * MIB, tookMs: 100 });
  t.is(pace.slowdown, 1);
});
