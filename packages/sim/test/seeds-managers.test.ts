import { runScenario } from "@dazzle/sim";
import test from "ava";

const SEEDS = 12;
/** What must have happened somewhere in them. */
const EXPECTED = [
  "moveSlots",
  "killManager",
  "killMount",
  "killAll",
  "cutAll",
  "expelManager",
  "manager.recovered",
  "manager.deletedSegments",
];

test("with three managers whose slots move: everything acknowledged survives, and nothing is left that nobody needs", async (t) => {
  t.timeout(1_200_000);
  const totals = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { counts } = await runScenario({ seed, managers: 3 });
    for (const [what, times] of counts) totals.set(what, (totals.get(what) ?? 0) + times);
  }
  t.deepEqual(
    EXPECTED.filter((what) => (totals.get(what) ?? 0) === 0),
    [],
  );
});
