import { type Disguise, runScenario, ScenarioError } from "@dazzle/sim";
import test, { type ExecutionContext } from "ava";
import { droppedDelta, lostTimers, silentAboutVersions, skippedFsync, skippedSync, toldEarly } from "./support/plants.ts";

const SEEDS = 12;

/** Some seed finds it, and by that check, if one is named. */
async function found(t: ExecutionContext, disguise: Disguise, check = /./): Promise<void> {
  t.timeout(1_200_000);
  const others: string[] = [];
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      await runScenario({ seed, disguise, operations: 1_000 });
    } catch (error) {
      if (!(error instanceof ScenarioError)) throw error;
      const what = error.message.split("\n", 2).join(" ");
      t.log(what);
      if (check.test(what)) return t.pass();
      others.push(what);
    }
  }
  t.fail(`none of ${SEEDS} seeds found it so: ${others.join("; ")}`);
}

test("an fsync that does nothing is found: what is there after a crash lacks what was synced", (t) =>
  found(t, skippedFsync, /no allowed history/));

test("a disk that says it has synced and has not is found", (t) => found(t, skippedSync));

test("a segment that is told before its predecessor is stored is found", (t) => found(t, toldEarly));

test("a delta that is not shipped is found: a mount is told what one filesystem would not tell", (t) =>
  found(t, droppedDelta, /MismatchError/));

test("a timer that never fires is found: what waits for it does not get on", (t) => found(t, lostTimers, /has not come in/));

test("a group's older version that never leaves the map is found", (t) =>
  found(t, silentAboutVersions, /older versions of a group to be moved/));
