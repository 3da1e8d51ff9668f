import { join } from "node:path";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { LoopDisk } from "./support/loop-disk.ts";
import { Stream } from "./support/stream.ts";
import { until } from "./support/until.ts";
import { signal, Workspace } from "./support/workspace.ts";

/** A busy machine may take this much longer than what is promised on one that has nothing else to do. */
const SLACK = 10;
const READ_PAUSE_MS = 1_000;
const WRITE_PAUSE_MS = 3_000;

test.serial("a storage node is frozen, read and written around, goes on, and stands in for another", async (t) => {
  t.timeout(10 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await Cluster.start(workspace);
  const [frozen = "", other = ""] = await cluster.expendable();
  const pid = await cluster.pidOf(frozen);
  const [old, during] = [cluster.path("old"), cluster.path("during")];
  const oldSha = (await Stream.write(workspace, old, 64).report).sha256;
  await cluster.remountCold();

  signal(pid, "SIGSTOP");
  const read = await Stream.read(workspace, old);
  t.log(`reading, the longest pause was ${read.longestPauseMs} ms (promised: ${READ_PAUSE_MS}), all took ${read.elapsedMs} ms`);
  t.is(read.error, null);
  t.is(read.sha256, oldSha);
  t.true(read.longestPauseMs < SLACK * READ_PAUSE_MS);
  const { mounts } = (await cluster.status()) as unknown as { readonly mounts: readonly { readonly counters: Record<string, number> }[] };
  const counters = mounts[0]?.counters ?? {};
  t.log(`${counters["read.hedged"]} of ${counters["read.reads"]} reads hedged, ${counters["read.reconstructed"]} ranges computed`);
  t.true((counters["read.reconstructed"] ?? 0) > 0);
  const written = await Stream.write(workspace, during, 64).report;
  t.log(`writing, the longest pause was ${written.longestPauseMs} ms (promised: ${WRITE_PAUSE_MS})`);
  t.is(written.error, null);
  t.true(written.longestPauseMs < SLACK * WRITE_PAUSE_MS);

  signal(pid, "SIGCONT");
  await cluster.healed();
  const after = cluster.path("after");
  const afterSha = (await Stream.write(workspace, after, 64).report).sha256;
  await cluster.killNode(other);
  await cluster.remountCold();
  for (const [path, sha256] of [
    [old, oldSha],
    [during, written.sha256],
    [after, afterSha],
  ] as const) {
    const report = await Stream.read(workspace, path);
    t.is(report.error, null);
    t.is(report.sha256, sha256, path);
  }
});

test.serial("the disk of a storage node hangs: all goes on without it, and it is used again", async (t) => {
  t.timeout(10 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = new Cluster(workspace);
  const disk = await LoopDisk.create(workspace, "hung", join(cluster.nodeDirectory("node2"), "storage"), 1024 * 1024 * 1024);
  await cluster.up();
  const before = cluster.path("before");
  const beforeSha = (await Stream.write(workspace, before, 64).report).sha256;
  let isFrozen = true;
  const thaw = async () => {
    if (isFrozen) await disk.thaw();
    isFrozen = false;
  };
  await disk.freeze();
  try {
    const during = cluster.path("during");
    const written = await Stream.write(workspace, during, 64).report;
    t.log(`writing, the longest pause was ${written.longestPauseMs} ms (promised: ${WRITE_PAUSE_MS})`);
    t.is(written.error, null);
    t.true(written.longestPauseMs < SLACK * WRITE_PAUSE_MS);
    // Its process may hang with it, where it touches what is mapped from there.
    t.true((await cluster.status()).warnings.some((warning) => warning.includes("node2")));
    const unmounted = await cluster.command(["unmount", cluster.mountpoint, "--dir", cluster.directory]);
    t.is(unmounted.code, 0, unmounted.stderr);
    await cluster.mount();
    for (const [path, sha256] of [
      [before, beforeSha],
      [during, written.sha256],
    ] as const) {
      const report = await Stream.read(workspace, path);
      t.is(report.error, null);
      t.is(report.sha256, sha256, path);
    }
    await thaw();
  } finally {
    await thaw();
  }
  await until("node2 to be used again", 120_000, async () => (await cluster.status()).groups[0]?.servers.includes("node2"));
  await cluster.healed();
  const after = cluster.path("after");
  const afterSha = (await Stream.write(workspace, after, 64).report).sha256;
  await cluster.restartCold();
  t.is((await Stream.read(workspace, after)).sha256, afterSha);
  t.is((await Stream.read(workspace, before)).sha256, beforeSha);
  await cluster.down();
});
