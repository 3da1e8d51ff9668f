import { AssertionError, checkLimits, LIMITS, type Limits } from "@dazzle/core";
import test from "ava";

const BROKEN: Record<string, Partial<Limits>> = {
  "a fragment of broken blocks": { fragmentBytes: 4_096 * 128 + 1 },
  "a mirrored tail longer than a fragment": { mirrorBytes: LIMITS.fragmentBytes + 1 },
  "a server given up before it is suspected": { serverSuspectMs: LIMITS.serverDeadlineMs },
  "a manager's lease as long as a mount's": { managerLeaseMs: LIMITS.mountLeaseMs },
  "a volume of one fragment": { volumeBytes: LIMITS.fragmentBytes },
};

test("the limits that ship hold together", (t) => {
  t.notThrows(() => checkLimits(LIMITS));
});

for (const [name, change] of Object.entries(BROKEN)) {
  test(`limits are refused: ${name}`, (t) => {
    t.throws(() => checkLimits({ ...LIMITS, ...change }), { instanceOf: AssertionError });
  });
}
