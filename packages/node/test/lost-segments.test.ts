import type { ClusterMap, MapCache, MemberId } from "@dazzle/core";
import test from "ava";
import { changeKnowingLost } from "../src/lost-segments.ts";

const without = (map: ClusterMap, member: number): ClusterMap => ({
  ...map,
  members: map.members.map((row) => (row.id === member ? { ...row, store: null } : row)),
});

test("who declares a member lost counts again where another was meanwhile", async (t) => {
  let current = { members: [1, 2, 3].map((id) => ({ id, store: `store${id}` })) } as unknown as ClusterMap;
  const change = async (fn: (now: ClusterMap) => ClusterMap | undefined) => {
    current = fn(current) ?? current;
    return current;
  };
  const map = {
    get current() {
      return current;
    },
    change,
  } as unknown as MapCache;
  let counts = 0;
  const count = async () => {
    counts++;
    const lost = current.members.filter(({ store }) => store === null).length;
    if (counts === 1) current = without(current, 2);
    return lost;
  };
  t.is(await changeKnowingLost(map, 3 as MemberId, count, (now) => without(now, 3)), 1);
  t.is(counts, 2);
  t.deepEqual(
    current.members.map(({ store }) => store as string | null),
    ["store1", null, null],
  );
});
