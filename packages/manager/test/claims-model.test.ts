import test from "ava";
import { checkSafety } from "../../core/test/support/spin.ts";

const MODEL = new URL("../model/claims.pml", import.meta.url);

test.serial("what mounts hold in a slot that changes hands nobody else gets, in every interleaving of its model", async (t) => {
  t.timeout(600_000);
  const checked = await checkSafety(MODEL);
  t.is(checked.failed, undefined);
  t.true(checked.states > 400_000);
});

for (const [bug, definition, what] of [
  ["a mount is granted something before it is stable that it may hold something", "UNHELD", /alone/],
  ["a grant of the owner before counts that comes when the mount has claimed", "LATE", /alone/],
  ["a slot opens though a mount that is awaited neither claimed nor is expelled", "IMPATIENT", /alone/],
  ["an expelled mount is not awaited any more before its lease is over", "LEASED", /alone/],
  ["an expelled mount is not awaited any more before its log is applied", "UNENDED", /fresh/],
  ["a mount has claimed before what it has done is applied at the new owner", "UNSHIPPED", /fresh/],
  ["a mount gives something back to the owner before when it knows of the next", "BELATED", /alone/],
  ["the token goes to another mount before what was done under it is stable", "UNSETTLED", /fresh/],
] as const) {
  test.serial(`planted in the model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(MODEL, [definition])).failed ?? "nothing", what);
  });
}
