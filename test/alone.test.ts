import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import test from "ava";
import { MachineCluster } from "./support/machine-cluster.ts";
import { run } from "./support/run.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const FILE_BYTES = 5_000_000;
const QUIET_DEADLINE_MS = 180_000;
const READ_DEADLINE_MS = 240_000;

const workspace = new Workspace();
test.after.always(() => workspace.close());

test("what the first machine stored when it was alone outlives it", async (t) => {
  const cluster = await MachineCluster.start(workspace, 1);
  const { first } = cluster;
  await first.mount();
  const bytes = randomBytes(FILE_BYTES);
  writeFileSync(first.path("big"), bytes);
  await first.sync();
  await cluster.join();
  await cluster.join();
  await cluster.healthy();
  await until("a status without warnings", QUIET_DEADLINE_MS, async () => {
    const { warnings } = await first.status();
    if (warnings.length > 0) throw new Error(warnings.join("; "));
    return true;
  });
  const second = cluster.member(2);
  await second.mount();
  await first.machine.vanish();
  const expected = createHash("sha1").update(bytes).digest("hex");
  await until("the file to be read on another machine", READ_DEADLINE_MS, async () => {
    const { stdout, stderr } = await run("sha1sum", [second.path("big")], { timeoutMs: READ_DEADLINE_MS });
    if (stdout === "") throw new Error(stderr);
    return stdout.startsWith(expected) ? true : Promise.reject(new Error(`wrong bytes: ${stdout}`));
  });
  t.pass();
});
