import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { forgetMounts, isMounted } from "./support/mounts.ts";
import { start } from "./support/run.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

test("unmount ends a mount of which another mount namespace has a copy", async (t) => {
  t.timeout(5 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await Cluster.start(workspace, { nodes: 1 });
  const commands = `${forgetMounts(workspace.path)} echo copied; exec sleep 600`;
  const holder = start("unshare", ["-m", "sh", "-c", commands], { environment: workspace.environment }, ["ignore", "pipe", "inherit"]);
  let copied = "";
  holder.stdout?.on("data", (chunk: Buffer) => {
    copied += chunk.toString();
  });
  await until("the namespace", 60_000, () => copied !== "");
  const { code, stderr } = await cluster.command(["unmount", cluster.mountpoint, "--dir", cluster.directory]);
  t.is(code, 0, stderr);
  t.is(holder.exitCode, null);
  t.false(isMounted(cluster.mountpoint));
  t.deepEqual((await cluster.status()).mounts, []);
});
