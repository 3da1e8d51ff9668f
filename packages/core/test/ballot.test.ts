import { hasMajorities, isAfter, isSameBallot, keepersOf, type MemberId, NO_BALLOT } from "@dazzle/core";
import test from "ava";

test("of two ballots one is later, by the counter and then by the proposer", (t) => {
  const ascending = [
    NO_BALLOT,
    { counter: 1, proposer: "" },
    { counter: 1, proposer: "a" },
    { counter: 1, proposer: "b" },
    { counter: 2, proposer: "" },
  ];
  for (const [index, one] of ascending.entries()) {
    for (const [place, other] of ascending.entries()) {
      t.is(isAfter(one, other), index > place);
      t.is(isSameBallot(one, { ...other }), index === place);
    }
  }
  t.false(isSameBallot(undefined, NO_BALLOT));
});

test("majorities are of the keepers, and of those before while they change", (t) => {
  const sets = (keepers: number[], formerKeepers: number[] = []) => ({
    keepers: keepers as MemberId[],
    formerKeepers: formerKeepers as MemberId[],
  });
  const holds = (map: ReturnType<typeof sets>, members: number[]) => hasMajorities(map, (member) => members.includes(member));
  t.true(holds(sets([1]), [1]));
  t.false(holds(sets([1]), [2, 3]));
  t.true(holds(sets([1, 2, 3]), [1, 3]));
  t.false(holds(sets([1, 2, 3]), [3, 4, 5]));
  t.false(holds(sets([1, 2, 3, 4, 5]), [4, 5]));
  t.false(holds(sets([1, 2, 4], [1, 2, 3]), [1, 4]));
  t.false(holds(sets([1, 2, 4], [1, 2, 3]), [1, 3]));
  t.true(holds(sets([1, 2, 4], [1, 2, 3]), [1, 3, 4]));
  t.deepEqual(keepersOf(sets([1, 2, 4], [1, 2, 3])), [1, 2, 4, 3]);
});
