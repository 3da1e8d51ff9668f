import test from "ava";
import { checkSafety } from "../../core/test/support/spin.ts";

const MODEL = new URL("../model/parts.pml", import.meta.url);

test.serial("writers of parts of a file are apart, and its size is right, in every interleaving of their model", async (t) => {
  t.timeout(600_000);
  const checked = await checkSafety(MODEL);
  t.is(checked.failed, undefined);
  t.true(checked.states > 100_000);
});

for (const [bug, definition, what] of [
  ["a range is given back before what was written under it is applied", "UNAPPLIED", /exact/],
  ["a grant counts though the revoke that follows it came first", "OVERTAKEN", /exact/],
  ["a mount keeps some of what another one wants", "GREEDY", /apart/],
  ["who has a range gets all of the file without giving that back first", "OWN", /exact/],
  ["a range is granted as wide as the file, whoever has some of it", "WIDE", /apart/],
  ["an expelled mount's ranges are free before its log is applied", "LOST", /exact/],
  ["who writes in a range ships what the size is, and not a merge", "ABSOLUTE", /exact/],
] as const) {
  test.serial(`planted in the model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(MODEL, [definition])).failed ?? "nothing", what);
  });
}
