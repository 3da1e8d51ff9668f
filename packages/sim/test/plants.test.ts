import { type Disguise, runScenario, ScenarioError } from "@dazzle/sim";
import test, { type ExecutionContext } from "ava";
import { droppedDelta, skippedSync, toldEarly } from "./support/plants.ts";

// Seed 1 loses so much that no manager starts any more, which takes minutes to be found.
const FIRST_SEED = 2;
const SEEDS = 8;

async function found(t: ExecutionContext, disguise: Disguise): Promise<void> {
  t.timeout(1_200_000);
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    try {
      await runScenario({ seed, disguise });
    } catch (error) {
      if (!(error instanceof ScenarioError)) throw error;
      t.log(error.message.split("\n", 2).join(" "));
      t.pass();
      return;
    }
  }
  t.fail(`none of ${SEEDS} seeds found it`);
}

test("a skipped sync is found", (t) => found(t, skippedSync));

test("a delta that is not shipped is found", (t) => found(t, droppedDelta));

test("a segment that is told before its predecessor is stored is found", (t) => found(t, toldEarly));
