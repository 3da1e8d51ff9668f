import test from "ava";
import { Rolling } from "./support/rolling.ts";
import { Workspace } from "./support/workspace.ts";

/** DAZZLE_MINUTES=20 goes on for as long as one wants. */
const MINUTES = Number(process.env.DAZZLE_MINUTES ?? (process.env.DAZZLE_LONG === "1" ? 20 : 1));
const SEED = Number(process.env.DAZZLE_SEED ?? Date.now() % 1_000_000);
const POWER_CUTS = 2;

const workspace = new Workspace();
test.after.always(() => workspace.close());

test.serial(`for ${MINUTES} minutes a random process is killed every 5 s, and then the power fails twice, seed=${SEED}`, async (t) => {
  t.timeout((MINUTES + 20) * 60_000);
  const beganMs = performance.now();
  const log = (line: string) => t.log(`${Math.round((performance.now() - beganMs) / 1_000)} s: ${line}`);
  const rolling = new Rolling(workspace, SEED, log);
  await rolling.begin();
  try {
    const report = await rolling.kill(MINUTES * 60_000);
    log(JSON.stringify(report));
    await rolling.fsck();
    for (let cut = 0; cut < POWER_CUTS; cut++) {
      log("the power fails");
      await rolling.cutPower();
      await rolling.fsck();
    }
    t.true(report.nodesKilled > 0 && report.operations > 0);
  } catch (error) {
    t.log(rolling.cluster.log().slice(-40_000));
    throw error;
  }
});
