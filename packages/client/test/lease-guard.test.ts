import { LIMITS } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { LeaseGuard } from "../src/expulsion/lease-guard.ts";

const INO = 7;
const ANSWER_MS = 1;

test("however many wait for a lease, it is asked for once in a while, and all of them go on when it is there", async (t) => {
  const world = new World(1);
  const { clock, logger } = world.spawn("mount").ports;
  let renewals = 0;
  let endMs = 0;
  const source = {
    renew: async () => {
      renewals++;
      await new Promise<void>((resolve) => world.after(ANSWER_MS, resolve));
    },
  };
  const guard = new LeaseGuard({ sources: () => source, endMs: () => endMs, clock, logger, limits: LIMITS });
  const waiting: Promise<void>[] = [];
  for (let request = 0; request < 50; request++) {
    waiting.push(guard.whenHolds(INO));
    await world.advance(10);
  }
  await world.advance(500);
  t.true(renewals >= 5 && renewals <= 11, `${renewals} renewals in a second`);
  endMs = clock.nowMs() + 60_000;
  await world.run(Promise.all(waiting), 200);
  t.true(guard.holds(INO));
});
