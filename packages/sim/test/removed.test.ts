import type { Caller, FileSystem } from "@dazzle/core";
import type { ManagerStatus } from "@dazzle/manager";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const LIMIT_MS = 60_000;
const O_RDWR = 2;
const FLAGS = { open: O_RDWR, killPrivileges: false };
const PIECE_BYTES = 64 * 1024;
/** Longer than anything that is asked of a manager, or of storage, waits. */
const STALL_MS = 60_000;
/** Long enough that everything is applied, and a mount has given back what it holds for nothing. */
const SETTLED_MS = 5_000;
const FILES = 600;
/** The directories, and what is left of the work before. */
const FEW = 10;

async function twoMounts(seed: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const mounts = [await cluster.mount(), await cluster.mount()] as const;
  const run = <T>(action: () => T | Promise<T>) => world.run((async () => action())(), LIMIT_MS);
  const tokens = () => (cluster.node(1).status().manager as ManagerStatus).counters?.tokens as number;
  const nodes = (mount: number) => mounts[mount]?.client.counters().nodes as number;
  const orphans = () => (cluster.node(1).status().manager as ManagerStatus).imap.orphans;
  return { world, cluster, mounts, one: mounts[0].client.fileSystem, two: mounts[1].client.fileSystem, run, tokens, nodes, orphans };
}

async function make(fileSystem: FileSystem, parent: number, name: string): Promise<number> {
  const { attributes } = await fileSystem.makeNode(CALLER, parent, name, 0o100644, 0);
  fileSystem.forget(attributes.ino, 1);
  return attributes.ino;
}

test("of files that one mount made and another one removed nothing is left in the tables of tokens", async (t) => {
  const { world, one, two, run, tokens, nodes } = await twoMounts(31);
  const directory = (await run(() => one.makeDirectory(CALLER, ROOT, "d", 0o755))).attributes.ino;
  for (let file = 0; file < FILES; file++) await run(() => make(one, directory, `f${file}`));
  await run(() => one.fsync());
  const names = Array.from({ length: FILES }, (_, file) => `f${file}`);
  const inos: number[] = [];
  for (const name of names) inos.push((await run(() => two.lookup(CALLER, directory, name))).attributes.ino);
  t.true(tokens() >= FILES, `${tokens()} tokens of files that are there`);
  // The kernel forgets some before, some afterwards.
  for (const ino of inos.slice(0, FILES / 2)) two.forget(ino, 1);
  for (const name of names) await run(() => two.unlink(CALLER, directory, name));
  for (const ino of inos.slice(FILES / 2)) two.forget(ino, 1);
  await world.advance(SETTLED_MS);
  t.true(tokens() <= FEW, `${tokens()} tokens`);
  t.true(nodes(1) <= FEW, `${nodes(1)} nodes`);
});

test("a removed file that another mount asks for, or that the kernel knows for longer, leaves no token either", async (t) => {
  const { world, one, two, run, tokens, nodes } = await twoMounts(32);
  const asked = await run(() => make(one, ROOT, "asked"));
  const known = await run(() => make(one, ROOT, "known"));
  await run(() => one.fsync());
  await run(() => two.lookup(CALLER, ROOT, "known"));
  await run(() => two.unlink(CALLER, ROOT, "known"));
  await world.advance(SETTLED_MS);
  const [tokensBefore, nodesBefore] = [tokens(), nodes(1)];
  await run(() => two.unlink(CALLER, ROOT, "asked"));
  await t.throwsAsync(
    run(() => one.getAttributes(CALLER, asked, undefined)),
    { code: "notFound" },
  );
  await world.advance(SETTLED_MS);
  t.is(tokens(), tokensBefore);
  t.is(nodes(1), nodesBefore);
  two.forget(known, 1);
  await world.advance(SETTLED_MS);
  t.is(tokens(), tokensBefore - 1);
  t.is(nodes(1), nodesBefore - 1);
});

async function open(fileSystem: FileSystem, ino: number): Promise<number> {
  return (await fileSystem.open(CALLER, ino, O_RDWR)).handle;
}

test("an unlinked file that is closed while its mount's log has no room goes once it has", async (t) => {
  const { world, cluster, mounts, one, run, orphans } = await twoMounts(33);
  const [ino, other] = [await run(() => make(one, ROOT, "f")), await run(() => make(one, ROOT, "other"))];
  const [handle, writing] = [await run(() => open(one, ino)), await run(() => open(one, other))];
  await run(() => one.unlink(CALLER, ROOT, "f"));
  await run(() => one.fsync());
  await world.advance(SETTLED_MS);
  t.is(orphans(), 1);
  for (const number of [2, 3]) cluster.kill(number);
  let [pieces, written] = [0, 0];
  while (written === pieces) {
    const answer = one.write(CALLER, other, writing, pieces++ * PIECE_BYTES, Buffer.alloc(PIECE_BYTES), FLAGS);
    const done = () => written++;
    void Promise.resolve(answer).then(done, () => {});
    await world.advance(100);
  }
  const released = one.release(ino, handle, undefined);
  t.true(released instanceof Promise, "it waits for room");
  void Promise.resolve(released).catch(() => {});
  await world.advance(STALL_MS);
  await cluster.startAll();
  await world.run(() => orphans() === 0, LIMIT_MS);
  t.is(mounts[0].mount.expulsions, 0);
});

test("an unlinked file goes where its manager could not be told for long that it was closed", async (t) => {
  const { world, cluster, mounts, one, two, run, orphans } = await twoMounts(34);
  const ino = await run(() => make(one, ROOT, "f"));
  await run(() => one.fsync());
  const theirs = await run(() => open(two, ino));
  const handle = await run(() => open(one, ino));
  await run(() => one.unlink(CALLER, ROOT, "f"));
  await run(() => one.fsync());
  await run(() => two.release(ino, theirs, undefined));
  await world.advance(SETTLED_MS);
  t.is(orphans(), 1);
  for (const number of [2, 3]) cluster.kill(number);
  await run(() => one.write(CALLER, ino, handle, 0, Buffer.alloc(PIECE_BYTES), FLAGS));
  await run(() => one.release(ino, handle, undefined));
  await world.advance(STALL_MS);
  await cluster.startAll();
  await world.run(() => orphans() === 0, LIMIT_MS);
  t.is(mounts[0].mount.expulsions, 0);
});
