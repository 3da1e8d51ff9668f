import { promises as fs } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { Cluster } from "./support/cluster.ts";
import { Locker } from "./support/locker.ts";
import { isMounted } from "./support/mounts.ts";
import { requirePrograms } from "./support/programs.ts";
import { ok } from "./support/run.ts";
import { tool } from "./support/tool.ts";
import { until } from "./support/until.ts";
import { signal, Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 60_000;
const KINDS = ["flock", "posix", "ofd"] as const;

type Context = ExecutionContext<unknown>;

/** One cluster with two mounts: for all tests. */
let workspace: Workspace;
let cluster: Cluster;
let other: string;
let files = 0;

test.before(async (t) => {
  t.timeout(5 * 60_000);
  workspace = new Workspace();
  cluster = await Cluster.start(workspace);
  other = workspace.directory("other-mnt");
  await mountOther();
});

test.after.always(async () => {
  await workspace?.close();
});

async function mountOther(): Promise<void> {
  const result = await cluster.command(["mount", other, "--dir", cluster.directory], DEADLINE_MS);
  if (result.code !== 0) throw new Error(`dazzle mount failed (${result.code}): ${result.stderr}`);
}

/** A new file, by its path on either mount. */
async function newFile(): Promise<[string, string]> {
  const name = `file${++files}`;
  await fs.writeFile(cluster.path(name), "some bytes");
  return [cluster.path(name), join(other, name)];
}

async function lockers(t: Context, count: number): Promise<Locker[]> {
  t.timeout(5 * 60_000);
  const path = await tool();
  const started = Array.from({ length: count }, () => new Locker(workspace, path));
  t.teardown(() => Promise.all(started.map((locker) => locker.kill())));
  return started;
}

/** The request waits: nobody answers for a while, which proves nothing where it fails to, and never fails otherwise. */
async function isWaiting(answer: Promise<string>): Promise<boolean> {
  return (await Promise.race([answer, sleep(300, "waits")])) === "waits";
}

for (const kind of KINDS) {
  test.serial(`${kind}: what one mount holds the other meets, waits for, and gets`, async (t) => {
    const [one, two, three] = (await lockers(t, 3)) as [Locker, Locker, Locker];
    const [here, there] = await newFile();
    t.is(await one.ask(`${kind} ex try ${here}`), "ok");
    t.is(await two.ask(`${kind} ex try ${there}`), "EAGAIN");
    t.is(await two.ask(`${kind} sh try ${there}`), "EAGAIN");
    const waiting = two.ask(`${kind} ex wait ${there}`);
    t.true(await isWaiting(waiting));
    t.is(await one.ask(`${kind} un try ${here}`), "ok");
    t.is(await waiting, "ok");
    t.is(await one.ask(`${kind} sh try ${here}`), "EAGAIN");
    t.is(await two.ask(`${kind} sh try ${there}`), "ok");
    t.is(await one.ask(`${kind} sh try ${here}`), "ok");
    t.is(await three.ask(`${kind} ex try ${there}`), "EAGAIN");
    // What is closed is free.
    t.is(await one.ask(`close ${here}`), "closed");
    t.is(await two.ask(`close ${there}`), "closed");
    t.is(await three.ask(`${kind} ex wait ${there}`), "ok");
  });

  test.serial(`${kind}: a signal ends a wait, and nothing stays held`, async (t) => {
    const [one, two] = (await lockers(t, 2)) as [Locker, Locker];
    const [here, there] = await newFile();
    t.is(await one.ask(`${kind} ex try ${here}`), "ok");
    const waiting = two.ask(`${kind} ex wait ${there}`);
    await isWaiting(waiting);
    let answered = "";
    void waiting.then((answer) => {
      answered = answer;
    });
    await until("the wait to be interrupted", DEADLINE_MS, () => {
      two.interrupt();
      return answered !== "";
    });
    t.is(answered, "EINTR");
    t.is(await one.ask(`${kind} un try ${here}`), "ok");
    t.is(await one.ask(`${kind} ex wait ${here}`), "ok");
  });

  test.serial(`${kind}: whoever dies, as a process or with its mount, holds nothing`, async (t) => {
    const [one, two, three] = (await lockers(t, 3)) as [Locker, Locker, Locker];
    const [here, there] = await newFile();
    t.is(await one.ask(`${kind} ex try ${there}`), "ok");
    const waiting = two.ask(`${kind} ex wait ${here}`);
    t.true(await isWaiting(waiting));
    await one.kill();
    t.is(await waiting, "ok");
    t.is(await two.ask(`${kind} un try ${here}`), "ok");
    t.is(await three.ask(`${kind} ex try ${there}`), "ok");
    t.is(await two.ask(`${kind} ex try ${here}`), "EAGAIN");
    const { mounts } = await cluster.status();
    const mount = mounts.find(({ mountpoint }) => mountpoint === other);
    const again = two.ask(`${kind} ex wait ${here}`);
    signal(mount?.pid as number, "SIGKILL");
    t.is(await again, "ok");
    await three.kill();
    await until("the dead mount to be unmounted", DEADLINE_MS, () => !isMounted(other));
    await mountOther();
    t.is(await ok("cat", [there]), "some bytes");
  });
}

for (const kind of ["posix", "ofd"]) {
  test.serial(`${kind}: ranges, what is in the way, and conversions`, async (t) => {
    const [one, two] = (await lockers(t, 2)) as [Locker, Locker];
    const [here, there] = await newFile();
    t.is(await one.ask(`${kind} ex try ${here} 0 100`), "ok");
    t.is(await one.ask(`${kind} un try ${here} 40 20`), "ok");
    t.is(await two.ask(`${kind} ex try ${there} 40 20`), "ok");
    t.is(await two.ask(`${kind} get sh ${there} 0 0`), "ex 0 40");
    t.is(await two.ask(`${kind} get sh ${there} 59 100`), "ex 60 40");
    t.is(await one.ask(`${kind} get sh ${here} 0 0`), "ex 40 20");
    t.is(await one.ask(`${kind} get sh ${here} 100 0`), "free");
    t.is(await one.ask(`${kind} sh try ${here} 60 40`), "ok");
    t.is(await two.ask(`${kind} sh try ${there} 60 10`), "ok");
    t.is(await one.ask(`${kind} ex try ${here} 60 40`), "EAGAIN");
    const upgraded = one.ask(`${kind} ex wait ${here} 60 40`);
    t.true(await isWaiting(upgraded));
    t.is(await two.ask(`${kind} un try ${there} 60 10`), "ok");
    t.is(await upgraded, "ok");
  });
}

test.serial("two mounts that wait for each other: one is told EDEADLK", async (t) => {
  const [one, two] = (await lockers(t, 2)) as [Locker, Locker];
  const [first, firstThere] = await newFile();
  const [second, secondThere] = await newFile();
  t.is(await one.ask(`posix ex try ${first}`), "ok");
  t.is(await two.ask(`posix ex try ${secondThere}`), "ok");
  const asked = [one.ask(`posix ex wait ${second}`), two.ask(`posix ex wait ${firstThere}`)];
  const told = await Promise.race(asked.map(async (answer, index) => ({ answer: await answer, index })));
  t.is(told.answer, "EDEADLK");
  const [loser, own] = told.index === 0 ? [one, first] : [two, secondThere];
  t.is(await loser.ask(`close ${own}`), "closed");
  t.is(await asked[1 - told.index], "ok");
});

test.serial("sqlite3 on two mounts at once: every transaction counts, the database is whole", async (t) => {
  t.timeout(10 * 60_000);
  requirePrograms("sqlite3");
  const name = "database";
  const sqlite = (mount: string, sql: string) =>
    ok("sqlite3", ["-bail", "-cmd", ".timeout 300000", join(mount, name)], { input: sql, timeoutMs: 300_000 });
  const { mountpoint } = cluster;
  await sqlite(
    mountpoint,
    "pragma journal_mode=delete; create table item (mount text, number integer); create table total (n integer); insert into total values (0);",
  );
  const rounds = 40;
  const work = async (mount: string, tag: string) => {
    const transaction = (number: number) =>
      `begin immediate; insert into item values ('${tag}', ${number}); update total set n = n + 1; commit;\n`;
    // Now and then a process of its own.
    for (let round = 0; round < rounds; round += 10)
      await sqlite(mount, Array.from({ length: 10 }, (_, index) => transaction(round + index)).join(""));
  };
  await Promise.all([work(mountpoint, "a"), work(other, "b"), work(mountpoint, "c")]);
  for (const mount of [mountpoint, other]) {
    const found = await sqlite(
      mount,
      "pragma integrity_check; select n from total; select mount, count(*), count(distinct number) from item group by mount;",
    );
    t.is(found, `ok\n${3 * rounds}\n${["a", "b", "c"].map((tag) => `${tag}|${rounds}|${rounds}\n`).join("")}`);
  }
});
