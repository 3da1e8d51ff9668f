import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { Cluster, type ClusterOptions } from "./support/cluster.ts";
import { comesToBe } from "./support/comes-to-be.ts";
import { isMounted } from "./support/mounts.ts";
import { makeFiles } from "./support/real-tree.ts";
import { ok, run } from "./support/run.ts";
import { Stream } from "./support/stream.ts";
import { until } from "./support/until.ts";
import { residentBytes, signal, Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;
const STREAM_MIB = process.env.DAZZLE_LONG === "1" ? 1024 : 256;
/** A busy machine may take this much longer than what is promised on one that has nothing else to do. */
const SLACK = 3;
/** Another test beside may have all disks sync. */
const PAUSE_SLACK = 10;

type Context = ExecutionContext<unknown>;

async function begin(t: Context, options: ClusterOptions = {}): Promise<{ workspace: Workspace; cluster: Cluster }> {
  t.timeout(10 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  return { workspace, cluster: await Cluster.start(workspace, options) };
}

/** Writes while something happens in the middle; the application must not notice but for a pause. */
async function writeThrough(
  t: Context,
  workspace: Workspace,
  path: string,
  pauseMsMax: number,
  happens: () => Promise<void>,
): Promise<string> {
  const stream = Stream.write(workspace, path, STREAM_MIB, 64);
  await stream.reached(STREAM_MIB / 4);
  await happens();
  const report = await stream.report;
  t.log(`longest pause ${report.longestPauseMs} ms (promised: ${pauseMsMax}), ${report.longestPauseAtMs} ms after the start`);
  t.is(report.error, null);
  t.true(report.longestPauseMs < PAUSE_SLACK * pauseMsMax, `the pause was ${report.longestPauseMs} ms`);
  return report.sha256;
}

async function isRight(t: Context, workspace: Workspace, path: string, sha256: string): Promise<void> {
  const report = await Stream.read(workspace, path);
  t.is(report.error, null);
  t.is(report.sha256, sha256, path);
}

for (const place of [0, 1]) {
  test.serial(
    `storage node ${place + 2} is killed in the middle of a write: nothing is noticed, and started again it is used again`,
    async (t) => {
      const { workspace, cluster } = await begin(t);
      const name = (await cluster.expendable())[place] as string;
      const [old, during, after] = [cluster.path("old"), cluster.path("during"), cluster.path("after")];
      const oldSha = (await Stream.write(workspace, old, 64).report).sha256;
      const duringSha = await writeThrough(t, workspace, during, 1_000, () => cluster.killNode(name));
      await isRight(t, workspace, during, duringSha);
      await cluster.remountCold();
      await isRight(t, workspace, old, oldSha);
      await isRight(t, workspace, during, duringSha);

      const { warnings } = await cluster.status();
      t.true(
        warnings.some((warning) => warning.includes(name)),
        `a warning names ${name}: ${warnings.join("; ")}`,
      );
      await cluster.startNode(name);
      const before = (await cluster.member(name)).bytesUsed;
      const afterSha = (await Stream.write(workspace, after, 64).report).sha256;
      await until(`${name} to take part in writing`, 30_000, async () => (await cluster.member(name)).bytesUsed > before + 16 * MIB);
      await cluster.restartCold();
      await isRight(t, workspace, old, oldSha);
      await isRight(t, workspace, during, duringSha);
      await isRight(t, workspace, after, afterSha);
    },
  );
}

test.serial(
  "of six nodes with two parities two are killed at once in the middle of a write: nothing is noticed, and nothing is wrong then",
  async (t) => {
    const { workspace, cluster } = await begin(t, { nodes: 6, more: ["--parity", "2"] });
    const [old, during, after] = [cluster.path("old"), cluster.path("during"), cluster.path("after")];
    const shapes = async () =>
      (await cluster.status()).groups.map((group) => `${group.dataFragments}+${group.parityFragments} ${group.state}`);
    t.deepEqual(await shapes(), ["4+2 healthy"]);
    const killed = (await cluster.expendable()).slice(1, 3);
    const oldSha = (await Stream.write(workspace, old, 64).report).sha256;
    const duringSha = await writeThrough(t, workspace, during, 3_000, async () => {
      await Promise.all(killed.map((name) => cluster.killNode(name)));
    });
    await comesToBe(t, ["2+2 degraded"], shapes);
    await cluster.remountCold();
    await isRight(t, workspace, old, oldSha);
    await isRight(t, workspace, during, duringSha);
    for (const name of killed) cluster.beginNode(name);
    await cluster.healed();
    const afterSha = (await Stream.write(workspace, after, 64).report).sha256;
    await comesToBe(t, ["4+2 healthy"], shapes);
    await cluster.restartCold();
    await isRight(t, workspace, old, oldSha);
    await isRight(t, workspace, during, duringSha);
    await isRight(t, workspace, after, afterSha);
    const checked = await cluster.command(["fsck", "--dir", cluster.directory, "--data"], 300_000);
    t.is(checked.code, 0, `${checked.stdout}${checked.stderr}`);
    t.regex(checked.stdout, /^clean: /);
  },
);

test.serial("a storage node is killed in the middle of copying a tree", async (t) => {
  const { workspace, cluster } = await begin(t);
  const [name = ""] = await cluster.expendable();
  const source = workspace.directory("source");
  makeFiles(source, { files: 3_000, bytes: 60 * MIB });
  const copying = run("cp", ["-r", source, cluster.path("copy")], { timeoutMs: 300_000 });
  await until("a part of the copy", 60_000, async () => (await run("test", ["-e", cluster.path("copy/part-20")])).code === 0);
  await cluster.killNode(name);
  const copied = await copying;
  t.is(copied.code, 0, copied.stderr);
  await cluster.remountCold();
  t.is(await ok("diff", ["-r", source, cluster.path("copy")], { timeoutMs: 300_000 }), "");
});

test.serial("a storage node is frozen in the middle of a write, and goes on later", async (t) => {
  const { workspace, cluster } = await begin(t);
  const name = (await cluster.expendable()).at(-1) as string;
  const pid = await cluster.pidOf(name);
  const [old, during] = [cluster.path("old"), cluster.path("during")];
  const oldSha = (await Stream.write(workspace, old, 64).report).sha256;
  const duringSha = await writeThrough(t, workspace, during, 3_000, async () => signal(pid, "SIGSTOP"));
  await cluster.remountCold();
  await isRight(t, workspace, old, oldSha);
  await isRight(t, workspace, during, duringSha);
  signal(pid, "SIGCONT");
  await cluster.healed();
  const before = (await cluster.member(name)).bytesUsed;
  await Stream.write(workspace, cluster.path("after"), 64).report;
  await until(`${name} to take part in writing`, 30_000, async () => (await cluster.member(name)).bytesUsed > before + 16 * MIB);
});

for (const how of ["SIGKILL", "SIGSTOP"] as const) {
  test.serial(`the mount gets ${how}: nobody hangs at its mountpoint, and it can be mounted again`, async (t) => {
    const { workspace, cluster } = await begin(t);
    const { sha256 } = await Stream.write(workspace, cluster.path("file"), 32).report;
    await cluster.sync();
    signal(await cluster.mountPid(), how);
    const asked = await run("stat", [cluster.path("another")], { timeoutMs: 10_000 * SLACK });
    t.log(`stat ended after ${Math.round(asked.elapsedMs)} ms (promised: 10,000): ${asked.stderr.trim()}`);
    t.false(asked.timedOut, "stat ended");
    t.not(asked.code, 0);
    await until("the mount table to be clean", 10_000 * SLACK, () => !isMounted(cluster.mountpoint));
    await cluster.mount();
    await isRight(t, workspace, cluster.path("file"), sha256);
  });
}

test.serial(
  "with too few storage nodes a writer waits in bounded memory, fails after 30 s with their names in the log, and can go on later",
  async (t) => {
    const { workspace, cluster } = await begin(t);
    const names = await cluster.expendable();
    const pids = await Promise.all(names.map((name) => cluster.pidOf(name)));
    const mountPid = await cluster.mountPid();
    const keptSha = (await Stream.write(workspace, cluster.path("kept"), 32).report).sha256;
    await cluster.sync();

    const stream = Stream.write(workspace, cluster.path("stalled"), 1024, 128);
    await stream.reached(32);
    for (const pid of pids) signal(pid, "SIGSTOP");
    const frozenAt = performance.now();
    await until("the writer to wait", 30_000, () => stream.stillMs > 4_000);
    t.true(stream.writtenMib < 300, `${stream.writtenMib} MiB were accepted`);
    const residentAtFirst = residentBytes(mountPid);
    await sleep(15_000);
    const growth = residentBytes(mountPid) - residentAtFirst;
    t.log(`the mount has ${Math.round(residentAtFirst / MIB)} MiB, and grew by ${Math.round(growth / MIB)} MiB while the writer waited`);
    t.true(growth < 32 * MIB);
    t.true(residentAtFirst < 500 * MIB);

    const report = await stream.report;
    const failedAfterMs = performance.now() - frozenAt;
    t.log(`${report.error}; ${Math.round(failedAfterMs)} ms after the freeze (promised: 30,000)`);
    t.regex(report.error ?? "", /EIO/);
    t.true(failedAfterMs > 20_000 && failedAfterMs < 30_000 * SLACK);
    for (const name of names) t.regex(cluster.log(), new RegExp(`\\b${name}\\b.*|.*\\b${name}\\b`), `the log names ${name}`);

    for (const pid of pids) signal(pid, "SIGCONT");
    const next = await until("writing to work again", 90_000, async () => {
      const again = await Stream.write(workspace, cluster.path("again"), 16).report;
      if (again.error !== null) throw new Error(again.error);
      return again;
    });
    await isRight(t, workspace, cluster.path("again"), next.sha256);
    await isRight(t, workspace, cluster.path("kept"), keptSha);
  },
);
