import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { type FileHandle, open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { Locker } from "./support/locker.ts";
import { type ClusterMachine, MachineCluster } from "./support/machine-cluster.ts";
import { isMounted } from "./support/mounts.ts";
import { tool } from "./support/tool.ts";
import { until } from "./support/until.ts";
import { isRunning, Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 120_000;
const PAGE_BYTES = 4096;
const PAGES = 3;

const workspace = new Workspace();
let cluster: MachineCluster;
/** No member, so that it is its mount alone that is cut off. */
let outsider: ClusterMachine;

test.before(async () => {
  cluster = await MachineCluster.start(workspace, 3);
  outsider = await cluster.addMachine();
  await cluster.first.mount();
  await cluster.member(2).mount();
  await outsider.must(["mount", outsider.mountpoint, "--cluster", cluster.first.address, "--dir", outsider.directory]);
});
test.afterEach.always((t) => {
  if (!t.passed) t.log(`${outsider.log().slice(-6_000)}\n${cluster.log().slice(-6_000)}`);
});
test.after.always(() => workspace.close());

/** Pages that all hold the same number. */
function pages(count: number): Buffer {
  return Buffer.concat(Array.from({ length: PAGES }, () => Buffer.alloc(PAGE_BYTES, `${count}\n`)));
}

async function readPage(file: FileHandle, page: number): Promise<number> {
  const { buffer } = await file.read(Buffer.alloc(PAGE_BYTES), 0, PAGE_BYTES, page * PAGE_BYTES);
  return Number.parseInt(buffer.toString("latin1"), 10);
}

/** What a call fails with; "" where it does not. */
async function failure(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "",
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  );
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1_000).toFixed(1)} s`;
}

test.serial("after a cut of 5 s nothing is noticed but the pause", async (t) => {
  const mine = await open(outsider.path("mine"), "w+");
  await mine.write("before ");
  await mine.sync();
  await writeFile(cluster.first.path("theirs"), "from the first");
  const theirs = await open(outsider.path("theirs"), "r");
  t.is(await theirs.readFile("utf8"), "from the first");
  await outsider.machine.linkDown();
  const began = performance.now();
  // Part of a block: what it held comes from the servers.
  const writing = failure(mine.write("during ").then(() => mine.sync()));
  await sleep(5_000);
  await outsider.machine.linkUp();
  t.is(await writing, "");
  t.log(`a write and fsync that came with the cut took ${seconds(began)}`);
  await mine.write("after");
  await mine.sync();
  await mine.close();
  await theirs.close();
  t.is(await readFile(cluster.first.path("mine"), "utf8"), "before during after");
  t.is(await readFile(outsider.path("theirs"), "utf8"), "from the first");
  t.notRegex(outsider.log(), /this mount was expelled/);
});

test.serial("a mount that is cut off for longer never reads stale bytes, says what it could not save, and rejoins by itself", async (t) => {
  const [first, second] = [cluster.first, cluster.member(2)];
  await writeFile(outsider.path("count"), pages(1));
  const clean = await open(outsider.path("count"), "r");
  t.deepEqual(await Promise.all([0, 1, 2].map((page) => readPage(clean, page))), [1, 1, 1]);
  const lost = Buffer.alloc(PAGE_BYTES, "lost");
  const dirty = await open(outsider.path("dirty"), "w+");
  await dirty.write("kept");
  await dirty.sync();
  await writeFile(outsider.path("closed"), "one");
  t.is(await readFile(outsider.path("closed"), "utf8"), "one");
  await outsider.sync();

  await outsider.machine.linkDown();
  const cutMs = performance.now();
  // A whole block, so that nothing is asked for.
  await dirty.write(lost, 0, PAGE_BYTES, PAGE_BYTES);
  // The others' clock, and what the cut machine's applications read meanwhile.
  let [count, stopping] = [1, false];
  t.teardown(() => {
    stopping = true;
  });
  const failures: string[] = [];
  const reader = async (page: number) => {
    while (!stopping) {
      const least = count;
      try {
        const found = await readPage(clean, page);
        if (found < least) failures.push(`page ${page} says ${found} after ${least} was written`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EIO") failures.push(String(error));
      }
      await sleep(20);
    }
  };
  const readers = [reader(0), reader(PAGES - 1)];
  for (const machine of [first, second, first]) {
    await writeFile(machine.path("count"), pages(count + 1));
    if (count === 1) t.log(`the others wrote what it held ${seconds(cutMs)} after the cut`);
    count++;
  }
  await writeFile(first.path("closed"), "two");
  await outsider.machine.linkUp();
  const upMs = performance.now();
  await until("the mount to rejoin", DEADLINE_MS, () => outsider.log().includes("this mount has rejoined"));
  t.log(`it rejoined ${seconds(upMs)} after the link was back`);
  for (let page = 0; page < PAGES; page++) t.is(await readPage(clean, page), count);
  t.is(await readFile(outsider.path("closed"), "utf8"), "two");
  await writeFile(second.path("count"), pages(count + 1));
  count++;
  for (let page = 0; page < PAGES; page++) t.is(await readPage(clean, page), count);
  stopping = true;
  await Promise.all(readers);
  t.deepEqual(failures, []);

  t.is(await failure(dirty.write("x", 0)), "EIO");
  t.is(await failure(dirty.sync()), "EIO");
  t.is(await failure(dirty.read(Buffer.alloc(1), 0, 1, 0)), "EIO");
  t.is(await failure(dirty.close()), "EIO");
  t.is(await readFile(outsider.path("dirty"), "utf8"), "kept");
  t.is(await readFile(first.path("dirty"), "utf8"), "kept");
  const spool = join(outsider.directory, "spool");
  const [log] = readdirSync(spool);
  t.regex(
    readFileSync(join(spool, log as string, "what-was-lost.txt"), "utf8"),
    /^wrote {4}dirty: bytes 4096-8191 of 8192, kept in files\/dirty$/m,
  );
  t.true(
    readFileSync(join(spool, log as string, "files", "dirty"))
      .subarray(PAGE_BYTES)
      .equals(lost),
  );
  t.regex(outsider.log(), /what could not be saved is kept in the spool directory.*spool/);
  await clean.close();

  await writeFile(outsider.path("again"), "works");
  t.is(await readFile(first.path("again"), "utf8"), "works");
});

test.serial("a frozen mount is ended, others go on, and the kernel serves nothing more of what it had", async (t) => {
  const [first, second] = [cluster.first, cluster.member(2)];
  await writeFile(second.path("frozen"), "old");
  const file = await open(second.path("frozen"), "r");
  t.is(await file.readFile("utf8"), "old");
  const pid = second.mountPid();
  process.kill(pid, "SIGSTOP");
  const began = performance.now();
  await writeFile(first.path("frozen"), "new");
  t.log(`another mount had written it ${seconds(began)} after the freeze`);
  await until("the frozen mount to be gone", DEADLINE_MS, () => !isRunning(pid) && !isMounted(second.mountpoint));
  const { bytesRead, buffer } = await file.read(Buffer.alloc(3), 0, 3, 0).catch(() => ({ bytesRead: 0, buffer: Buffer.alloc(0) }));
  t.not(buffer.toString("utf8", 0, bytesRead), "old");
  await failure(file.close());
  await second.mount();
  t.is(await readFile(second.path("frozen"), "utf8"), "new");
});

test.serial(
  "others go on when a mount that holds tokens is killed, what it had synced is there, and it mounts again at once",
  async (t) => {
    const [first, second] = [cluster.first, cluster.member(2)];
    const file = await open(second.path("held"), "w+");
    await file.write("synced");
    await file.sync();
    await file.write(", not synced");
    const killed = performance.now();
    await second.killMount();
    t.is((await readFile(first.path("held"), "utf8")).slice(0, 6), "synced");
    await writeFile(first.path("held"), "by another");
    t.log(`another mount had read and written it ${seconds(killed)} after the kill`);
    await failure(file.close());
    await second.mount();
    t.log(`it was mounted again ${seconds(killed)} after the kill`);
    t.is(await readFile(second.path("held"), "utf8"), "by another");
    t.true(existsSync(first.path("held")));
  },
);

test.serial("the machine that the cluster began with is cut off: the others go on, and it comes back", async (t) => {
  const [first, second, third] = [cluster.first, cluster.member(2), cluster.member(3)];
  await third.mount();
  await writeFile(first.path("of the first"), "old");
  await first.sync();
  await first.machine.linkDown();
  const cutMs = performance.now();
  for (const [machine, text] of [
    [second, "new"],
    [third, "newer"],
  ] as const) {
    await until("the others to go on", 2 * DEADLINE_MS, async () => (await failure(writeFile(machine.path("of the first"), text))) === "");
    t.log(`${machine.machine.name} wrote ${seconds(cutMs)} after the cut`);
  }
  t.is(await readFile(second.path("of the first"), "utf8"), "newer");
  await first.machine.linkUp();
  await until(
    "the first to see what the others did",
    2 * DEADLINE_MS,
    async () => (await readFile(first.path("of the first"), "utf8")) === "newer",
  );
  await until("the first to write again", 2 * DEADLINE_MS, async () => (await failure(writeFile(first.path("again"), "x"))) === "");
  t.is(await readFile(third.path("again"), "utf8"), "x");
});

test.serial(
  "the power of a machine is cut that is everything at once: the others go on, also with the lock that was held there",
  async (t) => {
    const [first, second, third] = [cluster.first, cluster.member(2), cluster.member(3)];
    mkdirSync(first.path("alone"));
    const name = join("alone", "held");
    const held = await open(first.path(name), "w+");
    await held.write("synced");
    await held.sync();
    const [holder, waiter] = [new Locker(workspace, await tool()), new Locker(workspace, await tool())];
    t.teardown(() => waiter.kill());
    t.is(await holder.ask(`posix ex wait ${first.path(name)}`), "ok");
    const vanished = performance.now();
    await first.machine.vanish();
    const locked = waiter.ask(`posix ex wait ${second.path(name)}`);
    const reading = readFile(third.path(name), "utf8");
    const writing = writeFile(second.path("alone", "new"), "x");
    t.is(await locked, "ok");
    t.is((await reading).slice(0, 6), "synced");
    await writing;
    t.log(`all was done ${seconds(vanished)} after the cut`);
    await holder.kill();
    await failure(held.close());
  },
);
