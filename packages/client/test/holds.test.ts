import { World } from "@dazzle/sim";
import test from "ava";
import { Asks } from "../src/asks.ts";
import { type Held, Holds } from "../src/holds.ts";

function fixture() {
  const world = new World(1);
  const { clock } = world.spawn("mount").ports;
  const held: Held = { pins: 0, heldUntilMs: 0, usedMs: 0, unpinned: null };
  const freed: number[] = [];
  const startMs = world.nowMs;
  const holds = new Holds(clock);
  const wait = () => {
    const waited = holds.whenFree(held);
    void (waited ?? Promise.resolve()).then(() => freed.push(Math.round(world.nowMs - startMs)));
    return waited;
  };
  return { world, holds, held, freed, wait };
}

test("a token that nobody waits with goes at once", (t) => {
  const { holds, held } = fixture();
  t.is(holds.whenFree(held), undefined);
});

test("a token stays as long as it took to get, within bounds, and longer where giving one back takes long", async (t) => {
  for (const [tookMs, givingMs, staysMs] of [
    [0, 0, 2],
    [17, 100, 17],
    [4_000, 5, 100],
    [4_000, 25, 250],
    [4_000, 1_000, 400],
  ] as const) {
    const { world, holds, held, freed, wait } = fixture();
    for (let time = 0; time < 100; time++) holds.gaveBack(givingMs);
    holds.granted(held, tookMs);
    wait();
    for (let ms = 1; ms < staysMs - 1; ms++) {
      await world.advance(1);
      held.usedMs = world.nowMs;
    }
    t.deepEqual(freed, [], `before ${staysMs} ms`);
    await world.advance(4);
    t.is(freed.length, 1, `after ${staysMs} ms`);
  }
});

test("a token that nobody uses goes sooner", async (t) => {
  for (const [givingMs, idleMs] of [
    [0, 10],
    [30, 30],
    [1_000, 50],
  ] as const) {
    const { world, holds, held, freed, wait } = fixture();
    for (let time = 0; time < 100; time++) holds.gaveBack(givingMs);
    holds.granted(held, 4_000);
    wait();
    await world.advance(5);
    held.usedMs = world.nowMs;
    await world.advance(idleMs - 2);
    t.deepEqual(freed, []);
    await world.advance(10);
    t.is(freed.length, 1, `after ${idleMs} ms`);
  }
});

test("a token stays until all who pinned it have let go, however long", async (t) => {
  const { world, holds, held, freed, wait } = fixture();
  const first = holds.pin(held);
  wait();
  const second = holds.pin(held);
  await world.advance(10_000);
  first();
  await world.advance(1_000);
  t.deepEqual(freed, []);
  second();
  await world.advance(1);
  t.is(freed.length, 1);
  t.is(holds.whenFree(held), undefined);
});

test("a grant that a revoke overtook is void, and no other", async (t) => {
  const asks = new Asks();
  asks.revoked(7, 10);
  await asks.ask(async (ask) => {
    t.false(Asks.isVoid(ask, 7, 5), "revoked before the question");
    asks.revoked(7, 20);
    t.true(Asks.isVoid(ask, 7, 19));
    t.false(Asks.isVoid(ask, 7, 20), "granted after the revoke");
    t.false(Asks.isVoid(ask, 8, 1), "another's");
    await asks.ask(async (later) => t.false(Asks.isVoid(later, 7, 1)));
  });
});
