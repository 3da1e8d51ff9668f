import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { PROGRAM_PRINTS, writeProgram } from "./support/program.ts";
import { requirePrograms } from "./support/programs.ts";
import { makeFiles, makeRealTree } from "./support/real-tree.ts";
import { ok } from "./support/run.ts";
import { Workspace } from "./support/workspace.ts";

const LONG_MS = 8 * 60_000;
const workspace = new Workspace();
let cluster: Cluster;

test.before(async () => {
  requirePrograms("cc", "make", "git", "sqlite3", "diff", "npm");
  cluster = await Cluster.start(workspace);
});
test.after.always(() => workspace.close());

test.serial("a source tree of 5,000 files and 200 MB is copied, compared, and there after a restart", async (t) => {
  t.timeout(2 * LONG_MS);
  const source = workspace.file("tree");
  const size = makeRealTree(source, { files: 5_000, bytes: 200_000_000 });
  t.log(`${size.files} files, ${Math.round(size.bytes / 1e6)} MB`);
  t.true(size.files >= 5_000 && size.bytes >= 200_000_000);
  const started = performance.now();
  await ok("cp", ["-a", source, cluster.path("tree")], { timeoutMs: LONG_MS });
  t.log(`copied in ${((performance.now() - started) / 1_000).toFixed(1)} s`);
  const compare = ["-r", "--no-dereference", source, cluster.path("tree")];
  t.is(await ok("diff", compare, { timeoutMs: LONG_MS }), "");
  await cluster.restartCold();
  t.is(await ok("diff", compare, { timeoutMs: LONG_MS }), "");
  await ok("rm", ["-rf", cluster.path("tree")], { timeoutMs: LONG_MS });
});

test.serial("a C program is unpacked and compiled by make -j2, and runs", async (t) => {
  t.timeout(LONG_MS);
  const source = workspace.directory("program");
  writeProgram(source);
  const archive = workspace.file("program.tar.gz");
  await ok("tar", ["czf", archive, "-C", source, "."]);
  const folder = cluster.path("program");
  mkdirSync(folder);
  await ok("tar", ["xzf", archive, "-C", folder]);
  await ok("make", ["-C", folder, "-j2"], { timeoutMs: LONG_MS });
  t.is(await ok(join(folder, "program"), []), PROGRAM_PRINTS);
  t.regex(await ok("make", ["-C", folder]), /up to date|Nothing to be done/);
  await ok("touch", [join(folder, "part7.c")]);
  const rebuilt = await ok("make", ["-C", folder]);
  t.is(rebuilt.match(/ -o part\d+\.o/g)?.length, 1, "make sees the times as they are");
});

test.serial("git: init, commit, clone, gc, fsck", async (t) => {
  t.timeout(LONG_MS);
  const environment = { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null" };
  const identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"];
  const git = (folder: string, ...args: string[]) => ok("git", [...identity, ...args], { cwd: folder, environment, timeoutMs: LONG_MS });
  const [original, clone] = [cluster.path("original"), cluster.path("clone")];
  mkdirSync(original);
  await git(original, "init", "-q");
  for (let commit = 0; commit < 20; commit++) {
    makeFiles(join(original, `part-${commit}`), { files: 40, bytes: 0 });
    writeFileSync(join(original, "changing"), `version ${commit}\n`.repeat(commit + 1));
    await git(original, "add", ".");
    await git(original, "commit", "-q", "-m", `commit ${commit}`);
  }
  await git(original, "gc", "-q");
  await git(original, "fsck", "--full", "--strict");
  await git(cluster.mountpoint, "clone", "-q", "--no-local", original, clone);
  await git(clone, "fsck", "--full", "--strict");
  t.is(await git(clone, "status", "--porcelain"), "");
  t.is((await git(clone, "log", "--oneline")).trim().split("\n").length, 20);
  await git(clone, "checkout", "-q", "HEAD~10");
  t.is(readFileSync(join(clone, "changing"), "utf8"), "version 9\n".repeat(10));
  await git(clone, "repack", "-adfq");
  await git(clone, "checkout", "-q", "main");
  await git(clone, "fsck", "--full");
});

test.serial("npm installs packages", async (t) => {
  t.timeout(LONG_MS);
  const names = packableModules().slice(0, 6);
  t.true(names.length >= 3, names.join(" "));
  const local = workspace.directory("npm");
  const folder = cluster.path("project");
  mkdirSync(folder);
  const environment = { npm_config_cache: join(local, "cache") };
  const npm = (cwd: string, ...args: string[]) => {
    const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--offline", "--loglevel=error"];
    return ok("npm", [...args, ...quiet], { cwd, environment, timeoutMs: LONG_MS });
  };
  const archives = new Map<string, string>();
  for (const name of names) archives.set(name, join(local, (await npm(local, "pack", join(MODULES, name))).trim()));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "project", version: "1.0.0", private: true }));
  await npm(folder, "install", ...archives.values());
  const listed = JSON.parse(await npm(folder, "ls", "--json")) as { dependencies: object };
  t.deepEqual(Object.keys(listed.dependencies).sort(), names.toSorted());
  await npm(folder, "ci");
  for (const [name, archive] of archives) {
    const expected = join(local, "unpacked", name);
    mkdirSync(expected, { recursive: true });
    await ok("tar", ["xzf", archive, "-C", expected, "--strip-components=1"]);
    t.is(await ok("diff", ["-r", expected, join(folder, "node_modules", name)]), "", name);
  }
});

for (const mode of ["DELETE", "TRUNCATE", "PERSIST"]) {
  test.serial(`sqlite3 with a rollback journal (${mode}) creates, writes, and finds its database whole`, async (t) => {
    const database = cluster.path(`database-${mode}`);
    const sqlite = (sql: string) => ok("sqlite3", ["-bail", database], { input: sql, timeoutMs: LONG_MS });
    t.is(
      (await sqlite(`pragma journal_mode=${mode}; create table item (id integer primary key, text text, number real);`)).trim(),
      mode.toLowerCase(),
    );
    const insert = "insert into item (text, number) select 'item ' || value, value * 1.5 from generate_series";
    await sqlite(`begin; ${insert}(1, 20000); commit; create index by_text on item (text);`);
    for (let round = 0; round < 20; round++) await sqlite(`update item set number = number + 1 where id % 20 = ${round};`);
    await sqlite("begin; delete from item where id % 2 = 0; rollback; delete from item where id > 15000; vacuum;");
    t.is(await sqlite("pragma integrity_check; select count(*), sum(number) from item;"), "ok\n15000|168776250.0\n");
  });
}

const MODULES = new URL("../node_modules", import.meta.url).pathname;

/** Installed packages that need no other. */
function packableModules(): string[] {
  return readdirSync(MODULES).filter((name) => {
    if (name.startsWith(".") || name.startsWith("@") || name === "dazzle") return false;
    const about = JSON.parse(readFileSync(join(MODULES, name, "package.json"), "utf8")) as Record<string, object | undefined>;
    return ["dependencies", "optionalDependencies", "peerDependencies", "bundleDependencies"].every(
      (kind) => Object.keys(about[kind] ?? {}).length === 0,
    );
  });
}
