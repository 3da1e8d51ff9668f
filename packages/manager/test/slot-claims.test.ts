import test from "ava";
import { SlotClaims } from "../src/mounts/slot-claims.ts";

function watched(promise: Promise<void>): { done: boolean } {
  const state = { done: false };
  void promise.then(() => {
    state.done = true;
  });
  return state;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("a slot waits for each mount that may hold something, until it has claimed under the slot's term or is gone", async (t) => {
  const claims = new SlotClaims();
  const opening = watched(claims.awaitClaims(7, 3, [11, 12, 13]));
  t.is(claims.termOf(7), 3);
  claims.claimed(11, 7, 3);
  claims.claimed(12, 7, 2);
  claims.claimed(13, 8, 3);
  await turn();
  t.false(opening.done);
  t.deepEqual([...claims.awaited()], [12, 13]);
  claims.claimed(12, 7, 3);
  claims.gone(13);
  await turn();
  t.true(opening.done);
  t.is(claims.termOf(7), undefined);
});

test("a slot that nobody holds anything in waits for nobody", async (t) => {
  const opening = watched(new SlotClaims().awaitClaims(7, 3, []));
  await turn();
  t.true(opening.done);
});

test("a mount that is gone is not awaited in any slot", async (t) => {
  const claims = new SlotClaims();
  const first = watched(claims.awaitClaims(1, 2, [11]));
  const second = watched(claims.awaitClaims(2, 2, [11, 12]));
  claims.gone(11);
  await turn();
  t.deepEqual([first.done, second.done], [true, false]);
  claims.forget(2);
  await turn();
  t.true(second.done);
  t.deepEqual([...claims.awaited()], []);
});
