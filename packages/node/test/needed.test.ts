import type { LogRow, MapCache, Peers, Reply, Request } from "@dazzle/core";
import test from "ava";
import { askNeeded } from "../src/needed.ts";

const LOG = { id: 7, kind: "mount", state: "live", end: null } as unknown as LogRow;

/** Two slots, each with its manager under term 3, who answer this; `later` when they are asked once more. In version 2 of the map the second slot is another's, under term 4. */
async function askTwice(answers: readonly Partial<Reply<"liveAmong">>[], later: typeof answers, log = LOG) {
  const slots = answers.map((_, index) => ({ manager: index + 1, term: 3 }));
  const asked: (readonly number[])[][] = answers.map(() => []);
  const peers = {
    call: async (member: number, _message: string, { sequences }: Request<"liveAmong">) => {
      const before = asked[member - 1]?.push(sequences) ?? 0;
      const told = (before > 1 ? later : answers)[member - 1];
      return { reply: { version: 1, trimmedTo: 0, live: [], slots: [member - 1], terms: [3], ...told } };
    },
  };
  const map = {
    current: { slots },
    reach: async (version: number) => {
      if (version > 1) map.current = { slots: [...slots.slice(0, 1), { manager: 9, term: 4 }] };
    },
  };
  const needed = await askNeeded(map as unknown as MapCache, peers as unknown as Peers, log, [4, 5, 6]);
  return { needed, asked: asked[0] };
}

async function askTold(answers: readonly Partial<Reply<"liveAmong">>[], log = LOG) {
  return (await askTwice(answers, answers, log)).needed;
}

test("how far a log is trimmed is no more than its end, or what was asked about", async (t) => {
  t.is((await askTold([{ trimmedTo: Number.MAX_SAFE_INTEGER }, {}])).trimmedTo, 6);
  t.is((await askTold([{ trimmedTo: Number.MAX_SAFE_INTEGER }, {}], { ...LOG, state: "closed", end: 9 })).trimmedTo, 9);
  t.is((await askTold([{ trimmedTo: 5 }, { trimmedTo: 4 }])).trimmedTo, 5);
});

test("a slot's former manager does not speak for it", async (t) => {
  t.deepEqual((await askTold([{ live: [4] }, { live: [6], terms: [4] }])).live, new Set([4, 6]));
  t.is((await askTold([{ live: [4] }, { terms: [2] }])).live, null);
  t.is((await askTold([{ version: 2 }, {}])).live, null, "who answers knows of another manager");
  t.deepEqual((await askTold([{ version: 2 }, { terms: [4] }])).live, new Set());
});

test("a manager that did not know a segment to be trimmed is asked once more whether it needs it", async (t) => {
  const answers = [{ trimmedTo: 6, live: [4] }, { trimmedTo: 3 }];
  const { needed, asked } = await askTwice(answers, [{ trimmedTo: 9 }, { trimmedTo: 9, live: [5] }]);
  t.deepEqual(needed, { live: new Set([4, 5]), trimmedTo: 6 });
  t.deepEqual(asked, [
    [4, 5, 6],
    [5, 6],
  ]);
  t.is((await askTwice(answers, [{}, { terms: [2] }])).needed.live, null);
});

test("what is known to be trimmed, or is not, is asked about once", async (t) => {
  t.deepEqual((await askTwice([{ trimmedTo: 3 }, {}], [])).asked, [[4, 5, 6]]);
  t.deepEqual((await askTwice([{}, {}], [], { ...LOG, state: "closed", end: 9 })).asked, [[4, 5, 6]]);
});
