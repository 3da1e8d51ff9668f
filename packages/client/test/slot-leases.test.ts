import test from "ava";
import { SlotLeases } from "../src/expulsion/slot-leases.ts";

const [HERE, MOVED] = [3, 7];

test("a lease counts for the slots that its manager has, and in one that it gave away as before", (t) => {
  const leases = new SlotLeases();
  leases.given([HERE, MOVED], 10_000);
  leases.given([HERE], 30_000);
  t.deepEqual([leases.endMs(HERE), leases.endMs(MOVED), leases.endMs(0)], [30_000, 10_000, 0]);
  leases.given([MOVED], 12_000);
  t.is(leases.endMs(MOVED), 12_000);
  // Whoever has it now waits for what was given before.
  leases.given([MOVED], 11_000);
  t.is(leases.endMs(MOVED), 12_000);
});

test("what is held in a slot lapses once, where the lease for it does not last any longer", (t) => {
  const leases = new SlotLeases();
  t.deepEqual(leases.lapsed(0), []);
  leases.given([HERE, MOVED], 10_000);
  t.deepEqual(leases.lapsed(9_999), []);
  leases.given([HERE], 30_000);
  t.deepEqual(leases.lapsed(10_000), [MOVED]);
  t.deepEqual(leases.lapsed(10_001), []);
  leases.given([MOVED], 12_000);
  t.deepEqual(leases.lapsed(11_000), []);
  t.deepEqual(leases.lapsed(40_000), [HERE, MOVED]);
});
