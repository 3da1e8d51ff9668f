import type { ClusterMap, Member, MemberId } from "@dazzle/core";
import test from "ava";
import { managerStatus, managerWarnings, type ReportedManager } from "../src/manager-status.ts";

function statusOf(manager: ReportedManager | null | undefined, managed = 8) {
  const member = { id: 1 as MemberId, name: "zebra", roles: ["manager"] } as unknown as Member;
  const slots = Array.from({ length: 8 }, (_, slot) => ({ manager: slot < managed ? member.id : null }));
  const document = manager === undefined ? undefined : { manager };
  return managerStatus({ slots } as unknown as ClusterMap, [{ member, document }]);
}

test("a manager's slots are shown with what keeps them from being served", (t) => {
  const slotsWaiting = [
    { slots: [5], reason: "what mount 7, which is gone, did there is not applied yet" },
    { slots: [0, 1, 2, 4], reason: "unreachable: no server answers" },
  ];
  const [shown] = statusOf({ state: "open", slotsWaiting });
  t.like(shown, { name: "zebra", slots: 8, state: "open", waiting: slotsWaiting });
  t.deepEqual(shown && managerWarnings(shown), [
    "slot 5 of the manager on zebra waits: what mount 7, which is gone, did there is not applied yet",
    "slots 0-2,4 of the manager on zebra wait: unreachable: no server answers",
  ]);
});

test("a manager that opens its slots is warned of, one that serves them, has none or is down is not", (t) => {
  const warnings = (...told: Parameters<typeof statusOf>) => statusOf(...told).flatMap(managerWarnings);
  t.deepEqual(warnings({ state: "loading", slotsWaiting: [] }), ["the manager on zebra is opening its shards"]);
  t.deepEqual(warnings({ state: "open", slotsWaiting: [] }), []);
  t.deepEqual(warnings({ state: "loading", slotsWaiting: [] }, 0), []);
  t.deepEqual(warnings(undefined), []);
});
