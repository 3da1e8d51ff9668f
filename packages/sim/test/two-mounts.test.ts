import { type Caller, type FileSystem, joined, type KernelNotifier } from "@dazzle/core";
import type { ManagerStatus } from "@dazzle/manager";
import { SimCluster, SMALL_LIMITS, type Workload, World } from "@dazzle/sim";
import test from "ava";
import { workloadsOn } from "./support/workloads.ts";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const LIMIT_MS = 60_000;
const STEPS = 250;

async function twoMounts(seed: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  return { world, cluster, mounts: [await cluster.mount(), await cluster.mount()] as const };
}

/** Records what a kernel is told to drop. */
class Kernel implements KernelNotifier {
  readonly hasEpoch: boolean;
  readonly dropped: string[] = [];

  constructor(hasEpoch = true) {
    this.hasEpoch = hasEpoch;
  }

  async invalidateInode(ino: number, _offset: number, length: number): Promise<boolean> {
    this.dropped.push(length < 0 ? `attributes of ${ino}` : `pages of ${ino}`);
    return true;
  }

  async invalidateEntry(parent: number, name: string): Promise<void> {
    this.dropped.push(`name ${name} in ${parent}`);
  }

  async incrementEpoch(): Promise<void> {
    this.dropped.push("names");
  }
}

async function contents(fileSystem: FileSystem, ino: number): Promise<string> {
  const { handle } = await fileSystem.open(CALLER, ino, 0);
  const bytes = joined(await fileSystem.read(CALLER, ino, handle, 0, 1_000)).toString();
  await fileSystem.release(ino, handle, undefined);
  return bytes;
}

test("a revoke flushes what is dirty under the token, and the kernel drops what it cached", async (t) => {
  const { world, mounts } = await twoMounts(1);
  const [one, other] = [mounts[0].client.fileSystem, mounts[1].client.fileSystem];
  const kernel = new Kernel();
  one.start(kernel);
  const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
  const created = await run(async () => one.create(CALLER, ROOT, "f", 0o644, O_RDWR));
  const { ino } = created.entry.attributes;
  const flags = { open: O_RDWR, killPrivileges: false };
  await run(async () => one.write(CALLER, ino, created.file.handle, 0, Buffer.from("first, not synced"), flags));
  const seen = await run(async () => other.lookup(CALLER, ROOT, "f"));
  t.is(seen.attributes.ino, ino);
  t.is(await run(() => contents(other, ino)), "first, not synced");
  t.deepEqual(kernel.dropped, [], "what both mounts look at stays cached");
  const theirs = await run(async () => other.open(CALLER, ino, O_RDWR));
  await run(async () => other.write(CALLER, ino, theirs.handle, 0, Buffer.from("SECOND"), flags));
  t.true(kernel.dropped.includes(`pages of ${ino}`), kernel.dropped.join());
  t.is(joined(await run(async () => one.read(CALLER, ino, created.file.handle, 0, 100))).toString(), "SECOND not synced");
  for (const mount of mounts) mount.client.checkInvariants();
});

for (const hasEpoch of [true, false]) {
  test(`that a name is not there is cached by a kernel that can be told to forget it, and by no other, epoch=${hasEpoch}`, async (t) => {
    const { world, mounts } = await twoMounts(2);
    const { fileSystem } = mounts[0].client;
    fileSystem.start(new Kernel(hasEpoch));
    const { attributes, nameValidMs } = await world.run((async () => fileSystem.lookup(CALLER, ROOT, "f"))(), LIMIT_MS);
    t.is(attributes.ino, 0);
    t.is(nameValidMs > 0, hasEpoch);
  });
}

for (const seed of [11, 12, 13]) {
  test(`two mounts that take turns agree with one filesystem, seed=${seed}`, async (t) => {
    const { world, mounts } = await twoMounts(seed);
    const workloads = workloadsOn(world, mounts);
    for (let step = 0; step < STEPS; step++) {
      await world.run((workloads[step % 2] as Workload).step(), LIMIT_MS);
      if (step % 50 === 0) for (const { client } of mounts) client.checkInvariants();
    }
    for (const workload of workloads) await world.run(workload.verify(), LIMIT_MS);
    t.pass();
  });
}

/** Unlinked files that the manager keeps. */
function orphans(cluster: SimCluster): number {
  return (cluster.node(1).status().manager as ManagerStatus).imap.orphans;
}

const PLAIN = { open: O_RDWR, killPrivileges: false };

for (const [name, other] of [
  ["closes it", "close"],
  ["dies", "die"],
] as const) {
  test(`a file that is unlinked on one mount while the other has it open lives until that one ${name}`, async (t) => {
    const { world, cluster, mounts } = await twoMounts(21);
    const [one, two] = [mounts[0].client.fileSystem, mounts[1].client.fileSystem];
    const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
    const { attributes } = await run(async () => one.makeNode(CALLER, ROOT, "f", 0o100644, 0));
    const { ino } = attributes;
    const theirs = (await run(async () => two.open(CALLER, ino, O_RDWR))).handle;
    await run(async () => two.write(CALLER, ino, theirs, 0, Buffer.from("mine"), PLAIN));
    await run(async () => one.unlink(CALLER, ROOT, "f"));
    t.is((await run(async () => two.lookup(CALLER, ROOT, "f"))).attributes.ino, 0);
    await world.advance(5_000);
    t.is(orphans(cluster), 1);
    await run(async () => two.write(CALLER, ino, theirs, 4, Buffer.from(" still"), PLAIN));
    t.is(joined(await run(async () => two.read(CALLER, ino, theirs, 0, 100))).toString(), "mine still");
    t.is((await run(async () => two.getAttributes(CALLER, ino, theirs))).attributes.nlink, 0);
    if (other === "die") mounts[1].instance.kill();
    else await run(async () => two.release(ino, theirs, undefined));
    await world.run(() => orphans(cluster) === 0, LIMIT_MS);
    await t.throwsAsync(
      run(async () => one.getAttributes(CALLER, ino, undefined)),
      { code: "notFound" },
    );
  });
}

test("an unlinked file that two mounts have open lives until both have closed it, whichever does first", async (t) => {
  for (const first of [0, 1]) {
    const { world, cluster, mounts } = await twoMounts(22 + first);
    const systems = mounts.map(({ client }) => client.fileSystem) as [FileSystem, FileSystem];
    const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
    const { ino } = (await run(async () => systems[0].makeNode(CALLER, ROOT, "f", 0o100644, 0))).attributes;
    const handles: number[] = [];
    for (const system of systems) handles.push((await run(async () => system.open(CALLER, ino, O_RDWR))).handle);
    await run(async () => systems[1].unlink(CALLER, ROOT, "f"));
    await run(async () => (systems[first] as FileSystem).release(ino, handles[first] as number, undefined));
    await world.advance(5_000);
    t.is(orphans(cluster), 1, `mount ${first} closed it`);
    const last = systems[1 - first] as FileSystem;
    await run(async () => last.write(CALLER, ino, handles[1 - first] as number, 0, Buffer.from("here"), PLAIN));
    await run(async () => last.release(ino, handles[1 - first] as number, undefined));
    // A mount that closes it and holds it alone removes it itself, which is applied within a second.
    await world.run(() => orphans(cluster) === 0, LIMIT_MS);
  }
});

test("attributes are exact beside a writer, which keeps its token; when it has come to rest they may be cached", async (t) => {
  const { world, cluster, mounts } = await twoMounts(31);
  const [writer, looker] = [mounts[0].client.fileSystem, mounts[1].client.fileSystem];
  const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
  const revokes = () => (cluster.node(1).status().manager as ManagerStatus).counters.revokes;
  const { entry, file } = await run(async () => writer.create(CALLER, ROOT, "f", 0o644, O_RDWR));
  const { ino } = entry.attributes;
  // The directory's names are the looker's from here on.
  await run(async () => looker.lookup(CALLER, ROOT, "f"));
  const before = revokes();
  for (let size = 100; size <= 2_000; size += 100) {
    await run(async () => writer.write(CALLER, ino, file.handle, 0, Buffer.alloc(size), PLAIN));
    const { mtimeNs } = (await run(async () => writer.getAttributes(CALLER, ino, undefined))).attributes;
    for (const look of [() => looker.getAttributes(CALLER, ino, undefined), () => looker.lookup(CALLER, ROOT, "f")]) {
      const seen = await run(async () => look());
      t.deepEqual([seen.attributes.size, seen.attributes.mtimeNs, seen.attributesValidMs], [size, mtimeNs, 0]);
    }
  }
  // Only the first write took what the looker had a share of.
  t.true(revokes() - before <= 1, `${revokes() - before} revokes`);
  await world.advance(3_000);
  t.true((await run(async () => looker.getAttributes(CALLER, ino, undefined))).attributesValidMs > 0);
});
