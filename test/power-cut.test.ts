import test from "ava";
import { PowerRounds } from "./support/power-rounds.ts";
import { noSyncLibrary } from "./support/tool.ts";
import { Workspace } from "./support/workspace.ts";

const ROUNDS = process.env.DAZZLE_LONG === "1" ? 50 : 5;
const FIRST_SEED = Number(process.env.DAZZLE_SEED ?? Date.now() % 1_000_000);

const workspace = new Workspace();
const rounds = new PowerRounds(workspace);

test.before(() => rounds.begin());
test.after.always(() => workspace.close());

for (let round = 0; round < ROUNDS; round++) {
  const seed = FIRST_SEED + round;
  test.serial(`power cut ${round + 1} of ${ROUNDS}: what was synced is there, and the rest is a prefix`, async (t) => {
    t.timeout(4 * 60_000);
    t.log(`seed ${seed} (the same rounds: DAZZLE_SEED=${FIRST_SEED})`);
    const report = await rounds.round(seed);
    t.not(report.prefix, undefined, report.complaint);
    const usable = `usable again after ${Math.round(rounds.cluster.usableAfterMs)} ms (promised: 15,000)`;
    t.log(`synced ${report.synced}, survived ${report.prefix}, begun ${report.begun}; ${usable}`);
  });
}

test.serial("without fdatasync the same check fails", async (t) => {
  t.timeout(10 * 60_000);
  const own = new Workspace();
  t.teardown(() => own.close());
  const lying = { LD_PRELOAD: await noSyncLibrary() };
  const unsynced = new PowerRounds(own);
  await unsynced.begin();
  await unsynced.cluster.down();
  await unsynced.cluster.up(lying);
  for (let round = 0; round < 3; round++) {
    let complaint: string;
    try {
      ({ complaint } = await unsynced.round(FIRST_SEED + round, lying));
    } catch (error) {
      // The disks may be so far apart that nothing comes up: caught as well.
      complaint = String(error);
    }
    if (complaint !== "") {
      t.log(complaint.slice(0, 1_000));
      t.pass();
      return;
    }
  }
  t.fail("three power cuts without a single fdatasync went unnoticed");
});
