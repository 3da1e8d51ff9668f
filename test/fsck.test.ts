import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { MachineCluster } from "./support/machine-cluster.ts";
import { run } from "./support/run.ts";
import { ROOT_DIRECTORY } from "./support/sources.ts";
import { Workspace } from "./support/workspace.ts";

const ROUNDS = 3;
const DEADLINE_MS = 180_000;
const CHANGING_MS = 500_000;

const workspace = new Workspace();
let cluster: MachineCluster;

test.before(async () => {
  cluster = await MachineCluster.start(workspace, 3);
  await cluster.first.mount();
  await cluster.member(2).mount();
});
test.afterEach.always((t) => {
  if (!t.passed) t.log(cluster.log().slice(-20_000));
});
test.after.always(() => workspace.close());

interface Report {
  readonly state: string;
  readonly findings: readonly object[];
  readonly unchecked: readonly string[];
  readonly counts: { readonly files: number };
}

test.serial("a cluster that two machines change all the time is clean, asked from a third one that is no member", async (t) => {
  const outside = await cluster.addMachine();
  const stop = workspace.file("stop");
  const source = join(ROOT_DIRECTORY, "packages/manager/src");
  const script = `while ! [ -e "$1" ]; do cp -r "$2" "$3/a" && ln "$3/a/index.ts" "$3/linked" && mv "$3/a" "$3/b" && rm -r "$3/b" "$3/linked" || exit 1; done`;
  const changing = [cluster.first, cluster.member(2)].map(({ mountpoint }, index) => {
    mkdirSync(join(mountpoint, `${index}`));
    return run("sh", ["-c", script, "sh", stop, source, join(mountpoint, `${index}`)], { timeoutMs: CHANGING_MS });
  });
  for (let round = 0; round < ROUNDS; round++) {
    const { code, stdout, stderr } = await outside.dazzle(["fsck", "--cluster", cluster.first.address, "--json"], DEADLINE_MS);
    const report: Report = JSON.parse(stdout);
    t.deepEqual([report.findings, report.unchecked, report.state], [[], [], "clean"], stderr);
    t.is(code, 0);
    t.true(report.counts.files > 1);
  }
  writeFileSync(stop, "");
  for (const { code, stderr } of await Promise.all(changing)) t.is(code, 0, stderr);
  const { code, stdout } = await cluster.first.dazzle(["fsck", "--dir", cluster.first.directory], DEADLINE_MS);
  t.is(code, 0);
  t.regex(stdout, /^clean: \d+ files and directories/);
});

test.serial("where nobody can say what the files are, it says so", async (t) => {
  const { code, stderr } = await cluster.first.dazzle(["fsck", "--cluster", "127.0.0.1:1"]);
  t.is(code, 1);
  t.regex(stderr, /^dazzle fsck: no node of the cluster answers/);
  t.is((await cluster.first.dazzle(["fsck", "--lost", "--repair"])).code, 2);
});
