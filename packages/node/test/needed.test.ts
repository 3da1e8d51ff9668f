import type { LogRow, MapCache, Peers, Reply } from "@dazzle/core";
import test from "ava";
import { askNeeded } from "../src/needed.ts";

const LOG = { id: 7, kind: "mount", state: "live", end: null } as unknown as LogRow;

/** Two slots, each with its manager under term 3, who answer this. */
function askTold(answers: readonly Partial<Reply<"liveAmong">>[], log = LOG) {
  const slots = answers.map((_, index) => ({ manager: index + 1, term: 3 }));
  const peers = {
    call: async (member: number) => ({
      reply: { version: 1, trimmedTo: 0, live: [], slots: [member - 1], terms: [3], ...answers[member - 1] },
    }),
  };
  return askNeeded({ current: { slots } } as unknown as MapCache, peers as unknown as Peers, log, [4, 5, 6]);
}

test("how far a log is trimmed is no more than its end, or what was asked about", async (t) => {
  t.is((await askTold([{ trimmedTo: Number.MAX_SAFE_INTEGER }, {}])).trimmedTo, 6);
  t.is((await askTold([{ trimmedTo: Number.MAX_SAFE_INTEGER }, {}], { ...LOG, state: "closed", end: 9 })).trimmedTo, 9);
  t.is((await askTold([{ trimmedTo: 5 }, { trimmedTo: 4 }])).trimmedTo, 5);
});

test("a slot's former manager does not speak for it", async (t) => {
  t.deepEqual((await askTold([{ live: [4] }, { live: [6], terms: [4] }])).live, new Set([4, 6]));
  t.is((await askTold([{ live: [4] }, { terms: [2] }])).live, null);
});
