import { DazzleError } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Waiters } from "../src/waiters.ts";

const DEADLINE_MS = 1_000;

function waiting() {
  const world = new World(1);
  const { clock } = world.spawn("writer").ports;
  const state = { progressMs: clock.nowMs(), holds: false };
  const reason = () => new DazzleError("unreachable", "s2");
  const waiters = new Waiters(clock, DEADLINE_MS, () => state.progressMs, reason);
  return { world, clock, state, waiters };
}

test("a waiter outlasts the deadline while something moves, and is turned away a deadline after the last move", async (t) => {
  const { world, clock, state, waiters } = waiting();
  let rejectedMs = 0;
  const wait = waiters.wait(() => state.holds);
  wait.catch(() => {
    rejectedMs = clock.nowMs();
  });
  for (let round = 0; round < 5; round++) {
    await world.advance(600);
    state.progressMs = clock.nowMs();
  }
  await t.throwsAsync(world.run(wait), { message: /s2/ });
  t.true(rejectedMs - state.progressMs >= DEADLINE_MS && rejectedMs - state.progressMs < DEADLINE_MS + 10);
});

test("a waiter is counted from when it came, not from when something moved last", async (t) => {
  const { world, state, waiters } = waiting();
  await world.advance(5_000);
  const wait = waiters.wait(() => state.holds);
  await world.advance(500);
  state.holds = true;
  waiters.check();
  await t.notThrowsAsync(world.run(wait));
});
