import { randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import test, { type ExecutionContext } from "ava";
import { Cluster } from "./support/cluster.ts";
import { cleanerRow } from "./support/leader-kills.ts";
import { LoopDisk } from "./support/loop-disk.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const BLOCK = 4096;
const MIB = 1024 * 1024;
const CLEAN_DEADLINE_MS = 4 * 60_000;

interface Cleaned {
  readonly groups: readonly {
    readonly segments: number;
    readonly bytesWon: number;
    readonly utilisation: number;
    readonly writeCost: number;
    readonly done: boolean;
  }[];
}

async function begin(t: ExecutionContext<unknown>): Promise<Cluster> {
  t.timeout(10 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  return Cluster.start(workspace);
}

async function usedBytes(cluster: Cluster): Promise<number> {
  let { members } = await cluster.status();
  // A node that has no time to answer tells of nothing.
  await until("all nodes to tell what they hold", 60_000, async () => {
    members = (await cluster.status()).members;
    return members.every(({ state }) => state === "up");
  });
  return members.reduce((sum, { bytesUsed }) => sum + bytesUsed, 0);
}

/** Files that fill segments together, of which then every other one is deleted; and one of which every other block is written anew. Answers what they hold, and what was
 * stored before. */
async function halve(
  cluster: Cluster,
  files: number,
  fileBlocks: number,
): Promise<{ readonly contents: Map<string, Buffer>; readonly before: number }> {
  const contents = new Map<string, Buffer>();
  for (let index = 0; index < files; index++) {
    const path = cluster.path(`file-${index}`);
    contents.set(path, randomBytes(fileBlocks * BLOCK));
    await fs.writeFile(path, contents.get(path) as Buffer);
  }
  const patched = cluster.path("patched");
  const content = randomBytes(2 * MIB);
  await fs.writeFile(patched, content);
  await cluster.sync();
  const before = await usedBytes(cluster);
  for (let index = 0; index < files; index += 2) {
    const path = cluster.path(`file-${index}`);
    await fs.unlink(path);
    contents.delete(path);
  }
  const handle = await fs.open(patched, "r+");
  for (let at = 0; at < content.length; at += 2 * BLOCK) {
    randomBytes(BLOCK).copy(content, at);
    await handle.write(content, at, BLOCK, at);
  }
  await handle.close();
  contents.set(patched, content);
  await cluster.sync();
  return { contents, before };
}

async function allRight(t: ExecutionContext<unknown>, contents: ReadonlyMap<string, Buffer>): Promise<void> {
  for (const [path, content] of contents) t.true((await fs.readFile(path)).equals(content), path);
}

async function isClean(t: ExecutionContext<unknown>, cluster: Cluster): Promise<void> {
  const looked = await cluster.command(["fsck", "--data", "--dir", cluster.directory], 240_000);
  t.is(looked.code, 0, looked.stdout + looked.stderr);
}

test.serial("dazzle clean wins the space of what was deleted and overwritten in part, and every byte is right", async (t) => {
  const cluster = await begin(t);
  const { contents, before } = await halve(cluster, 64, 64);
  const cleaned = await cluster.command(["clean", "--dir", cluster.directory, "--json"], CLEAN_DEADLINE_MS);
  t.is(cleaned.code, 0, cleaned.stderr);
  const told = (JSON.parse(cleaned.stdout) as Cleaned).groups[0];
  t.log(JSON.stringify(told), `${before} bytes before`);
  t.true(told?.done);
  t.true((told?.utilisation ?? 0) >= 0.9);
  await until("the space to be back", 240_000, async () => (await usedBytes(cluster)) < 0.8 * before);
  await allRight(t, contents);
  const row = await cleanerRow(cluster);
  t.is(row.group, "main");
  t.not(row.leader, null);
  t.log(JSON.stringify(row));
  t.true(row.segmentsCleaned > 4, "the command, or cleaners by themselves before it");
  t.true(row.writeCost > 1);
  const again = await cluster.command(["clean", "--dir", cluster.directory], CLEAN_DEADLINE_MS);
  t.is(again.code, 0, again.stderr);
  t.regex(again.stdout, /^main: .*in \d+ segments lives$/m);
  await cluster.remountCold();
  await allRight(t, contents);
  await isClean(t, cluster);
  await cluster.restartCold();
  await allRight(t, contents);
  await isClean(t, cluster);
});

test.serial("nodes that clean are killed again and again: dazzle clean goes on, and every byte is right", async (t) => {
  const cluster = await begin(t);
  const { contents, before } = await halve(cluster, 192, 64);
  const cleaning = cluster.command(["clean", "--dir", cluster.directory, "--json"], CLEAN_DEADLINE_MS);
  for (const name of await cluster.expendable()) {
    const { segmentsCleaned } = await cleanerRow(cluster);
    await until("something to be cleaned", 60_000, async () => (await cleanerRow(cluster)).segmentsCleaned > segmentsCleaned).catch(
      () => {},
    );
    await cluster.killNode(name);
    await cluster.startNode(name);
  }
  const cleaned = await cleaning;
  t.is(cleaned.code, 0, cleaned.stderr);
  t.log(cleaned.stdout);
  await until("the space to be back", 120_000, async () => (await usedBytes(cluster)) < 0.8 * before);
  await allRight(t, contents);
  await cluster.remountCold();
  await allRight(t, contents);
  await isClean(t, cluster);
});

test.serial(
  "a cluster that is nearly full is overwritten at random, hot and cold, for more than it has free: nothing is refused",
  async (t) => {
    t.timeout(10 * 60_000);
    const workspace = new Workspace();
    t.teardown(() => workspace.close());
    const cluster = new Cluster(workspace);
    for (const name of ["node1", "node2", "node3"]) await LoopDisk.create(workspace, name, cluster.nodeDirectory(name), 300_000_000);
    await cluster.up();
    const contents = new Map<string, Buffer>();
    const write = async (index: number) => {
      const path = cluster.path(`file-${index}`);
      contents.set(path, randomBytes(64 * BLOCK));
      await fs.writeFile(path, contents.get(path) as Buffer);
    };
    const freeShare = async () => {
      const { bavail, blocks } = await fs.statfs(cluster.mountpoint);
      return bavail / blocks;
    };
    let files = 0;
    while ((await freeShare()) > 0.2) {
      for (const end = files + 40; files < end; files++) await write(files);
      await cluster.sync();
    }
    const hot = Math.floor(files / 10);
    for (let round = 0; round < 700; round++) await write(Math.floor(Math.random() * (Math.random() < 0.9 ? hot : files)));
    await cluster.sync();
    const row = await cleanerRow(cluster);
    t.log(`${files} files; ${JSON.stringify(row)}`);
    t.true(row.segmentsCleaned > 0);
    await cluster.remountCold();
    await allRight(t, contents);
    await isClean(t, cluster);
  },
);

test.serial("Ctrl-C ends dazzle clean, and the cleaning that it asked for", async (t) => {
  const cluster = await begin(t);
  const { contents } = await halve(cluster, 64, 64);
  const cleaning = cluster.start(["clean", "--until", "1", "--dir", cluster.directory]);
  await until("the group to be cleaned", 60_000, async () => !["idle", "none"].includes((await cleanerRow(cluster)).state));
  cleaning.kill("SIGINT");
  await until("the command to end", 30_000, () => cleaning.exitCode !== null || cleaning.signalCode !== null);
  t.is(cleaning.exitCode, 1);
  t.regex(cluster.log(), /it was interrupted, and has stopped/);
  await until("nobody to wait for cleaning", 120_000, async () => (await cleanerRow(cluster)).state === "idle");
  await allRight(t, contents);
});

test.serial("what can't be cleaned is told in one line", async (t) => {
  const cluster = await begin(t);
  for (const [args, code, line] of [
    [["--group", "nope"], 1, /there is no group nope: there are main/],
    [["--until", "2"], 2, /--until takes a share from 0 to 1, not "2"/],
  ] as const) {
    const result = await cluster.command(["clean", "--dir", cluster.directory, ...args]);
    t.is(result.code, code);
    t.regex(result.stderr, line);
  }
  const idle = await cluster.command(["clean", "--dir", cluster.directory], CLEAN_DEADLINE_MS);
  t.is(idle.code, 0, idle.stderr);
  t.regex(idle.stdout, /^main: nothing to win; /m);
});
