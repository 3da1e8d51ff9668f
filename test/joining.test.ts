import { readFileSync, writeFileSync } from "node:fs";
import test from "ava";
import { MachineCluster } from "./support/machine-cluster.ts";
import { Workspace } from "./support/workspace.ts";

const workspace = new Workspace();
let cluster: MachineCluster;

test.before(async () => {
  cluster = await MachineCluster.start(workspace, 3);
});
test.after.always(() => workspace.close());

test.serial("what is written on one machine is read on the others", async (t) => {
  for (const member of cluster.members) await member.mount();
  for (const writer of cluster.members) {
    writeFileSync(writer.path(writer.machine.name), `from ${writer.machine.name}`);
    for (const reader of cluster.members) t.is(readFileSync(reader.path(writer.machine.name), "utf8"), `from ${writer.machine.name}`);
  }
});
