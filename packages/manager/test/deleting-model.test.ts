import test from "ava";
import { checkSafety } from "../../core/test/support/spin.ts";

const MODEL = new URL("../model/deleting.pml", import.meta.url);

for (const [what, definitions] of [
  ["two managers that judge at once", ["MOVES=1", "NO_CLEANER", "JUDGES"]],
  ["a cleaner, and slots that change hands", ["MOVES=1"]],
] as const) {
  test.serial(`a segment is deleted when nobody needs it, in every interleaving of its model: ${what}`, async (t) => {
    t.timeout(600_000);
    const checked = await checkSafety(MODEL, definitions);
    t.is(checked.failed, undefined);
    t.true(checked.states > 1_000_000);
  });
}

for (const [bug, definition, what] of [
  ["a segment without live bytes is deleted, be its log trimmed or not", "UNTRIMMED", /unneeded/],
  ["that a segment is trimmed may become known after somebody has looked", "LATE", /unneeded/],
  ["a log is trimmed to what is applied, and not yet stable", "APPLIED", /unneeded/],
  ["a manager needs nothing before what emptied the segment is stable", "UNSETTLED", /unneeded/],
  ["a manager deletes on its own word", "ALONE", /unneeded/],
  ["a slot for which nobody speaks needs nothing", "UNCOVERED", /unneeded/],
  ["who is told that a log is trimmed need not know of the teller's map", "DEAF", /unneeded/],
  ["a relocation is applied wherever the block is", "BLIND", /isNewest/],
  ["a cleaner's segment needs no trimming", "SLOPPY", /unneeded/],
] as const) {
  test.serial(`planted in the model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(MODEL, ["MOVES=1", definition])).failed ?? "nothing", what);
  });
}
