import { type ClusterMap, type LogId, MAP_FORMAT, type MemberId, SLOTS } from "@dazzle/core";
import test from "ava";
import { balancingMoves, isUneven, type LiveManager, spread } from "../src/moving/balance.ts";

const manager = (member: number, leaving = false): LiveManager => ({ member: member as MemberId, log: 100 + member, leaving });

/** A map whose slots are with the members that `of` names; 0: nobody yet. */
function mapOf(of: (slot: number) => number): ClusterMap {
  return {
    format: MAP_FORMAT,
    clusterId: "00",
    version: 1,
    nextLog: 1_000,
    nextMember: 10,
    members: [],
    groups: [],
    slots: Array.from({ length: SLOTS }, (_, slot) => {
      const member = of(slot);
      const chain = member === 0 ? [] : [{ log: (100 + member) as LogId, term: 1, end: null }];
      return { manager: Math.max(1, member) as MemberId, term: 1, chain };
    }),
    logs: [],
    keepers: [],
    formerKeepers: [],
  };
}

/** Slots by member after the moves, and how many moved. */
function after(of: (slot: number) => number, managers: readonly LiveManager[]): { counts: Record<number, number>; moved: number } {
  const owners = Array.from({ length: SLOTS }, (_, slot) => of(slot));
  let moved = 0;
  for (const { slots, from, to } of balancingMoves(mapOf(of), managers))
    for (const slot of slots) {
      if (owners[slot] !== from) throw new Error(`slot ${slot} is not with ${from}`);
      owners[slot] = to;
      moved++;
    }
  const counts: Record<number, number> = {};
  for (const owner of owners) counts[owner] = (counts[owner] ?? 0) + 1;
  return { counts, moved };
}

test("a manager that joins gets its share, and nothing else moves", (t) => {
  t.deepEqual(
    after(() => 1, [manager(1), manager(2)]),
    { counts: { 1: 32, 2: 32 }, moved: 32 },
  );
  t.deepEqual(
    after((slot) => 1 + (slot % 2), [manager(1), manager(2), manager(3)]),
    { counts: { 1: 22, 2: 21, 3: 21 }, moved: 21 },
  );
});

test("what is even stays where it is", (t) => {
  for (const counts of [[64], [32, 32], [21, 22, 21], [21, 21, 22]]) {
    const owners = counts.flatMap((count, index) => Array.from({ length: count }, () => index + 1));
    t.deepEqual(
      balancingMoves(
        mapOf((slot) => owners[slot] as number),
        counts.map((_, index) => manager(index + 1)),
      ),
      [],
    );
  }
});

test("a member that leaves gives all its slots away, unless nobody else is there", (t) => {
  t.deepEqual(
    after((slot) => 1 + (slot % 2), [manager(1, true), manager(2), manager(3)]),
    { counts: { 2: 32, 3: 32 }, moved: 32 },
  );
  t.deepEqual(
    balancingMoves(
      mapOf(() => 1),
      [manager(1, true)],
    ),
    [],
  );
});

test("nothing is balanced while a slot is with a manager that is not up", (t) => {
  t.deepEqual(
    balancingMoves(
      mapOf((slot) => 1 + (slot % 3)),
      [manager(1), manager(2)],
    ),
    [],
  );
  t.deepEqual(
    balancingMoves(
      mapOf(() => 0),
      [manager(1)],
    ),
    [],
  );
});

test("the slots of a manager that is gone go to those that have the fewest", (t) => {
  const of = (slot: number) => (slot < 40 ? 1 : slot < 54 ? 2 : 3);
  const lost = Array.from({ length: SLOTS }, (_, slot) => slot).filter((slot) => of(slot) === 1);
  const to = spread(mapOf(of), lost, [manager(2), manager(3)]);
  t.is([...to.values()].filter(({ member }) => member === 2).length, 18);
  t.is(to.size, 40);
  t.is(spread(mapOf(of), lost, [manager(2), manager(3, true)]).get(0)?.member, 2);
});

test("moves are small enough to pause little at once", (t) => {
  const moves = balancingMoves(
    mapOf(() => 1),
    [manager(1), manager(2)],
  );
  t.true(moves.every(({ slots }) => slots.length <= 8));
});

test("slots are spread anew for who joins or leaves, and not for who moved a few by hand", (t) => {
  t.true(
    isUneven(
      mapOf(() => 1),
      [manager(1), manager(2)],
    ),
  );
  t.true(
    isUneven(
      mapOf((slot) => 1 + (slot % 2)),
      [manager(1), manager(2, true)],
    ),
  );
  t.false(
    isUneven(
      mapOf((slot) => (slot < 20 ? 1 : 2)),
      [manager(1), manager(2)],
    ),
  );
  t.false(
    isUneven(
      mapOf(() => 1),
      [manager(1)],
    ),
  );
});
