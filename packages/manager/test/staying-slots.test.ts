import { DazzleError, type Delta, decodeInode, deferred, type MemberId, withLog } from "@dazzle/core";
import { managerStatus } from "@dazzle/manager";
import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster, SMALL } from "./support/cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

const LIMIT_MS = 300_000;
const MANAGERS = [1, 2, 3] as MemberId[];
const SLOT = 1;

/** A slot of the second manager that is about to move to the third, and a file there that a mount has which can be killed: what is shipped has size 1, what is only logged size 2. */
async function started(seed: number) {
  const world = new World(seed);
  const cluster = new Cluster(world, SMALL, MANAGERS);
  await world.run(cluster.start());
  await world.run(cluster.opened());
  const mount = await world.run(cluster.mount("mount"));
  mount.keepAlive();
  const killed = await world.run(cluster.mount("killed"));
  const { first } = (await world.run(killed.call("numbers", { slot: SLOT, count: 10 }))).reply;
  const put = (size: number): Delta => ({ kind: "putInode", ino: ino(first), inode: inodeOf(first, { size }) });
  await world.run(killed.change([put(1)]));
  await world.run(killed.write([put(2)]));
  const owner = cluster.managerOf(2);
  const { mounts, table, host, yielder, checkpointer } = owner.parts;
  const to = { member: MANAGERS[2] as MemberId, log: cluster.managerOf(3).log };
  const map = cluster.mapOf(2);
  const decided = deferred();
  const read = deferred();
  /** The log of who is killed can't be read until `read` resolves. */
  const holdReads = () => {
    cluster.logs.hold = read.promise;
  };
  const change = map.change.bind(map);
  /** Resolves when the slot is out of its manager; it stays so until `decided` resolves, and then it does not move. */
  const leave = async () => {
    map.change = async (edit) => {
      map.change = change;
      await decided.promise;
      return change(edit);
    };
    const moved = yielder.yield([SLOT], to, checkpointer).then(
      () => "moved",
      (error: Error) => error.message,
    );
    await world.run(() => !host.has(SLOT), LIMIT_MS);
    await world.run(
      cluster.map.change((now) => withLog(now, to.log, { state: "expelled" })),
      LIMIT_MS,
    );
    return { moved };
  };
  /** What the other mount gets. */
  const size = async () => {
    const acquired = await mount.patiently(() => mount.call("acquire", { ino: first, exclusive: true }));
    return decodeInode(Buffer.concat(acquired.tail)).size;
  };
  return { world, cluster, owner, killed, mounts, table, decided, read, holdReads, leave, size };
}

test("what a mount did that is gone while a slot was about to move is in that slot before others get it, where it stays after all", async (t) => {
  const { world, owner, killed, mounts, table, decided, read, holdReads, leave, size } = await started(14);
  const { moved } = await leave();
  killed.kill();
  await world.run(() => mounts.recovered === 1, LIMIT_MS);
  t.is(table.stateOf(SLOT), "leaving");
  holdReads();
  decided.resolve();
  await world.run(() => mounts.session(killed.log)?.state === "recovering", LIMIT_MS);
  t.is(table.stateOf(SLOT), "leaving");
  const reason = `what mount ${killed.log}, which is gone, did there is not applied yet`;
  t.deepEqual(managerStatus(owner, world.nowMs).slotsWaiting, [{ slots: [SLOT], reason }]);
  read.resolve();
  t.regex(await world.run(moved, LIMIT_MS), /is not there any more/);
  t.deepEqual(managerStatus(owner, world.nowMs).slotsWaiting, []);
  t.is(await world.run(size(), LIMIT_MS), 2);
});

test("while it is not known whether a slot went, its manager tells so", async (t) => {
  const { world, owner, cluster, decided, leave, size } = await started(18);
  const { moved } = await leave();
  const refresh = cluster.mapOf(2).refresh.bind(cluster.mapOf(2));
  cluster.mapOf(2).refresh = async () => {
    throw new DazzleError("unreachable", "no keeper answers");
  };
  decided.resolve();
  const waiting = () => managerStatus(owner, world.nowMs).slotsWaiting;
  await world.run(() => waiting().length > 0, LIMIT_MS);
  t.deepEqual(waiting(), [
    { slots: [SLOT], reason: "it is not known yet whether they went to another manager: unreachable: no keeper answers" },
  ]);
  cluster.mapOf(2).refresh = refresh;
  t.regex(await world.run(moved, LIMIT_MS), /is not there any more/);
  t.deepEqual(waiting(), []);
  t.is(await world.run(size(), LIMIT_MS), 1);
});

test("a manager that stops while a slot that stays waits for a mount that is gone leaves nobody waiting", async (t) => {
  const { world, owner, killed, mounts, decided, holdReads, leave } = await started(17);
  const { moved } = await leave();
  killed.kill();
  await world.run(() => mounts.recovered === 1, LIMIT_MS);
  holdReads();
  decided.resolve();
  await world.run(() => mounts.session(killed.log)?.state === "recovering", LIMIT_MS);
  const closed = owner.close();
  t.regex(await world.run(moved, LIMIT_MS), /is stopping/);
  await world.run(closed, LIMIT_MS);
});

test("a slot that stays after all is served at once while a mount is recovered that was before it left", async (t) => {
  const { world, killed, mounts, table, decided, read, holdReads, leave, size } = await started(15);
  holdReads();
  killed.kill();
  const state = () => mounts.session(killed.log)?.state;
  await world.run(() => state() === "recovering", LIMIT_MS);
  const { moved } = await leave();
  decided.resolve();
  t.regex(await world.run(moved, LIMIT_MS), /is not there any more/);
  t.is(table.stateOf(SLOT), "open");
  t.is(state(), "recovering");
  read.resolve();
  t.is(await world.run(size(), LIMIT_MS), 2);
});

test("a slot that was about to move while a mount's log was applied has all of it, where it stays after all", async (t) => {
  const { world, killed, mounts, decided, read, holdReads, leave, size } = await started(16);
  holdReads();
  killed.kill();
  await world.run(() => mounts.session(killed.log)?.state === "recovering", LIMIT_MS);
  const { moved } = await leave();
  read.resolve();
  await world.run(() => mounts.recovered === 1, LIMIT_MS);
  decided.resolve();
  t.regex(await world.run(moved, LIMIT_MS), /is not there any more/);
  t.is(await world.run(size(), LIMIT_MS), 2);
});
