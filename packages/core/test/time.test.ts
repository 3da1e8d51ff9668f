import { DazzleError, deferred, sleep, withDeadline } from "@dazzle/core";
import test from "ava";
import { ManualClock } from "./support/manual-clock.ts";

test("sleep lasts as long as it was told, or until its signal", async (t) => {
  const clock = new ManualClock();
  const done = sleep(clock, 100);
  clock.advance(99);
  t.is(clock.timers, 1);
  clock.advance(1);
  await done;
  const controller = new AbortController();
  const cut = sleep(clock, 100, controller.signal);
  controller.abort();
  t.like(await t.throwsAsync(cut, { instanceOf: DazzleError }), { code: "cancelled" });
  t.like(await t.throwsAsync(sleep(clock, 100, controller.signal), { instanceOf: DazzleError }), { code: "cancelled" });
  t.is(clock.timers, 0);
});

test("a deadline rejects with what it waited for, and leaves no timer behind a promise that settled", async (t) => {
  const clock = new ManualClock();
  const never = withDeadline(clock, 50, "the flush", deferred().promise);
  clock.advance(50);
  t.like(await t.throwsAsync(never, { instanceOf: DazzleError }), { code: "timedOut", message: "timedOut: the flush took over 50 ms" });
  t.is(await withDeadline(clock, 50, "it", Promise.resolve(3)), 3);
  await t.throwsAsync(withDeadline(clock, 50, "it", Promise.reject(new Error("no"))), { message: "no" });
  t.is(clock.timers, 0);
});

test("a rejected deferred that nobody waits for does not stop the process", async (t) => {
  deferred().reject(new Error("nobody listens"));
  await new Promise((resolve) => setImmediate(resolve));
  t.pass();
});
