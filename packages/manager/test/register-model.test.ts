import test from "ava";
import { checkSafety } from "../../core/test/support/spin.ts";

const MODEL = new URL("../model/register.pml", import.meta.url);

test.serial("the register is one line of maps in every interleaving of its model, whose keepers change", async (t) => {
  t.timeout(1_200_000);
  const { failed, states } = await checkSafety(MODEL, ["ROUNDS=3"]);
  t.is(failed, undefined);
  t.true(states > 100_000);
});

test.serial("what the model's reader takes for decided is, and is of now", async (t) => {
  t.timeout(600_000);
  const { failed, states } = await checkSafety(MODEL, ["ROUNDS=2", "READER"]);
  t.is(failed, undefined);
  t.true(states > 100_000);
});

for (const [bug, rounds, definitions, what] of [
  ["a keeper answers before its promise is on disk", 3, ["FORGETS"], /line/],
  ["the new keepers decide the joint map without the former ones", 3, ["ALONE"], /line/],
  ["a map follows one that is not known to be decided", 3, ["HASTE"], /line/],
  ["a reader takes the first answer", 2, ["READER", "CREDULOUS"], /floor/],
] as const) {
  test.serial(`planted in the model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(MODEL, [`ROUNDS=${rounds}`, ...definitions])).failed ?? "nothing", what);
  });
}
