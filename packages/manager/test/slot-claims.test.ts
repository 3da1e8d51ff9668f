import type { Request } from "@dazzle/core";
import { type Manager, managerHandlers } from "@dazzle/manager";
import test from "ava";
import { MountSession } from "../src/mounts/mount-session.ts";
import { SlotClaims } from "../src/mounts/slot-claims.ts";
import { TokenTable } from "../src/tokens/token-table.ts";

function watched(promise: Promise<void>): { done: boolean } {
  const state = { done: false };
  void promise.then(() => {
    state.done = true;
  });
  return state;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("a slot waits for each mount that may hold something, until it has claimed under the slot's term or is gone", async (t) => {
  const claims = new SlotClaims();
  const opening = watched(claims.awaitClaims(7, 3, [11, 12, 13]));
  t.is(claims.termOf(7), 3);
  claims.claimed(11, 7, 3);
  claims.claimed(12, 7, 2);
  claims.claimed(13, 8, 3);
  await turn();
  t.false(opening.done);
  t.deepEqual([...claims.awaited()], [12, 13]);
  claims.claimed(12, 7, 3);
  claims.gone(13);
  await turn();
  t.true(opening.done);
  t.is(claims.termOf(7), undefined);
});

test("a slot that nobody holds anything in waits for nobody", async (t) => {
  const opening = watched(new SlotClaims().awaitClaims(7, 3, []));
  await turn();
  t.true(opening.done);
});

test("a mount that is gone is not awaited in any slot", async (t) => {
  const claims = new SlotClaims();
  const first = watched(claims.awaitClaims(1, 2, [11]));
  const second = watched(claims.awaitClaims(2, 2, [11, 12]));
  claims.gone(11);
  await turn();
  t.deepEqual([first.done, second.done], [true, false]);
  claims.forget(2);
  await turn();
  t.true(second.done);
  t.deepEqual([...claims.awaited()], []);
});

const SLOT = 7;
const INO = SLOT + 64;
const MOUNT = 11;
const DUE_MS = 60_000;

/** A slot that waits for a mount, by what its manager answers; `at` sets when the next page comes. */
function opening() {
  const claims = new SlotClaims();
  void claims.awaitClaims(SLOT, 3, [MOUNT]);
  const session = new MountSession(MOUNT, 0);
  const tokens = new TokenTable();
  const parts = { mounts: { heard: () => session }, tokens, claims, host: { shard: () => ({ term: 3 }) } };
  const handlers = managerHandlers({ whenSlotLoaded: async () => parts } as unknown as Manager);
  const claim = async (page: number, more: boolean, rows: Partial<Request<"claims">> = {}) => {
    const none = { exclusive: [], shared: [], ranges: [], opens: [], numbers: [] };
    await handlers.claims?.({ mount: MOUNT, slot: SLOT, term: 3, page, more, ...none, ...rows }, {} as never);
  };
  const at = (nowMs: number) => {
    session.hear(nowMs);
    session.watched(nowMs, { sleptMs: 0, hears: true, awaits: true });
  };
  return { session, tokens, claim, at };
}

test("a mount that claims the same pages over and over withholds the rest, one of which more comes does not", async (t) => {
  const { session, claim, at } = opening();
  await claim(0, true);
  at(30_000);
  await claim(0, true);
  await claim(1, true);
  at(50_000);
  await claim(0, true);
  await claim(1, true);
  t.false(session.withholdsClaims(30_000 + DUE_MS));
  t.true(session.withholdsClaims(30_001 + DUE_MS));
  await claim(2, false);
  t.false(session.withholdsClaims(50_000 + DUE_MS));
});

test("a mount of which no claim can be taken is none that says what it holds", async (t) => {
  const { session, tokens, claim, at } = opening();
  tokens.claim(12, INO, true);
  for (const nowMs of [20_000, 40_000]) {
    at(nowMs);
    await t.throwsAsync(claim(0, true, { exclusive: [INO] }), { message: /which another mount has/ });
  }
  t.true(session.withholdsClaims(1 + DUE_MS));
});
