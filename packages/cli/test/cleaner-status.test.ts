import type { GroupCleaning } from "@dazzle/cleaner";
import type { ClusterMap, Group, Member } from "@dazzle/core";
import test from "ava";
import { cleanerStatus, cleanerWarnings } from "../src/cleaner-status.ts";
import { writtenStatus } from "../src/written-status.ts";

const GROUP = { id: 1, name: "main" } as Group;
const MAP = { members: [], groups: [GROUP] } as unknown as ClusterMap;

function told(id: number, row: Partial<GroupCleaning>) {
  const nothing = { segments: 0, skipped: 0, bytesRead: 0, bytesWritten: 0, bytesWon: 0 };
  const cleaning = { group: 1, state: "idle", stock: null, miscounted: 0, slowdown: 1, ...nothing, ...row } as GroupCleaning;
  return { member: { id, name: `node${id}` } as Member, groups: [cleaning] };
}

test("what all did that led is summed, and what the one that leads knows is told", (t) => {
  const rows = [
    told(1, { segments: 3, bytesWon: 10, miscounted: 2, slowdown: 2 }),
    told(2, { segments: 4, state: "follows", miscounted: 7 }),
  ];
  const status = cleanerStatus(MAP, GROUP, rows);
  t.like(status, { leader: "node1", segmentsCleaned: 7, bytesWon: 10, segmentsMiscounted: 2, slowdown: 2 });
  t.deepEqual(cleanerWarnings(status), ["2 segments of the group main count bytes that no file has: dazzle fsck --repair puts that right"]);
  t.deepEqual(cleanerWarnings(cleanerStatus(MAP, GROUP, [told(1, {})])), []);
});

test("what is written is summed by who wrote it, and held against what mounts wrote", (t) => {
  const tally = { mounts: 100, cleaners: 20, managers: 10, restored: 0, all: 200 };
  t.deepEqual(writtenStatus([tally, { ...tally, restored: 5 }]), {
    ...{ byMounts: 200, byCleaners: 40, byManagers: 20, restored: 5, all: 400, amplification: 2 },
  });
  t.is(writtenStatus([]).amplification, null);
});
