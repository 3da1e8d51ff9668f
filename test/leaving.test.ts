import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { DAZZLE } from "./support/cluster.ts";
import { type ClusterMachine, MachineCluster } from "./support/machine-cluster.ts";
import type { Result } from "./support/run.ts";
import { until } from "./support/until.ts";
import { isRunning, Workspace } from "./support/workspace.ts";

const FAILURE = 1;
const FILES = 24;
const MORE_FILES = 6;
const LEAVE_DEADLINE_MS = 400_000;
const STATE_DEADLINE_MS = 120_000;

const workspace = new Workspace();
let cluster: MachineCluster;
const digests = new Map<string, string>();

const digestOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

function write(number: number): void {
  const bytes = randomBytes(number % 3 === 0 ? 3_000_000 : 10_000);
  writeFileSync(cluster.member(2).path("files", `${number}`), bytes);
  digests.set(`${number}`, digestOf(bytes));
}

test.before(async () => {
  cluster = await MachineCluster.start(workspace, 4);
  await cluster.member(2).mount();
  mkdirSync(cluster.member(2).path("files"));
  for (let number = 0; number < FILES; number++) write(number);
  await cluster.member(2).sync();
});
test.after.always(() => workspace.close());

function refuses(t: ExecutionContext, { code, stderr }: Result, why: RegExp): void {
  t.is(code, FAILURE, stderr);
  t.regex(stderr, why);
}

const leave = (machine: ClusterMachine, ...more: string[]) =>
  machine.dazzle(["leave", ...more, "--dir", machine.directory], LEAVE_DEADLINE_MS);

function readsAll(t: ExecutionContext, machine: ClusterMachine): void {
  t.deepEqual(readdirSync(machine.path("files")).sort(), [...digests.keys()].sort());
  for (const [name, digest] of digests) t.is(digestOf(readFileSync(machine.path("files", name))), digest, name);
}

test.serial("a machine does not leave while a mount runs there, and nobody leaves who is no member", async (t) => {
  refuses(t, await leave(cluster.member(2)), new RegExp(`m2 can't leave while mounts run there: unmount ${cluster.member(2).mountpoint}`));
  refuses(t, await leave(cluster.member(1), "m9"), /no member m9: there are m1, m2, m3, m4/);
  const { members, groups } = await cluster.first.status();
  t.false(members.some(({ state }) => state === "leaving"));
  t.is(groups[0]?.servers.length, 4);
});

test.serial(
  "a machine that has begun to leave stays where that is cancelled, and who is taken for dead and is there is not taken out",
  async (t) => {
    refuses(t, await leave(cluster.first, "m4", "--cancel"), /m4 is not leaving/);
    refuses(t, await leave(cluster.first, "m4", "--dead"), /m4 is there: dazzle leave m4 takes it out, without --dead/);
    // All servers must be up before anybody has left.
    await cluster.member(3).killNode();
    const leaving = leave(cluster.first, "m4");
    const stateOf = async (name: string) => (await cluster.first.status()).members.find((member) => member.name === name)?.state;
    await until("m4 to be leaving", STATE_DEADLINE_MS, async () => (await stateOf("m4")) === "leaving");
    const { code, stdout } = await leave(cluster.first, "m4", "--cancel");
    t.is(code, 0);
    t.regex(stdout, /m4 stays in the cluster/);
    refuses(t, await leaving, /m4 stays in the cluster: its leaving was cancelled/);
    cluster.member(3).startNode();
    await cluster.healthy();
  },
);

test.serial(
  "a machine leaves under use, and what it stored is whole on the others, though the command is killed in the middle",
  async (t) => {
    const leaver = cluster.member(4);
    const node = leaver.nodePid;
    const command = cluster.first.machine.start(
      process.execPath,
      [DAZZLE, "leave", "m4", "--dir", cluster.first.directory, "--json"],
      {},
      "ignore",
    );
    await until("m4 to be leaving", STATE_DEADLINE_MS, async () => {
      const { members } = await cluster.first.status();
      return members.find(({ name }) => name === "m4")?.state !== "up";
    });
    command.kill("SIGKILL");
    for (let number = FILES; number < FILES + MORE_FILES; number++) write(number);
    const { code, stderr, stdout } = await leave(cluster.first, "m4", "--json");
    // It may have left before the command was begun again.
    if (code !== 0) t.regex(stderr, /no member m4/);
    else t.is(JSON.parse(stdout).name, "m4");
    await until("its node to end", STATE_DEADLINE_MS, () => !isRunning(node));
    t.regex(leaver.log(), /the node stops.*it has left the cluster/);
    refuses(t, await leaver.dazzle(["node", "--dir", leaver.directory]), /m4 has left the cluster/);
    cluster.members.pop();
    await cluster.healthy();
    const { groups, members } = await cluster.first.status();
    t.deepEqual(
      members.map(({ name }) => name),
      ["m1", "m2", "m3"],
    );
    t.is(`${groups[0]?.dataFragments}+${groups[0]?.parityFragments}`, "2+1");
    readsAll(t, cluster.member(2));
  },
);

test.serial("parity is whole again: one more machine may die", async (t) => {
  // What it has in memory, others would read from there.
  await cluster.member(2).unmount();
  await cluster.member(3).killNode();
  await cluster.member(2).mount();
  readsAll(t, cluster.member(2));
  await cluster.member(2).unmount();
  cluster.member(3).startNode();
  await cluster.member(3).answering();
  await cluster.healthy();
});

test.serial("the first machine leaves, and of two none, where the group would have no parity then", async (t) => {
  const { code, stderr } = await leave(cluster.member(3), "m1");
  t.is(code, 0, stderr);
  cluster.members.shift();
  await cluster.healthy();
  refuses(t, await leave(cluster.first), /m2 can't leave: the group main would have 0 parity in place of 1.*--force/);
  const { groups } = await cluster.first.status();
  t.deepEqual([...(groups[0]?.servers ?? [])].sort(), ["m2", "m3"]);
  await cluster.first.mount();
  readsAll(t, cluster.first);
});

test.serial("a machine that is dead for good is taken out from another one, and what it stored is whole", async (t) => {
  const dead = await cluster.join();
  const { name } = dead.machine;
  await cluster.healthy();
  const { mountpoint } = cluster.first;
  for (let number = 0; number < MORE_FILES; number++) {
    const bytes = randomBytes(1_000_000);
    writeFileSync(join(mountpoint, "files", `late ${number}`), bytes);
    digests.set(`late ${number}`, digestOf(bytes));
  }
  await cluster.first.sync();
  await cluster.first.unmount();
  await dead.machine.vanish();
  refuses(t, await leave(cluster.first, name), new RegExp(`${name} does not answer.*dazzle leave ${name} --dead`));
  const { code, stderr, stdout } = await leave(cluster.first, name, "--dead");
  t.is(code, 0, stderr);
  t.regex(stdout, new RegExp(`${name} is taken out of the cluster`));
  cluster.members.pop();
  await cluster.healthy();
  await cluster.first.mount();
  readsAll(t, cluster.first);
  refuses(t, await leave(cluster.first, name, "--cancel"), new RegExp(`no member ${name}`));
});

test.serial("of two machines one leaves by force, and what both stored is whole on the other", async (t) => {
  const { code, stderr } = await leave(cluster.first, "m3", "--force");
  t.is(code, 0, stderr);
  cluster.members.pop();
  await cluster.healthy();
  const { groups, members, warnings } = await cluster.first.status();
  t.deepEqual(
    members.map(({ name }) => name),
    ["m2"],
  );
  t.is(groups[0]?.parityFragments, 0);
  t.true(
    warnings.some((warning) => /no parity/.test(warning)),
    warnings.join(),
  );
  await cluster.first.unmount();
  await cluster.first.mount();
  readsAll(t, cluster.first);
});
