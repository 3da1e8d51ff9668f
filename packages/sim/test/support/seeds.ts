import { CRASHES, DISTURBANCES, REGROUPINGS, runScenario } from "@dazzle/sim";
import test from "ava";

/** What must have happened somewhere in the seeds of one file. */
const EXPECTED = [
  ...CRASHES,
  ...DISTURBANCES,
  ...REGROUPINGS,
  ...["connectRefused", "connectHung", "connectionCut", "connectionReset", "closeUnheard", "frameLost", "framesHeld", "tailRecut"].map(
    fault,
  ),
  ...["readError", "writeError", "syncError", "bitFlip", "writeMissed", "writeTorn", "sectorLost", "sectorKept", "entryLost"].map(fault),
  ...["commitError", "commitLost", "commitKept", "readNowMissed"].map(fault),
  ...["cutAgain", "operationsLost", "mount.log.regroups", "mount.log.rewritten", "mount.log.mirrored"],
  ...["mount.read.reconstructed", "mount.read.damaged", "mount.read.hedged"],
  ...["manager.checkpoints", "manager.merges", "manager.deletedSegments", "manager.recovered"],
  ...["moveSlots", "conflicts", "expulsions", "refusedForSpace", "severalLost", "groupLost", "mount.log.moved", "clean"],
  ...["cleaner.segments", "cleaner.bytesWritten"],
];

function fault(name: string): string {
  return `fault.${name}`;
}

const SEEDS = 150;
const A_TEST = 10;

/** Half of CI's seeds: one of two processes' share. They pass, and everything happens in them that can. */
export function seedsPass(first: number): void {
  const totals = new Map<string, number>();
  for (let from = first; from < first + SEEDS; from += A_TEST)
    test.serial(`seeds ${from} to ${from + A_TEST - 1}: everything acknowledged survives, and what survives is a prefix`, async (t) => {
      t.timeout(1_200_000);
      for (let seed = from; seed < from + A_TEST; seed++) {
        const { counts } = await runScenario({ seed });
        for (const [what, times] of counts) totals.set(what, (totals.get(what) ?? 0) + times);
      }
      t.pass();
    });
  test.serial("everything that can go wrong went wrong in them", (t) => {
    t.deepEqual(
      EXPECTED.filter((what) => (totals.get(what) ?? 0) === 0),
      [],
    );
  });
}
