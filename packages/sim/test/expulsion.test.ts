import { BLOCK_BYTES, type Caller, CLOCK_DRIFT, type FileSystem, findLog, joined, LOCK_END } from "@dazzle/core";
import { History, SimCluster, type SimMount, SMALL_LIMITS, Workload, World } from "@dazzle/sim";
import test from "ava";
import { PageCache } from "./support/kernel.ts";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const O_APPEND = 0o2000;
const FLAGS = { open: O_RDWR, killPrivileges: false };
const LIMIT_MS = 120_000;
const NODES = ["node1", "node2", "node3"];

async function start(seed: number, mounts: number, managers = 1) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: NODES.length, parity: 1, managers });
  await cluster.startAll();
  const started: SimMount[] = [];
  for (let index = 0; index < mounts; index++) started.push(await cluster.mount());
  return { world, cluster, mounts: started, run: <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS) };
}

async function create(fileSystem: FileSystem, name: string, text: string) {
  const { entry, file } = await fileSystem.create(CALLER, ROOT, name, 0o644, O_RDWR);
  const { ino } = entry.attributes;
  await fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from(text), FLAGS);
  return { ino, handle: file.handle };
}

async function read(fileSystem: FileSystem, ino: number, handle: number): Promise<string> {
  return joined(await fileSystem.read(CALLER, ino, handle, 0, 1_000)).toString();
}

test("a mount that can't renew its lease serves nothing until it can, and goes on then", async (t) => {
  const { world, cluster, mounts, run } = await start(1, 1);
  const { client, instance } = mounts[0] as SimMount;
  const { fileSystem } = client;
  const { ino, handle } = await run(() => create(fileSystem, "f", "cached"));
  await run(async () => fileSystem.fsync(CALLER, ino, handle, false));
  t.is(await run(() => read(fileSystem, ino, handle)), "cached");
  world.network.partition([instance.name], NODES);
  t.is(await run(() => read(fileSystem, ino, handle)), "cached");
  await world.advance(SMALL_LIMITS.mountLeaseMs);
  let answered = false;
  const reading = read(fileSystem, ino, handle).finally(() => {
    answered = true;
  });
  await world.advance(SMALL_LIMITS.mountLeaseMs);
  t.false(answered);
  t.true(world.log.some(({ message }) => message === "a manager does not renew the lease: requests wait"));
  world.network.heal();
  t.is(await world.run(reading, LIMIT_MS), "cached");
  t.is(findLog(cluster.node(1).map.current, client.log)?.state, "live");
});

test("what the kernel may keep ends with the lease at the latest", async (t) => {
  const { world, mounts, run } = await start(6, 1);
  const { client, instance } = mounts[0] as SimMount;
  const { fileSystem } = client;
  const { ino } = await run(() => create(fileSystem, "f", "cached"));
  world.network.partition([instance.name], NODES);
  await world.advance(SMALL_LIMITS.mountLeaseMs / 2);
  const ofFile = await run(async () => fileSystem.getAttributes(CALLER, ino, undefined));
  const ofName = await run(async () => fileSystem.lookup(CALLER, ROOT, "f"));
  for (const validMs of [ofFile.attributesValidMs, ofName.attributesValidMs, ofName.nameValidMs]) {
    t.true(validMs > 0);
    t.true(validMs <= (SMALL_LIMITS.mountLeaseMs / 2) * (1 + CLOCK_DRIFT), `${validMs} ms`);
  }
});

test("requests that wait for a lease fail in the end, and one line names what is awaited", async (t) => {
  const { world, mounts, run } = await start(2, 1);
  const { client, instance } = mounts[0] as SimMount;
  const { fileSystem } = client;
  const { ino, handle } = await run(() => create(fileSystem, "f", "cached"));
  world.network.partition([instance.name], NODES);
  await world.advance(SMALL_LIMITS.mountLeaseMs);
  const failures = await run(() =>
    Promise.all([1, 2, 3].map(() => read(fileSystem, ino, handle).then(String, (error: { errno: string }) => error.errno))),
  );
  t.deepEqual(failures, ["EIO", "EIO", "EIO"]);
  const lines = world.log.filter(({ message }) => message === "requests fail: the lease could not be renewed in time");
  t.is(lines.length, 1);
  t.regex(String(lines[0]?.fields.reason), /node1/);
});

const code = (error: { code: string }) => error.code;
const PAGES = 3;
const ROUNDS = 4;
const STEPS = 30;
const WRITE_EVERY_MS = 1_000;

test("an expelled mount fails what is dirty, keeps it in the spool directory, and rejoins; the rest goes on", async (t) => {
  const { world, cluster, mounts, run } = await start(3, 2);
  const [cut, other] = mounts as [SimMount, SimMount];
  const { fileSystem } = cut.mount;
  const shared = await run(() => create(fileSystem, "shared", "old"));
  await run(async () => fileSystem.fsync(CALLER, shared.ino, shared.handle, false));
  const directory = await run(async () => fileSystem.openDirectory(CALLER, ROOT));
  world.network.partition([cut.instance.name], NODES);
  const dirty = await run(() => create(fileSystem, "\xfcber", "lost?"));
  const theirs = await run(async () => other.mount.fileSystem.open(CALLER, shared.ino, O_RDWR));
  await run(async () => other.mount.fileSystem.write(CALLER, shared.ino, theirs.handle, 0, Buffer.from("NEW, longer"), FLAGS));
  t.is(findLog(cluster.node(1).map.current, cut.client.log)?.state, "closed");
  // What it is asked while it is away waits.
  const reading = read(fileSystem, shared.ino, shared.handle);
  const making = (async () => fileSystem.create(CALLER, ROOT, "later", 0o644, O_RDWR))();
  world.network.heal();
  t.is(await world.run(reading, LIMIT_MS), "NEW, longer");
  t.true((await world.run(making, LIMIT_MS)).entry.attributes.ino > 0);
  t.is(cut.mount.expulsions, 1);
  t.not(cut.mount.client.log, cut.client.log);
  for (const failing of [
    async () => fileSystem.fsync(CALLER, dirty.ino, dirty.handle, false),
    async () => fileSystem.write(CALLER, dirty.ino, dirty.handle, 0, Buffer.from("again"), FLAGS),
    async () => fileSystem.read(CALLER, dirty.ino, dirty.handle, 0, 10),
    async () => fileSystem.flush(CALLER, dirty.ino, dirty.handle, 0n),
    async () => fileSystem.fsyncDirectory(CALLER, ROOT, false),
  ])
    t.is(await run(() => failing().then(String, code)), "inputOutput");
  await run(async () => fileSystem.release(dirty.ino, dirty.handle, undefined));
  fileSystem.releaseDirectory(ROOT, directory);
  await run(async () => fileSystem.fsyncDirectory(CALLER, ROOT, false));
  await run(async () => fileSystem.fsync(CALLER, shared.ino, shared.handle, false));
  t.is((await run(async () => fileSystem.lookup(CALLER, ROOT, "\xfcber"))).attributes.ino, 0);
  fileSystem.forget(dirty.ino, 1);
  fileSystem.forget(shared.ino, 1);
  const spool = cut.instance.diskAt(`spool/${cut.client.log}`);
  const text = async (path: string) => Buffer.from((await run(() => spool.readWhole(path))) ?? []).toString();
  t.is(await text("files/%fcber"), "lost?");
  t.regex(await text("what-was-lost.txt"), /^made {5}%fcber\nwrote {4}%fcber: bytes 0-4 of 5, kept in files\/%fcber$/m);
  const line = world.log.find(({ message }) => message === "what could not be saved is kept in the spool directory");
  t.deepEqual(line?.fields, { directory: `spool/${cut.client.log}`, files: 1, bytes: 5, names: 1, handles: 2 });
  cut.mount.client.checkInvariants();
});

test("what an expelled mount had made durable is not lost, and its handles go on", async (t) => {
  const { world, mounts, run } = await start(4, 2);
  const [cut, other] = mounts as [SimMount, SimMount];
  const { fileSystem } = cut.mount;
  const mine = await run(() => create(fileSystem, "mine", "kept"));
  await run(async () => fileSystem.fsync(CALLER, mine.ino, mine.handle, false));
  world.network.partition([cut.instance.name], NODES);
  await run(() => create(other.mount.fileSystem, "theirs", "new"));
  world.network.heal();
  await world.run(() => cut.mount.expulsions === 1, LIMIT_MS);
  await run(async () => fileSystem.write(CALLER, mine.ino, mine.handle, 4, Buffer.from(" on"), FLAGS));
  await run(async () => fileSystem.fsync(CALLER, mine.ino, mine.handle, false));
  t.is(await run(() => read(fileSystem, mine.ino, mine.handle)), "kept on");
  t.false(world.log.some(({ message }) => message.includes("spool")));
});

test("a write that was under way is made once rejoined, an append is not made twice", async (t) => {
  const { world, mounts, run } = await start(6, 2);
  const [cut, other] = mounts as [SimMount, SimMount];
  const { fileSystem } = cut.mount;
  const [log, file] = [await run(() => create(fileSystem, "log", "one\n")), await run(() => create(fileSystem, "file", "old text"))];
  await run(async () => fileSystem.fsync(CALLER, log.ino, log.handle, false));
  world.network.partition([cut.instance.name], NODES);
  // Both need the rest of a block, which is only at the servers.
  const append = { ...FLAGS, open: O_RDWR | O_APPEND };
  const appending = (async () => fileSystem.write(CALLER, log.ino, log.handle, 0, Buffer.from("two\n"), append))().then(String, code);
  const writing = (async () => fileSystem.write(CALLER, file.ino, file.handle, 0, Buffer.from("new"), FLAGS))();
  await run(() => create(other.mount.fileSystem, "theirs", "new"));
  world.network.heal();
  t.is(await world.run(appending, LIMIT_MS), "expelled");
  t.is(await world.run(writing, LIMIT_MS), 3);
  t.is(cut.mount.expulsions, 1);
  await run(async () => fileSystem.write(CALLER, log.ino, log.handle, 0, Buffer.from("three\n"), append));
  t.is(await run(() => read(fileSystem, log.ino, log.handle)), "one\nthree\n");
  t.is(await run(() => read(fileSystem, file.ino, file.handle)), "new text");
});

test("a wait for a lock that is interrupted while the mount is expelled ends when it has rejoined", async (t) => {
  const { world, mounts, run } = await start(7, 2);
  const [cut, other] = mounts as [SimMount, SimMount];
  const { ino, handle } = await run(() => create(cut.mount.fileSystem, "f", "text"));
  await run(async () => cut.mount.fileSystem.fsync(CALLER, ino, handle, false));
  const theirs = await run(async () => other.mount.fileSystem.open(CALLER, ino, O_RDWR));
  const range = { type: "write", start: 0, end: LOCK_END, pid: 1 } as const;
  await run(async () => other.mount.fileSystem.setLock(CALLER, ino, theirs.handle, 1n, range, false, false));
  const interrupt = new AbortController();
  const caller = { ...CALLER, signal: interrupt.signal };
  const waiting = (async () => cut.mount.fileSystem.setLock(caller, ino, handle, 2n, range, true, false))().then(String, code);
  await world.advance(1_000);
  world.network.partition([cut.instance.name], NODES);
  await run(() => create(other.mount.fileSystem, "theirs", "new"));
  world.network.heal();
  await world.run(() => cut.mount.present === null, LIMIT_MS);
  interrupt.abort();
  t.is(await world.run(waiting, LIMIT_MS), "cancelled");
  t.is(cut.mount.expulsions, 1);
});

test("a mount that is closed while it is cut off keeps what it could not save", async (t) => {
  const { world, mounts, run } = await start(5, 1);
  const [cut] = mounts as [SimMount];
  await run(() => create(cut.mount.fileSystem, "first", ""));
  world.network.partition([cut.instance.name], NODES);
  await run(() => create(cut.mount.fileSystem, "f", "text"));
  await run(() => cut.mount.close());
  t.is(Buffer.from((await run(() => cut.instance.diskAt("spool").readWhole(`${cut.client.log}/files/f`))) ?? []).toString(), "text");
});

/** A file whose pages all hold the same number, which other mounts count up while one is cut off and its applications read on. */
async function countWhileCut(seed: number, cutMs: number, managers = 1, from: readonly string[] = NODES) {
  const { world, cluster, mounts, run } = await start(seed, 3, managers);
  const [cut, ...others] = mounts as [SimMount, SimMount, SimMount];
  const page = (count: number) => Buffer.alloc(BLOCK_BYTES, `${count}\n`);
  const pages = (count: number) => Buffer.concat(Array.from({ length: PAGES }, () => page(count)));
  const { fileSystem } = cut.mount;
  const { entry, file } = await run(async () => fileSystem.create(CALLER, ROOT, "count", 0o644, O_RDWR));
  const { ino } = entry.attributes;
  await run(async () => fileSystem.write(CALLER, ino, file.handle, 0, pages(0), FLAGS));
  const kernel = new PageCache(fileSystem, world, CALLER);
  let [count, reads, failures, stopping] = [0, 0, 0, false];
  const reader = async (number: number) => {
    while (!stopping) {
      const least = count;
      try {
        const found = Number.parseInt((await kernel.read(ino, file.handle, number)).toString("latin1"), 10);
        if (found < least) throw new Error(`page ${number} says ${found} after ${least} was written, seed=${seed}`);
        reads++;
      } catch (error) {
        if ((error as { errno?: string }).errno !== "EIO") return world.fail(error);
        failures++;
      }
      await new Promise<void>((resolve) => world.after(1 + world.random.below(50), resolve));
    }
  };
  const writer = async ({ mount }: SimMount) => {
    const { handle } = await mount.fileSystem.open(CALLER, ino, O_RDWR);
    await mount.fileSystem.write(CALLER, ino, handle, 0, pages(count + 1), FLAGS);
    count++;
    await mount.fileSystem.release(ino, handle, undefined);
  };
  const readers = Array.from({ length: PAGES }, (_, number) => reader(number));
  await run(() => writer(others[0]));
  await world.advance(1_000);
  world.network.partition([cut.instance.name], from);
  world.after(cutMs, () => world.network.heal());
  const healedMs = world.nowMs + cutMs;
  for (let turn = 0; world.nowMs < healedMs || turn < 4; turn++) {
    await run(() => writer(others[turn % 2] as SimMount));
    await world.advance(WRITE_EVERY_MS);
  }
  const readsBefore = reads;
  await world.run(() => reads > readsBefore + 2 * PAGES, LIMIT_MS);
  await run(() => writer(others[0]));
  stopping = true;
  await world.run(Promise.all(readers), LIMIT_MS);
  return { cluster, cut, kernel, failures };
}

for (const seed of [31, 32, 33]) {
  test(`a mount that is cut off for less than its lease goes on, and reads nothing stale, seed=${seed}`, async (t) => {
    const { cut, kernel, failures } = await countWhileCut(seed, 5_000);
    t.is(cut.mount.expulsions, 0);
    t.is(failures, 0);
    t.true(kernel.hits > 0);
  });

  test(`a mount that is cut off for longer reads nothing stale, not by a read that was pending, seed=${seed}`, async (t) => {
    const { cut, kernel, failures } = await countWhileCut(seed, 25_000);
    t.is(cut.mount.expulsions, 1);
    t.is(failures, 0);
    t.true(kernel.hits > 0);
  });
}

for (const seed of [41, 42]) {
  test(`with several managers, too, seed=${seed}`, async (t) => {
    const { cut, failures } = await countWhileCut(seed, 25_000, NODES.length);
    t.is(cut.mount.expulsions, 1);
    t.is(failures, 0);
  });
}

for (const node of NODES) {
  test(`a mount that is cut off from ${node} alone reads nothing stale, whoever manages the file`, async (t) => {
    const { cut, cluster } = await countWhileCut(50, 25_000, NODES.length, [node]);
    t.true(cut.mount.expulsions <= 1);
    for (const number of cluster.numbers) await cluster.node(number).checkInvariants();
  });
}

for (const seed of [61, 62]) {
  test(`mounts that are cut off and rejoin agree with one filesystem, by name and by handle, seed=${seed}`, async (t) => {
    const { world, mounts } = await start(seed, 3, NODES.length);
    const history = new History(ROOT, { mode: 0o755, uid: 0, gid: 0 });
    // A file that loses its last name while the mount that has it open is cut off is gone for that one.
    const weights = { unlink: 0, rename: 0 };
    const workloads = mounts.map(({ mount }, index) => {
      const random = world.random.fork(`w${index}`);
      return new Workload({ fileSystem: mount.fileSystem, history, mount: `m${index}`, random, weights, fileBytes: 20_000 });
    });
    const step = (index: number) => world.run((workloads[index] as Workload).step(), LIMIT_MS);
    for (let round = 0; round < ROUNDS; round++) {
      for (let turn = 0; turn < STEPS; turn++) await step(turn % mounts.length);
      const cut = world.random.below(mounts.length);
      await world.run((workloads[cut] as Workload).sync(), LIMIT_MS);
      world.network.partition([(mounts[cut] as SimMount).instance.name], NODES);
      const healedMs = world.nowMs + 1_000 + world.random.below(30_000);
      while (world.nowMs < healedMs) {
        await step((cut + 1 + world.random.below(mounts.length - 1)) % mounts.length);
        await world.advance(WRITE_EVERY_MS);
      }
      world.network.heal();
      for (let turn = 0; turn < STEPS; turn++) await step(cut);
    }
    for (const workload of workloads) await world.run(workload.verify(), LIMIT_MS);
    t.true(mounts.some(({ mount }) => mount.expulsions > 0));
  });
}
