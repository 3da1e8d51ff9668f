import { promises as fs } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 120_000;

test.serial("what was just written on one mount another gets from its memory, as the counters of status tell", async (t) => {
  t.timeout(5 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await Cluster.start(workspace);
  const other = workspace.directory("other-mnt");
  const mounted = await cluster.command(["mount", other, "--dir", cluster.directory], DEADLINE_MS);
  t.is(mounted.code, 0, mounted.stderr);
  let files = 0;
  const counter = async (mountpoint: string, name: string) => {
    const status = (await cluster.status()) as unknown as { mounts: Array<{ mountpoint: string; counters: Record<string, number> }> };
    return status.mounts.find((mount) => mount.mountpoint === mountpoint)?.counters[name] ?? 0;
  };
  await until("a read that the other mount serves", DEADLINE_MS, async () => {
    const name = `file${++files}`;
    const content = `${name} ${"content ".repeat(2_000)}`;
    await fs.writeFile(cluster.path(name), content);
    t.is(await fs.readFile(join(other, name), "utf8"), content);
    return (await counter(other, "peer.hits")) > 0;
  });
  t.true((await counter(cluster.mountpoint, "peer.served")) > 0);
});
