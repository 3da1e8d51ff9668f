import test from "ava";
import { checkProgress, checkSafety } from "../../core/test/support/spin.ts";

const TOKENS = new URL("../model/tokens.pml", import.meta.url);
const ORDER = new URL("../model/order.pml", import.meta.url);
const PAGES = new URL("../model/kernel-pages.pml", import.meta.url);
/** Enough threads that no read need fail. */
const PATIENT = ["PATIENT", "ROUNDS=1", "THREADS=3"];

for (const [what, definitions, states] of [
  ["a longer lease", ["WRITES=2", "LEASE=3"], 500_000],
  ["connections that break", ["BREAKS=1"], 500_000],
] as const) {
  test.serial(`one token serves one mount, also over expulsions, in every interleaving of its model: ${what}`, async (t) => {
    t.timeout(600_000);
    const checked = await checkSafety(TOKENS, definitions);
    t.is(checked.failed, undefined);
    t.true(checked.states > states);
  });
}

test.serial("whoever asks for a token in its model uses it, again and again", async (t) => {
  t.timeout(600_000);
  t.is((await checkProgress(TOKENS, ["FAIR"])).failed, undefined);
});

for (const [bug, definitions, what] of [
  ["a grant counts though the revoke that follows it came first", ["UNCOUNTED"], /fresh|alone/],
  ["a token is given back before what was changed under it is applied", ["UNSETTLED"], /fresh|alone/],
  ["a token is given back before the kernel has dropped its pages", ["LAZY"], /fresh|alone/],
  ["a lease counts from when its answer comes", ["ANSWER"], /fresh|alone/],
  ["the kernel keeps its pages as the lease ends", ["UNGUARDED"], /fresh|alone/],
  ["an expelled mount's tokens are free before its lease is over", ["EAGER"], /fresh|alone/],
  ["an expelled mount's log is applied before it is sealed", ["UNSEALED"], /kept/],
  ["a mount rejoins with what the kernel had cached", ["KEEPS"], /fresh|alone/],
] as const) {
  test.serial(`planted in the model of a token, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(TOKENS, definitions)).failed ?? "nothing", what);
  });
}

for (const [bug, model, definitions] of [
  ["a token may go before who asked for it has used it", TOKENS, ["FAIR", "UNPINNED"]],
  ["a revoke is looked at before the grant that came first", TOKENS, ["FAIR", "OVERTAKES"]],
  ["nobody keeps the tokens that it has while it asks for the rest", ORDER, ["NEVER"]],
] as const) {
  test.serial(`planted in a model, this is found to starve a mount: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkProgress(model, definitions)).failed ?? "nothing", /non-progress cycle/);
  });
}

test.serial("operations that need two tokens run, again and again, and never wait in a circle", async (t) => {
  t.timeout(600_000);
  t.is((await checkSafety(ORDER, [], { ends: true })).failed, undefined);
  t.is((await checkProgress(ORDER)).failed, undefined);
});

for (const definitions of [["THREADS=1"], ["READERS=3"], PATIENT]) {
  test.serial(`the kernel's pages are dropped whatever reads wait: ${definitions.join(" ")}`, async (t) => {
    t.timeout(600_000);
    t.is((await checkSafety(PAGES, definitions, { ends: true })).failed, undefined);
  });
}

for (const [bug, model, definitions, what] of [
  ["who keeps tokens asks for the rest in its own order", ORDER, ["OWN_ORDER"], /invalid end state/],
  ["the pages of reads that wait are not left out", PAGES, [...PATIENT, "WHOLE"], /invalid end state/],
  ["what was sent is not sent anew when a read comes in between", PAGES, [...PATIENT, "ONCE"], /invalid end state/],
  ["reads never fail, and there are fewer threads than reads", PAGES, ["PATIENT", "THREADS=1"], /invalid end state/],
  ["what was answered while pages were dropped stays", PAGES, ["PASSED"], /fresh/],
  ["a read that waited is answered by what was so before", PAGES, ["LEFT_OUT"], /fresh/],
] as const) {
  test.serial(`planted in a model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(model, definitions, { ends: true })).failed ?? "nothing", what);
  });
}
