import test, { type ExecutionContext } from "ava";
import { Cluster } from "./support/cluster.ts";
import { Stream } from "./support/stream.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;
const DEADLINE_MS = 180_000;
const FIRST = ["node1", "node2", "node3"];
const SECOND = ["node4", "node5", "node6"];

async function isRight(t: ExecutionContext, workspace: Workspace, path: string, sha256: string): Promise<void> {
  const report = await Stream.read(workspace, path);
  t.is(report.error, null);
  t.is(report.sha256, sha256, path);
}

async function storedBy(cluster: Cluster, names: readonly string[]): Promise<number> {
  const { members } = await cluster.status();
  return members.filter(({ name }) => names.includes(name)).reduce((sum, { bytesUsed }) => sum + bytesUsed, 0);
}

test.serial(
  "of two groups each gets its share; one is killed whole, writes go on in the other, and all is right once it is back",
  async (t) => {
    t.timeout(10 * 60_000);
    const workspace = new Workspace();
    t.teardown(() => workspace.close());
    const cluster = await Cluster.start(workspace, { nodes: 6, more: ["--group-size", "3"] });
    const [old, both, during, after] = ["old", "both", "during", "after"].map((name) => cluster.path(name)) as [
      string,
      string,
      string,
      string,
    ];
    const write = async (path: string, mib: number) => (await Stream.write(workspace, path, mib).report).sha256;
    const oldSha = await write(old, 16);
    t.is(await storedBy(cluster, SECOND), 0);
    const created = await cluster.command(["group", "create", "second", "--servers", SECOND.join(), "--dir", cluster.directory]);
    t.is(created.code, 0, created.stderr);

    const before = await storedBy(cluster, FIRST);
    const bothSha = await write(both, 128);
    // Both have the same room: their directories are on one disk.
    const [first, second] = [(await storedBy(cluster, FIRST)) - before, await storedBy(cluster, SECOND)];
    t.log(`${Math.round(first / MIB)} MiB went to the first group, ${Math.round(second / MIB)} to the second`);
    t.true(first > 0.3 * (first + second) && second > 0.3 * (first + second));

    const stream = Stream.write(workspace, during, 128, 16);
    await stream.reached(32);
    await Promise.all(SECOND.map((name) => cluster.killNode(name)));
    const report = await stream.report;
    t.log(`longest pause ${report.longestPauseMs} ms`);
    t.is(report.error, null);
    const afterSha = await write(after, 32);
    await cluster.remountCold();
    await isRight(t, workspace, old, oldSha);
    await isRight(t, workspace, after, afterSha);

    for (const name of SECOND) cluster.beginNode(name);
    await cluster.healed();
    for (const [path, sha256] of [
      [both, bothSha],
      [during, report.sha256],
    ] as const)
      await isRight(t, workspace, path, sha256);
    const again = await storedBy(cluster, SECOND);
    await write(cluster.path("again"), 64);
    await until("the second group to be used again", 30_000, async () => (await storedBy(cluster, SECOND)) > again + 16 * MIB);
    const checked = await cluster.command(["fsck", "--dir", cluster.directory, "--data"], 300_000);
    t.is(checked.code, 0, `${checked.stdout}${checked.stderr}`);
  },
);

test.serial("a server of one group is declared lost, and the command ends, while a server of the other is down", async (t) => {
  t.timeout(10 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await Cluster.start(workspace, { nodes: 6, more: ["--group-size", "3"] });
  const command = (...args: string[]) => cluster.command([...args, "--dir", cluster.directory], DEADLINE_MS);
  const created = await command("group", "create", "second", "--servers", SECOND.join());
  t.is(created.code, 0, created.stderr);
  const path = cluster.path("file");
  const { sha256 } = await Stream.write(workspace, path, 32).report;
  await cluster.killNode("node3");
  // Who writes leaves it out.
  await Stream.write(workspace, cluster.path("more"), 32).report;
  await until("node3 to be left out", DEADLINE_MS, async () => {
    const { groups } = await cluster.status();
    return groups.some(({ servers }) => servers.includes("node1") && !servers.includes("node3"));
  });
  await cluster.killNode("node6");
  const { code, stdout, stderr } = await command("declare-lost", "node6", "--force");
  t.is(code, 0, stderr);
  t.regex(stdout, /node6 is lost/);
  await isRight(t, workspace, path, sha256);
});
