import { World } from "@dazzle/sim";
import test from "ava";
import { KeeperMachines, withLogOf } from "./support/keeper-machines.ts";

const LIMIT_MS = 200_000;
const USERS = 8;
const CHANGES = 3;
const READS_EVERY_MS = 250;

test("while keepers take half a second for each answer, all who read and change the map at once get on", async (t) => {
  for (let seed = 1; seed <= 3; seed++) {
    const world = new World(seed);
    const machines = new KeeperMachines(world, 5, [1, 2, 3]);
    machines.startAll();
    await world.run(() => machines.members.every((member) => machines.isUp(member)));
    for (const member of machines.members) {
      Object.assign(world.drive(`k${member}`).faults, { minDelayMs: 100, maxDelayMs: 500 });
      world.network.slow(`k${member}`, 50);
    }
    let reading = true;
    const failures: string[] = [];
    const users = Array.from({ length: USERS }, (_, number) => machines.user(`u${number}`));
    const changing = users.map(async ({ map, instance }) => {
      for (let change = 0; change < CHANGES; change++)
        await map
          .change((now) => {
            const label = `${instance.name}-${change}`;
            return now.logs.some((row) => row.label === label) ? undefined : withLogOf(now, label);
          })
          .catch((error: Error) => failures.push(error.message));
    });
    const readers = Array.from({ length: USERS }, (_, number) => machines.user(`r${number}`));
    const looking = readers.map(async ({ map, instance }) => {
      while (reading) {
        await map.refresh().catch((error: Error) => failures.push(error.message));
        await new Promise<void>((resolve) => instance.ports.clock.after(READS_EVERY_MS, resolve));
      }
    });
    const begunMs = world.nowMs;
    await world.run(Promise.all(changing), LIMIT_MS);
    t.log(`seed ${seed}: ${Math.round(world.nowMs - begunMs)} ms`);
    reading = false;
    await world.run(Promise.all(looking), LIMIT_MS);
    t.deepEqual(failures, [], `seed ${seed}`);
    t.is(machines.newest.logs.filter(({ label }) => label.startsWith("u")).length, USERS * CHANGES);
  }
});
