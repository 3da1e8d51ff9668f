import { CRASHES, DISTURBANCES, runScenario } from "@dazzle/sim";
import type { ExecutionContext } from "ava";

/** What must have happened somewhere in a hundred seeds. */
const EXPECTED = [
  ...CRASHES,
  ...DISTURBANCES,
  ...["connectRefused", "connectHung", "connectionCut", "connectionReset", "closeUnheard", "frameLost", "framesHeld", "tailRecut"].map(
    fault,
  ),
  ...["readError", "writeError", "syncError", "bitFlip", "writeTorn", "sectorLost", "sectorKept", "entryLost"].map(fault),
  ...["commitError", "commitLost", "commitKept", "readNowMissed"].map(fault),
  ...["cutAgain", "operationsLost", "mount.log.regroups", "mount.log.rewritten", "mount.log.mirrored"],
  ...["mount.read.reconstructed", "mount.read.damaged", "mount.read.hedged"],
  ...["manager.checkpoints", "manager.merges", "manager.deletedSegments", "manager.recovered"],
  ...["moveSlots", "conflicts", "expulsions"],
];

function fault(name: string): string {
  return `fault.${name}`;
}

/** Seeds that pass, and in which everything happens that can. */
export async function seedsPass(t: ExecutionContext, first: number, count = 100): Promise<void> {
  t.timeout(1_200_000);
  const totals = new Map<string, number>();
  for (let seed = first; seed < first + count; seed++) {
    const { counts } = await runScenario({ seed });
    for (const [what, times] of counts) totals.set(what, (totals.get(what) ?? 0) + times);
  }
  t.deepEqual(
    EXPECTED.filter((what) => (totals.get(what) ?? 0) === 0),
    [],
  );
}
