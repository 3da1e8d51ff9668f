import {
  assert,
  type Caller,
  type ClusterMap,
  type FileSystem,
  joined,
  LIMITS,
  memberId,
  type RpcPeer,
  SLOTS,
  type SlotRow,
  slotOf,
  WHOLE_FILE,
} from "@dazzle/core";
import { type Disguise, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { withheld } from "./support/plants.ts";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const FLAGS = { open: O_RDWR, killPrivileges: false };
const LIMIT_MS = 120_000;
const NODES = [1, 2, 3];

async function begin(seed: number, mounts: number, limits = SMALL_LIMITS, disguise: Disguise = {}) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits, nodes: 3, managers: 3, parity: 1, disguise });
  await cluster.startAll();
  const slotsOf = (number: number) => cluster.node(1).map.current.slots.filter(({ manager }) => manager === number).length;
  const isEven = () => NODES.every((number) => slotsOf(number) >= Math.floor(SLOTS / 3));
  await world.run(isEven, LIMIT_MS);
  const clients: SimMount[] = [];
  for (let index = 0; index < mounts; index++) clients.push(await cluster.mount());
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), LIMIT_MS);
  return { world, cluster, clients, run, isEven };
}

/** A directory whose slot, and so that of its files, is at that node. */
async function directoryAt(cluster: SimCluster, fileSystem: FileSystem, number: number): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const { attributes } = await fileSystem.makeDirectory(CALLER, ROOT, `d${attempt}`, 0o755);
    if (cluster.node(1).map.current.slots[slotOf(attributes.ino)]?.manager === number) return attributes.ino;
  }
}

async function read(fileSystem: FileSystem, ino: number, handle: number): Promise<string> {
  return joined(await fileSystem.read(CALLER, ino, handle, 0, 1_000)).toString();
}

test("a mount that does nothing while its manager dies keeps what it holds there: tokens, and an open file without a name", async (t) => {
  for (const seed of [1, 2]) {
    const { world, cluster, clients, run, isEven } = await begin(seed, 2);
    const [one, other] = clients.map(({ client }) => client.fileSystem) as [FileSystem, FileSystem];
    // The mounts are on the first node's machine, where their new directories go: the slot moves away from it.
    const directory = await run(() => directoryAt(cluster, one, 1));
    const slot = slotOf(directory);
    await run(() => cluster.node(1).peers.call(memberId(1), "moveSlot", { slot, member: 3 }));
    const kept = await run(() => one.create(CALLER, directory, "kept", 0o644, O_RDWR));
    const gone = await run(() => one.create(CALLER, directory, "gone", 0o644, O_RDWR));
    const [keptIno, goneIno] = [kept.entry.attributes.ino, gone.entry.attributes.ino];
    await run(() => one.write(CALLER, goneIno, gone.file.handle, 0, Buffer.from("no name"), FLAGS));
    await run(() => other.unlink(CALLER, directory, "gone"));
    await run(() => one.write(CALLER, keptIno, kept.file.handle, 0, Buffer.from("first"), FLAGS));
    const before = clients[0]?.client.counters().slotsClaimed as number;
    cluster.kill(3);
    await world.advance(60_000);
    t.is(clients[0]?.client.expelled, null, `seed ${seed}`);
    t.not(cluster.node(1).map.current.slots[slot]?.manager, 3);
    t.true((clients[0]?.client.counters().slotsClaimed as number) > before);
    t.is(await run(() => read(one, goneIno, gone.file.handle)), "no name");
    // The other one's write takes the token from where it was claimed.
    const theirs = await run(() => other.open(CALLER, keptIno, O_RDWR));
    await run(() => other.write(CALLER, keptIno, theirs.handle, 0, Buffer.from("FIR"), FLAGS));
    t.is(await run(() => read(one, keptIno, kept.file.handle)), "FIRst");
    await run(() => one.release(goneIno, gone.file.handle, undefined));
    await cluster.startNode(3);
    await world.run(isEven, LIMIT_MS);
    t.is(await run(() => read(other, keptIno, theirs.handle)), "FIRst");
    for (const { client } of clients) client.checkInvariants();
    for (const number of NODES) await world.run(cluster.node(number).checkInvariants(), LIMIT_MS);
  }
});

test("what a slot's former manager asks of a mount is refused once the mount knows of the next one", async (t) => {
  const { world, cluster, clients, run } = await begin(3, 1);
  const [{ client }] = clients as [SimMount];
  const directory = await run(() => directoryAt(cluster, client.fileSystem, 1));
  const slot = slotOf(directory);
  const { term } = cluster.node(1).map.current.slots[slot] as SlotRow;
  const { entry, file } = await run(() => client.fileSystem.create(CALLER, directory, "kept", 0o644, O_RDWR));
  const { ino } = entry.attributes;
  const peer = cluster.node(1).manager?.parts.mounts.session(client.log)?.peer as RpcPeer;
  await run(() => cluster.node(1).peers.call(memberId(1), "moveSlot", { slot, member: 3 }));
  await run(() => client.fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from("after"), FLAGS));
  await run(() => client.sync());
  const grant = Number.MAX_SAFE_INTEGER;
  const late = { code: "staleMap" };
  const former = { ino, slot, term };
  await t.throwsAsync(
    run(() => peer.call("revoke", { ...former, keepShared: false, ...WHOLE_FILE, grant })),
    late,
  );
  await t.throwsAsync(
    run(() => peer.call("peekHolder", { inos: [ino], slot, term, grant })),
    late,
  );
  await t.throwsAsync(
    run(() => peer.call("returnLocks", former)),
    late,
  );
  t.is(await run(() => read(client.fileSystem, ino, file.handle)), "after");
  client.checkInvariants();
  for (const number of NODES) await world.run(cluster.node(number).checkInvariants(), LIMIT_MS);
});

test("what one mount wrote the other reads while the slot moves", async (t) => {
  for (const seed of [11, 12]) {
    const { world, cluster, clients, run } = await begin(seed, 2);
    const [one, other] = clients.map(({ client }) => client.fileSystem) as [FileSystem, FileSystem];
    const directory = await run(() => directoryAt(cluster, one, 1));
    const slot = slotOf(directory);
    const created = await run(() => one.create(CALLER, directory, "f", 0o644, O_RDWR));
    const { ino } = created.entry.attributes;
    for (let round = 0; round < 4; round++) {
      const text = `round ${round}`;
      await run(() => one.write(CALLER, ino, created.file.handle, 0, Buffer.from(text), FLAGS));
      const theirs = run(() => other.lookup(CALLER, directory, "f"));
      await run(() => cluster.node(1).peers.call(memberId(1), "moveSlot", { slot, member: 1 + (round % 3) }));
      t.is((await theirs).attributes.size, text.length, `seed ${seed} round ${round}`);
      const { handle } = await run(() => other.open(CALLER, ino, O_RDWR));
      t.is(await run(() => read(other, ino, handle)), text, `seed ${seed} round ${round}`);
      await run(() => other.release(ino, handle, undefined));
    }
    for (const { client } of clients) client.checkInvariants();
    await world.advance(1_000);
  }
});

test("a manager that has given all its slots away expels nobody", async (t) => {
  const { world, cluster, clients, run } = await begin(31, 1);
  const { client } = clients[0] as SimMount;
  const { map } = cluster.node(1);
  const directory = await run(() => directoryAt(cluster, client.fileSystem, 1));
  const slot = slotOf(directory);
  await run(() => cluster.node(1).peers.call(memberId(1), "moveSlot", { slot, member: 3 }));
  await run(() => client.fileSystem.create(CALLER, directory, "f", 0o644, O_RDWR));
  await run(() => client.sync());
  const leave = (now: ClusterMap) => ({ ...now, members: now.members.map((row) => (row.id === 3 ? { ...row, leaving: true } : row)) });
  await run(() => map.change(leave));
  await world.run(() => map.current.slots.every(({ manager }) => manager !== 3), LIMIT_MS);
  await world.advance(4 * SMALL_LIMITS.mountAbandonedMs);
  t.is(client.expelled, null);
  t.is((await run(() => client.fileSystem.lookup(CALLER, directory, "f"))).attributes.mode & 0o777, 0o644);
});

test("a mount that is there, and does not say what it holds in a slot that moved, is expelled, and the slot opens", async (t) => {
  let isMute = false;
  const { world, cluster, clients, run } = await begin(
    41,
    2,
    SMALL_LIMITS,
    withheld("mount1", "claims", () => isMute),
  );
  const [mute, other] = clients as [SimMount, SimMount];
  t.is(mute.instance.name, "mount1");
  const directory = await run(() => directoryAt(cluster, mute.client.fileSystem, 1));
  const slot = slotOf(directory);
  await run(() => mute.client.fileSystem.create(CALLER, directory, "f", 0o644, O_RDWR));
  await run(() => mute.client.sync());
  const log = mute.client.log;
  isMute = true;
  await t.throwsAsync(
    run(() => cluster.node(1).peers.call(memberId(1), "moveSlot", { slot, member: 3 }, { deadlineMs: 60_000 })),
    { message: /is claiming/ },
  );
  await world.run(() => cluster.node(1).map.current.logs.every((row) => row.id !== log || row.state !== "live"), LIMIT_MS);
  await world.advance(15_000);
  t.is(cluster.node(1).map.current.slots[slot]?.manager, 3);
  t.is((await run(() => other.fileSystem.lookup(CALLER, directory, "f"))).attributes.mode & 0o777, 0o644);
});

test("a slot opens though what a mount did under a token that it holds is not applied there; who wants that token waits for it", async (t) => {
  let isHeld = false;
  const { world, cluster, clients, run } = await begin(
    51,
    2,
    SMALL_LIMITS,
    withheld("mount1", "ship", () => isHeld),
  );
  const [holder, other] = clients as [SimMount, SimMount];
  const directory = await run(() => directoryAt(cluster, holder.client.fileSystem, 1));
  const slot = slotOf(directory);
  const { entry, file } = await run(() => holder.client.fileSystem.create(CALLER, directory, "f", 0o644, O_RDWR));
  const { ino } = entry.attributes;
  await run(() => holder.client.sync());
  isHeld = true;
  await run(() => holder.client.fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from("late"), FLAGS));
  await run(() => holder.client.fileSystem.fsync(CALLER, ino, file.handle, false));
  await run(() => cluster.node(1).peers.call(memberId(1), "moveSlot", { slot, member: 3 }));
  t.true(cluster.node(3).manager?.parts.table.isOpen(slot));
  let isRead = false;
  const reading = (async () => {
    const { handle } = await other.fileSystem.open(CALLER, ino, O_RDWR);
    const text = await read(other.fileSystem, ino, handle);
    isRead = true;
    return text;
  })();
  await world.advance(2_000);
  t.false(isRead);
  isHeld = false;
  t.is(await world.run(reading, LIMIT_MS), "late");
});

test("who removed a directory keeps its token until that is applied, though the kernel forgets it before: nobody makes anything in it", async (t) => {
  let isHeld = false;
  const { world, cluster, clients, run } = await begin(
    61,
    2,
    SMALL_LIMITS,
    withheld("mount1", "ship", () => isHeld),
  );
  const [remover, other] = clients.map(({ client }) => client) as [SimMount["client"], SimMount["client"]];
  const directory = await run(() => directoryAt(cluster, remover.fileSystem, 1));
  const made = await run(() => remover.fileSystem.makeDirectory(CALLER, directory, "d", 0o755));
  const { ino } = made.attributes;
  await run(() => remover.sync());
  await run(() => other.fileSystem.lookup(CALLER, directory, "d"));
  isHeld = true;
  await run(() => remover.fileSystem.removeDirectory(CALLER, directory, "d"));
  await run(() => remover.sync());
  remover.fileSystem.forget(ino, 1);
  const making = t.throwsAsync(async () => other.fileSystem.makeDirectory(CALLER, ino, "late", 0o755), { code: "notFound" });
  await world.advance(2_000);
  isHeld = false;
  await world.run(making, LIMIT_MS);
});

test("a slot does not open before what a mount did under a token that it holds no more is applied there again, and stable", async (t) => {
  let isHeld = false;
  const limits = { ...SMALL_LIMITS, mountSilenceMs: 50_000, mountAbandonedMs: 50_000 };
  const plant = withheld("mount1", "ship", () => isHeld);
  const { world, cluster, clients, run } = await begin(62, 2, limits, plant);
  const [remover, other] = clients.map(({ client }) => client) as [SimMount["client"], SimMount["client"]];
  const directory = await run(() => directoryAt(cluster, remover.fileSystem, 1));
  const made = await run(() => remover.fileSystem.makeDirectory(CALLER, directory, "d", 0o755));
  const { ino } = made.attributes;
  const slot = slotOf(ino);
  await run(() => cluster.node(1).peers.call(memberId(1), "moveSlot", { slot, member: 3 }));
  await run(() => other.fileSystem.lookup(CALLER, directory, "d"));
  await run(() => remover.fileSystem.removeDirectory(CALLER, directory, "d"));
  await run(() => remover.sync());
  const { nodes, stableSequence } = remover.counters();
  await world.run(() => cluster.node(3).manager?.parts.host.shard(slot).appliedTo(remover.log) === stableSequence, LIMIT_MS);
  await world.advance(5);
  remover.fileSystem.forget(ino, 1);
  t.is(remover.counters().nodes, (nodes as number) - 1);
  isHeld = true;
  cluster.kill(3);
  const heir = () => cluster.node(cluster.node(1).map.current.slots[slot]?.manager ?? 3).manager?.parts.table;
  await world.run(() => cluster.node(1).map.current.slots[slot]?.manager !== 3 && heir()?.stateOf(slot) === "claiming", LIMIT_MS);
  await world.advance(10_000);
  t.false(heir()?.isOpen(slot));
  isHeld = false;
  await world.run(() => heir()?.isOpen(slot) === true, LIMIT_MS);
  const host = cluster.node(cluster.node(1).map.current.slots[slot]?.manager as number).manager?.parts.host;
  assert(host !== undefined, "it is open");
  t.is(host.shard(slot).appliedTo(remover.log), stableSequence);
  t.is(host.stableIn(host.shard(slot), remover.log), stableSequence, "who gets that token next may ship before this is shipped once more");
  await t.throwsAsync(
    run(() => other.fileSystem.makeDirectory(CALLER, ino, "late", 0o755)),
    { code: "notFound" },
  );
});

test("many small files cost fewer than 0.05 messages an operation, however many managers there are", async (t) => {
  const { clients, run } = await begin(21, 1, LIMITS);
  const { client } = clients[0] as SimMount;
  const untar = async (name: string, files: number) => {
    const { attributes } = await client.fileSystem.makeDirectory(CALLER, ROOT, name, 0o755);
    for (let file = 0; file < files; file++) {
      const { entry, file: opened } = await client.fileSystem.create(CALLER, attributes.ino, `f${file}`, 0o644, O_RDWR);
      const { ino } = entry.attributes;
      await client.fileSystem.write(CALLER, ino, opened.handle, 0, Buffer.alloc(3_000, file), FLAGS);
      await client.fileSystem.flush(CALLER, ino, opened.handle, 1n);
      await client.fileSystem.setAttributes(CALLER, ino, { mode: 0o600 }, opened.handle);
      await client.fileSystem.release(ino, opened.handle, undefined);
    }
  };
  await run(() => untar("first", 500));
  const before = client.counters();
  for (const name of ["a", "b", "c", "d"]) await run(() => untar(name, 1_000));
  const after = client.counters();
  const messages = (after.messages as number) - (before.messages as number);
  const operations = (after.operations as number) - (before.operations as number);
  t.true(operations >= 4 * 3_000, `${operations} operations`);
  t.true(messages / operations < 0.05, `${messages} messages for ${operations} operations`);
  t.log(`${messages} messages for ${operations} operations`);
});

test("a file that its slot's next manager does not know of yet is written and looked at once the lease there holds", async (t) => {
  for (const seed of [1, 2, 3]) {
    const { world, cluster, clients, run } = await begin(seed, 1);
    const { fileSystem } = (clients[0] as SimMount).client;
    const directory = await run(() => directoryAt(cluster, fileSystem, 1));
    await run(() => fileSystem.fsyncDirectory(CALLER, directory, false));
    const made: Array<{ ino: number; handle: number }> = [];
    for (let index = 0; index < 8; index++) {
      const { entry, file } = await run(() => fileSystem.create(CALLER, directory, `f${index}`, 0o644, O_RDWR));
      made.push({ ino: entry.attributes.ino, handle: file.handle });
    }
    const moved = cluster.node(1).peers.call(memberId(1), "moveSlot", { slot: slotOf(directory), member: 3 });
    let asked: Promise<unknown> = Promise.resolve();
    for (const { ino, handle } of made) {
      asked = Promise.all([
        asked,
        fileSystem.write(CALLER, ino, handle, 0, Buffer.from("one"), FLAGS),
        fileSystem.getAttributes(CALLER, ino, undefined),
      ]);
      await world.advance(10);
    }
    await run(() => asked);
    await run(() => moved);
    for (const { ino, handle } of made) t.is(await run(() => read(fileSystem, ino, handle)), "one", `seed ${seed}`);
  }
});
