import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { MachineCluster } from "./support/machine-cluster.ts";
import { run } from "./support/run.ts";
import { nodeArguments, REPOSITORY } from "./support/script.ts";
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
  readonly repaired: ReadonlyArray<{ readonly problem: string; readonly path?: string }>;
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

test.serial("--repair makes names and counts good while two machines use the files, and both see it", async (t) => {
  const [first, second] = [cluster.first, cluster.member(2)];
  mkdirSync(first.path("used"));
  for (const name of ["counted", "unnamed"]) writeFileSync(first.path("used", name), name);
  const numberOf = (name: string) => statSync(first.path("used", name)).ino;
  const [directory, counted, unnamed] = [statSync(first.path("used")).ino, numberOf("counted"), numberOf("unnamed")];
  t.is(readFileSync(second.path("used", "unnamed"), "utf8"), "unnamed");
  const damager = join(import.meta.dirname, "support/damager.ts");
  const damage = (what: string, ...args: readonly unknown[]) =>
    first.machine.ok(process.execPath, nodeArguments(damager, [what, `tcp:${first.address}`, ...args.map(String)]), { cwd: REPOSITORY });
  await damage("links", counted, 7);
  await damage("name", directory, "unnamed", 0);
  await damage("name", directory, "nowhere", 64_000_000);
  t.is(statSync(second.path("used", "counted")).nlink, 7);

  const writing = await open(second.path("used", "counted"), "a");
  await writing.write(", and written to");
  const repair = async () => {
    const { code, stdout, stderr } = await first.dazzle(["fsck", "--repair", "--json", "--dir", first.directory], DEADLINE_MS);
    const report: Report = JSON.parse(stdout);
    return {
      code,
      repaired: report.repaired.map(({ problem, path }) => ({ problem, path })),
      left: [report.findings, report.unchecked],
      stderr,
    };
  };
  const { code, repaired, left, stderr } = await repair();
  t.deepEqual([code, left], [0, [[], []]], stderr);
  for (const expected of [
    { problem: "linkCount", path: "/used/counted" },
    { problem: "nameless", path: `/lost+found/${unnamed}` },
  ])
    t.true(
      repaired.some(({ problem, path }) => problem === expected.problem && path === expected.path),
      JSON.stringify(repaired),
    );
  await writing.write(" again");
  await writing.sync();
  await writing.close();
  for (const machine of [first, second]) {
    t.is(statSync(machine.path("used", "counted")).nlink, 1);
    t.is(readFileSync(machine.path("used", "counted"), "utf8"), "counted, and written to again");
    t.is(readFileSync(machine.path("lost+found", `${unnamed}`), "utf8"), "unnamed");
    t.throws(() => statSync(machine.path("used", "nowhere")), { code: "ENOENT" });
    t.throws(() => statSync(machine.path("used", "unnamed")), { code: "ENOENT" });
  }
  const again = await repair();
  t.deepEqual([again.code, again.repaired, again.left], [0, [], [[], []]], again.stderr);
});

test.serial("where nobody can say what the files are, it says so", async (t) => {
  const { code, stderr } = await cluster.first.dazzle(["fsck", "--cluster", "127.0.0.1:1"]);
  t.is(code, 1);
  t.regex(stderr, /^dazzle fsck: no node of the cluster answers/);
  t.is((await cluster.first.dazzle(["fsck", "--lost", "--repair"])).code, 2);
});
