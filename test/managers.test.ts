import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import test from "ava";
import { MachineCluster } from "./support/machine-cluster.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 180_000;
const SLOTS = 64;
const SHARES = [21, 21, 22];

interface Manager {
  readonly name: string;
  readonly slotList: readonly number[];
}

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

async function managers(): Promise<readonly Manager[]> {
  const { managers: listed } = JSON.parse(await cluster.first.must(["manager", "list", "--dir", cluster.first.directory, "--json"]));
  return listed;
}

/** Slots by member, the fewest first. */
async function shares(): Promise<number[]> {
  return (await managers()).map(({ slotList }) => slotList.length).sort((one, other) => one - other);
}

async function spread(): Promise<void> {
  await until("the slots to be spread evenly", DEADLINE_MS, async () => JSON.stringify(await shares()) === JSON.stringify(SHARES));
}

test.serial("each machine manages its share of the slots", async (t) => {
  await spread();
  t.pass();
});

test.serial("slots move while they are used, and no call fails", async (t) => {
  const [first, second] = [cluster.first, cluster.member(2)];
  mkdirSync(first.path("moving"));
  const slot = statSync(first.path("moving")).ino % SLOTS;
  let moved = false;
  let longestMs = 0;
  const lines: string[] = [];
  const writing = (async () => {
    const file = await open(first.path("moving", "lines"), "a");
    for (let count = 0; !moved; count++) {
      const beganMs = performance.now();
      const line = `line ${count}\n`;
      await file.write(line);
      await file.sync();
      writeFileSync(first.path("moving", `file ${count % 50}`), line);
      lines.push(line);
      longestMs = Math.max(longestMs, performance.now() - beganMs);
    }
    await file.close();
  })();
  const tookMs: number[] = [];
  for (const name of ["m2", "m3", "m1", "m3", "m2"]) {
    const beganMs = performance.now();
    // A machine under load may look dead for a moment, and its slots move by themselves.
    await until(`slot ${slot} to be with ${name}`, DEADLINE_MS, async () => {
      const { code } = await second.dazzle(["manager", "move", String(slot), name, "--dir", second.directory]);
      return code === 0 && (await managers()).some((manager) => manager.name === name && manager.slotList.includes(slot));
    });
    tookMs.push(Math.round(performance.now() - beganMs));
    t.true(existsSync(second.path("moving", "lines")));
  }
  moved = true;
  await writing;
  t.log(`moves took ${tookMs.join(", ")} ms with their commands; the longest write with fsync and a new file: ${Math.round(longestMs)} ms`);
  t.is(readFileSync(second.path("moving", "lines"), "utf8"), lines.join(""));
});

test.serial("the slots of a machine that dies go to the others, and it gets its share again", async (t) => {
  const [first, second, third] = [cluster.first, cluster.member(2), cluster.member(3)];
  writeFileSync(first.path("before"), "written before");
  await third.killNode();
  writeFileSync(first.path("during"), "written while it was dead");
  t.is(readFileSync(second.path("during"), "utf8"), "written while it was dead");
  t.is(readFileSync(second.path("before"), "utf8"), "written before");
  await until(
    "its slots to be with the others",
    DEADLINE_MS,
    async () => JSON.stringify((await shares()).filter((count) => count > 0)) === "[32,32]",
  );
  third.startNode();
  await spread();
  writeFileSync(second.path("after"), "written after");
  t.is(readFileSync(first.path("after"), "utf8"), "written after");
  t.is(readFileSync(first.path("during"), "utf8"), "written while it was dead");
});
