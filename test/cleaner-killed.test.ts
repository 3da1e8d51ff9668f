import { randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import { type LogRow, readMapFrom } from "@dazzle/core";
import { realClock, webSocketNetwork } from "@dazzle/runtime";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { cleanerRow, LeaderKills } from "./support/leader-kills.ts";
import { LoopDisk } from "./support/loop-disk.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const NODES = ["node1", "node2", "node3"];
const DISK_BYTES = 300_000_000;
const FILE_BYTES = 256 * 1024;
const KILL_EVERY_MS = 10_000;
const KILLS = 3;
/** Of the cluster's log, where the test fails. */
const LOG_BYTES = 20_000;
const CLEAN_DEADLINE_MS = 4 * 60_000;
/** Logs of cleaners that died are closed, and leave the map when what they hold is not needed. */
const CLOSED_DEADLINE_MS = 5 * 60_000;

async function cleanersLogs(cluster: Cluster): Promise<readonly LogRow[]> {
  const { members } = (await cluster.status()) as unknown as { readonly members: readonly { readonly address: string }[] };
  const map = await readMapFrom(webSocketNetwork(), realClock, members[0]?.address ?? "", 5_000);
  return map.logs.filter(({ kind }) => kind === "cleaner");
}

test("whoever leads the cleaning is killed every 10 s while disks that are 80% full are overwritten: nothing is refused, and every byte is right", async (t) => {
  t.timeout(15 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = new Cluster(workspace);
  t.teardown(() => {
    if (!t.passed) process.stderr.write(cluster.log().slice(-LOG_BYTES));
  });
  for (const name of NODES) await LoopDisk.create(workspace, name, cluster.nodeDirectory(name), DISK_BYTES);
  await cluster.up();
  const contents = new Map<string, Buffer>();
  const write = async (index: number) => {
    const path = cluster.path(`file-${index}`);
    const content = randomBytes(FILE_BYTES);
    // Part of what is there, as a rule: so that segments die in part.
    const known = contents.get(path);
    const from = known === undefined ? 0 : FILE_BYTES / 2;
    known?.copy(content, 0, 0, from);
    const handle = await fs.open(path, known === undefined ? "w" : "r+");
    await handle.write(content, from, FILE_BYTES - from, from);
    await handle.close();
    contents.set(path, content);
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
  const kills = new LeaderKills(cluster, KILL_EVERY_MS);
  let cleaning: Promise<unknown> | null = null;
  let overwritten = 0;
  for (; kills.kills < KILLS || kills.lost.segmentsCleaned === 0; overwritten++) {
    kills.check();
    cleaning ??= cluster.command(["clean", "--dir", cluster.directory, "--until", "0.95"], CLEAN_DEADLINE_MS).finally(() => {
      cleaning = null;
    });
    await write(Math.floor(Math.random() * (Math.random() < 0.9 ? hot : files)));
  }
  await kills.end();
  await cleaning;
  await cluster.sync();
  t.log(
    `${kills.kills} kills, ${kills.lost.segmentsCleaned} segments cleaned by those that were killed; ${overwritten} updates of ${files} files`,
  );
  const cleaned = await cluster.command(["clean", "--dir", cluster.directory, "--json"], CLEAN_DEADLINE_MS);
  t.is(cleaned.code, 0, cleaned.stderr);
  const row = await cleanerRow(cluster);
  t.log(JSON.stringify(row));
  t.true(row.utilisation >= 0.9);
  const isClosed = async () => {
    const logs = await cleanersLogs(cluster);
    const open = logs.filter(({ state }) => state !== "closed");
    if (open.length > NODES.length || open.some(({ state }) => state !== "live")) throw new Error(JSON.stringify(logs));
    return true;
  };
  await until("the logs of the dead to be closed", CLOSED_DEADLINE_MS, isClosed);
  const allRight = async () => {
    for (const [path, content] of contents) t.true((await fs.readFile(path)).equals(content), path);
  };
  await allRight();
  await cluster.remountCold();
  await allRight();
  await cluster.sound("--data");
  t.pass();
});
