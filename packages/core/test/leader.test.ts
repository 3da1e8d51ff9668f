import type { GroupId, Member, MemberId, Role } from "@dazzle/core";
import { leadersOf } from "@dazzle/core";
import test from "ava";

function member(id: number, roles: readonly Role[], leaving = false): Member {
  return { id: id as MemberId, name: `m${id}`, addresses: ["tcp:127.0.0.1:1"], roles, incarnation: 1, store: null, leaving };
}

test("members with the role cleaner that stay lead, in one order whatever the map's order", (t) => {
  const members = [member(1, ["cleaner"]), member(2, ["storage"]), member(3, ["cleaner", "storage"]), member(4, ["cleaner"], true)];
  const leaders = leadersOf({ members }, 1 as GroupId);
  t.deepEqual([...leaders].sort(), [1, 3] as MemberId[]);
  t.deepEqual(leadersOf({ members: [...members].reverse() }, 1 as GroupId), leaders);
});

test("groups are spread over the members, and a member that comes or goes leaves the order of the others", (t) => {
  const members = Array.from({ length: 5 }, (_, at) => member(at + 1, ["cleaner"]));
  const first = new Map<number, number>();
  for (let group = 1; group <= 60; group++) {
    const leaders = leadersOf({ members }, group as GroupId);
    const leader = leaders[0] as number;
    first.set(leader, (first.get(leader) ?? 0) + 1);
    t.deepEqual(
      leadersOf({ members: members.slice(1) }, group as GroupId),
      leaders.filter((id) => id !== 1),
    );
  }
  t.deepEqual([...first.keys()].sort(), [1, 2, 3, 4, 5]);
});
