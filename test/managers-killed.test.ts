import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { MachineCluster } from "./support/machine-cluster.ts";
import { PROGRAM_PRINTS, writeProgram } from "./support/program.ts";
import { requirePrograms } from "./support/programs.ts";
import { makeFiles } from "./support/real-tree.ts";
import { ok, run } from "./support/run.ts";
import { touchUntil } from "./support/touch.ts";
import { until } from "./support/until.ts";
import { signal, Workspace } from "./support/workspace.ts";

/** That are there before: what a manager's shards hold must be read by who takes them over. */
const FILES = Number(process.env.DAZZLE_FILES ?? 3_000);
const FILES_A_DIRECTORY = 1_000;
const TREE_FILES = 1_500;
const DEADLINE_MS = 180_000;
const LONG_MS = 15 * 60_000;

const workspace = new Workspace();
let cluster: MachineCluster;

test.before(async (t) => {
  t.timeout(2 * LONG_MS);
  requirePrograms("cc", "make", "diff");
  cluster = await MachineCluster.start(workspace, 3);
  await cluster.first.mount();
  await cluster.member(2).mount();
  await cluster.member(3).mount();
  await spread();
  for (let number = 0; number * FILES_A_DIRECTORY < FILES; number++) {
    const directory = third().path("there", `${number}`);
    mkdirSync(directory, { recursive: true });
    await ok("sh", ["-c", 'seq -f f%.0f 1 "$1" | xargs touch', "sh", `${Math.min(FILES_A_DIRECTORY, FILES)}`], {
      cwd: directory,
      timeoutMs: LONG_MS,
    });
  }
  await third().sync();
});
test.afterEach.always((t) => {
  if (!t.passed) t.log(cluster.log().slice(-30_000));
});
test.after.always(() => workspace.close());

/** The one that dies. What is made at its mount is in its own manager's slots. */
const third = () => cluster.member(3);

async function slotsOf(name: string): Promise<readonly number[]> {
  const answer = await cluster.first.must(["manager", "list", "--dir", cluster.first.directory, "--json"]);
  const { managers } = JSON.parse(answer) as { managers: { name: string; slotList: number[] }[] };
  return managers.find((manager) => manager.name === name)?.slotList ?? [];
}

async function spread(): Promise<void> {
  await until("each machine to manage its share", DEADLINE_MS, async () => {
    for (const name of ["m1", "m2", "m3"]) if ((await slotsOf(name)).length <= 20) return false;
    return true;
  });
}

/** Files in directories of their own, in slots of the machine that is to die. */
async function probed(t: ExecutionContext, round: string): Promise<string[]> {
  const files = Array.from({ length: PROBED }, (_, number) => join(`${round}-probed`, `${number}`, "file"));
  for (const file of files) {
    mkdirSync(dirname(third().path(file)), { recursive: true });
    writeFileSync(third().path(file), file);
  }
  const slots = await slotsOf("m3");
  const concerned = files.filter((file) => slots.includes(statSync(third().path(file)).ino % SLOTS));
  t.true(concerned.length > PROBED / 2, `${concerned.length} files are in slots of m3`);
  return files;
}

const PROBED = 64;
const SLOTS = 64;

async function worksOn(t: ExecutionContext, round: string, happens: () => Promise<void>): Promise<void> {
  const [first, second] = [cluster.first, cluster.member(2)];
  const source = workspace.directory(`${round}-tree`);
  makeFiles(source, { files: TREE_FILES, bytes: 0 });
  const archive = workspace.file(`${round}.tar`);
  await ok("tar", ["cf", archive, "-C", source, "."]);
  const program = second.path(`${round}-program`);
  for (const name of ["program", "tree"]) mkdirSync(third().path(`${round}-${name}`));
  writeProgram(third().path(`${round}-program`));
  const files = await probed(t, round);
  await third().sync();

  let over = false;
  const probes = [first, second].map((machine) => touchUntil(machine, files, () => over));
  const work = (async () => {
    for (;;) {
      const untar = run("tar", ["xf", archive, "-C", first.path(`${round}-tree`)], { timeoutMs: LONG_MS });
      const make = run("make", ["-C", program, "-j2"], { timeoutMs: LONG_MS });
      const results = await Promise.all([untar, make]);
      for (const { code, stderr } of results) t.is(code, 0, stderr);
      if (over) return;
      await ok("make", ["-C", program, "clean"]);
    }
  })();
  await sleep(2_000);
  await happens();
  over = true;
  const [pauses] = await Promise.all([Promise.all(probes), work]);
  t.log(`${round}: the longest call took ${pauses.map(Math.round).join(" and ")} ms at the two mounts (wanted: 5,000)`);
  for (const machine of [first, second]) {
    t.is(await ok("diff", ["-r", source, machine.path(`${round}-tree`)], { timeoutMs: LONG_MS }), "");
    t.is(await ok(join(machine.path(`${round}-program`), "program"), []), PROGRAM_PRINTS);
  }
  await rm(first.path(`${round}-tree`), { recursive: true });
}

/** Somebody else has the slots of a machine that died, or hangs. */
async function takenOver(name: string): Promise<void> {
  await until(`the slots of ${name} to be with others`, DEADLINE_MS, async () => (await slotsOf(name)).length === 0);
}

test.serial("a machine that manages, stores and keeps is killed while two mounts unpack and compile: no call fails", async (t) => {
  t.timeout(LONG_MS);
  await worksOn(t, "killed", async () => {
    await third().killNode();
    await takenOver("m3");
  });
  third().startNode();
  await third().answering();
  await cluster.healthy();
  await spread();
});

test.serial("a machine that manages, stores and keeps hangs while two mounts unpack and compile: no call fails", async (t) => {
  t.timeout(LONG_MS);
  const pid = third().nodePid;
  await worksOn(t, "hung", async () => {
    signal(pid, "SIGSTOP");
    await takenOver("m3");
  });
  signal(pid, "SIGCONT");
  await cluster.healthy();
  await spread();
  const { code, stdout, stderr } = await cluster.first.dazzle(["fsck", "--json", "--dir", cluster.first.directory], DEADLINE_MS);
  t.is(code, 0, stdout + stderr);
});
