import test from "ava";
import { isPassing } from "./support/fsck-report.ts";

const report = (problems: readonly string[], unchecked: readonly string[] = []) =>
  JSON.stringify({ findings: problems.map((problem) => ({ problem })), unchecked });

test("what may be otherwise in a moment is waited for, and nothing else", (t) => {
  t.true(isPassing(report(["strayFragments", "strayFragments"])));
  t.true(isPassing(report([], ["what b stores: it does not answer"])));
  t.true(isPassing(report(["strayFragments"], ["what b stores: it does not answer"])));
  t.false(isPassing(report(["strayFragments", "lostSegment"], ["what b stores: it does not answer"])));
  for (const other of [report([]), "", "checking names", report(["strayFragments"]).slice(0, -1)]) t.false(isPassing(other), other);
});
