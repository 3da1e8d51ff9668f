import { promises as fs } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Cluster } from "./support/cluster.ts";
import { run } from "./support/run.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 120_000;

/** A cluster with two mounts, and what `dazzle status` counts of each. */
async function twoMounts(t: ExecutionContext) {
  t.timeout(5 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await Cluster.start(workspace);
  const other = workspace.directory("other-mnt");
  const mounted = await cluster.command(["mount", other, "--dir", cluster.directory], DEADLINE_MS);
  t.is(mounted.code, 0, mounted.stderr);
  const counter = async (mountpoint: string, name: string) => {
    const status = (await cluster.status()) as unknown as { mounts: Array<{ mountpoint: string; counters: Record<string, number> }> };
    return status.mounts.find((mount) => mount.mountpoint === mountpoint)?.counters[name] ?? 0;
  };
  return { cluster, other, counter };
}

test.serial("what was just written on one mount another gets from its memory, as the counters of status tell", async (t) => {
  const { cluster, other, counter } = await twoMounts(t);
  let files = 0;
  await until("a read that the other mount serves", DEADLINE_MS, async () => {
    const name = `file${++files}`;
    const content = `${name} ${"content ".repeat(2_000)}`;
    await fs.writeFile(cluster.path(name), content);
    t.is(await fs.readFile(join(other, name), "utf8"), content);
    return (await counter(other, "peer.hits")) > 0;
  });
  t.true((await counter(cluster.mountpoint, "peer.served")) > 0);
});

test.serial("ls -l of a directory that another mount has just made takes a few messages, as the counters of status tell", async (t) => {
  const { cluster, other, counter } = await twoMounts(t);
  const files = 400;
  await fs.mkdir(cluster.path("d"));
  for (let file = 0; file < files; file++) await fs.writeFile(cluster.path("d", `f${file}`), "x".repeat(1 + file));
  const listed = await run("ls", ["-l", join(other, "d")], { timeoutMs: DEADLINE_MS });
  t.is(listed.code, 0, listed.stderr);
  const sizes = listed.stdout.split("\n").flatMap((line) => line.match(/ ([0-9]+) [A-Z][a-z]{2} .* f([0-9]+)$/)?.slice(1) ?? []);
  t.is(sizes.length, 2 * files);
  for (let place = 0; place < sizes.length; place += 2) t.is(Number(sizes[place]), 1 + Number(sizes[place + 1]));
  await until("the mount to tell what it did", DEADLINE_MS, async () => (await counter(other, "operations")) > files);
  for (const name of ["peek", "attributes", "acquire"]) {
    const sent = await counter(other, `messages.${name}`);
    t.true(sent < files / 4, `${sent} ${name}`);
  }
});
