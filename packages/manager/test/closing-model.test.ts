import test from "ava";
import { checkProgress, checkSafety } from "../../core/test/support/spin.ts";

const MODEL = new URL("../model/closing.pml", import.meta.url);

test.serial("nothing is moved into a cleaner's log that is closed, in every interleaving of its model", async (t) => {
  t.timeout(600_000);
  const checked = await checkSafety(MODEL);
  t.is(checked.failed, undefined);
  t.true(checked.states > 50_000);
});

test.serial("the log of a cleaner that is gone is closed in the end", async (t) => {
  t.timeout(600_000);
  t.is((await checkProgress(MODEL, ["REST"])).failed, undefined);
});

test.serial("planted in the model, this is found: who is asked does not read a newer map, and the log is never closed", async (t) => {
  t.timeout(600_000);
  t.regex((await checkProgress(MODEL, ["REST", "DEAF"])).failed ?? "nothing", /non-progress/);
});

for (const [bug, definition] of [
  ["a manager answers before it has moved what it had let in", "EARLY"],
  ["a manager answers though in its map the log is live", "LIVE"],
  ["whether the log is live is looked at when a request comes, and not in its turn", "ARRIVED"],
  ["a slot for which nobody spoke counts as one into which nothing is moved", "UNCOVERED"],
  ["it does not matter under which term a slot was spoken for", "OLD"],
] as const) {
  test.serial(`planted in the model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(MODEL, [definition])).failed ?? "nothing", /unnamed/);
  });
}
