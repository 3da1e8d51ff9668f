import type { ClusterMap, MemberId } from "@dazzle/core";
import { SLOTS } from "@dazzle/core";
import test from "ava";
import { MovedSlots } from "../src/expulsion/moved-slots.ts";

const [A, B] = [1 as MemberId, 2 as MemberId];
const SLOT = 7;

function mapWith(manager: MemberId | null): ClusterMap {
  const slots = Array.from({ length: SLOTS }, (_, slot) => ({ manager: slot === SLOT ? manager : A }));
  return { slots } as unknown as ClusterMap;
}

function make() {
  const leases = new Map([[A, 10_000]]);
  return { leases, moved: new MovedSlots(mapWith(A), (member) => leases.get(member) ?? 0) };
}

test("what was held in a slot that moved goes when the lease of the move ends, though the old manager renews what is left there", (t) => {
  const { leases, moved } = make();
  moved.learn(mapWith(B));
  leases.set(A, 30_000);
  t.false(moved.mustDrop(9_999));
  t.true(moved.mustDrop(10_000));
  t.false(moved.mustDrop(10_001));
});

test("it stays where the new manager has given a lease meanwhile", (t) => {
  const { leases, moved } = make();
  moved.learn(mapWith(B));
  leases.set(B, 12_000);
  t.false(moved.mustDrop(10_000));
  t.false(moved.mustDrop(15_000));
});

test("a slot that has no manager for a while counts from where it was taken away", (t) => {
  const { leases, moved } = make();
  moved.learn(mapWith(null));
  leases.set(A, 30_000);
  moved.learn(mapWith(B));
  t.true(moved.mustDrop(10_000));
});

test("where there was no lease, nothing is held", (t) => {
  const { leases, moved } = make();
  leases.clear();
  moved.learn(mapWith(B));
  t.false(moved.mustDrop(50_000));
});
