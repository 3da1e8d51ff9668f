import { writeFileSync } from "node:fs";
import test from "ava";
import { dropCaches } from "./support/cluster.ts";
import { MachineCluster } from "./support/machine-cluster.ts";
import { ok } from "./support/run.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;
const MACHINES = 5;
const WHOLE_DEADLINE_MS = 180_000;

test("what was stored while a cluster with two parities grew bears the loss of two of its machines in the end", async (t) => {
  t.timeout(10 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await MachineCluster.start(workspace, 1, { init: ["--parity", "2"] });
  const { first } = cluster;
  await first.mount();
  const originals: string[] = [];
  for (let machines = 1; machines <= MACHINES; machines++) {
    if (machines > 1) await cluster.join();
    await cluster.healthy();
    const original = workspace.file(`file${machines}`);
    writeFileSync(original, Buffer.alloc(4 * MIB, `written to ${machines} machines;`));
    await ok("cp", [original, first.path(`file${machines}`)]);
    await first.sync();
    originals.push(original);
  }
  await until("all to have two parities", WHOLE_DEADLINE_MS, async () => {
    const { warnings, groups } = await first.status();
    if (warnings.length > 0) throw new Error(warnings.join("; "));
    return groups[0]?.dataFragments === 3 && groups[0]?.parityFragments === 2;
  });
  // The map's keepers are the first three.
  for (const number of [3, 5]) await cluster.member(number).killNode();
  await first.unmount();
  await dropCaches();
  await first.mount();
  for (const [index, original] of originals.entries()) t.is(await ok("cmp", [original, first.path(`file${index + 1}`)]), "");
});
