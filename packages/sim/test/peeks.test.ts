import { type Caller, type FileSystem, joined } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const FLAGS = { open: O_RDWR, killPrivileges: false };
const LIMIT_MS = 60_000;
const FILES = 200;

/** Two mounts, and files that the first one has just made, closed and synced, in a directory of its own. */
async function started(seed: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const mounts = [await cluster.mount(), await cluster.mount()] as const;
  const run = <T>(action: () => T | Promise<T>) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const [maker, looker] = mounts.map(({ client }) => client.fileSystem) as [FileSystem, FileSystem];
  const directory = (await run(() => maker.makeDirectory(CALLER, ROOT, "d", 0o755))).attributes.ino;
  const inos: number[] = [];
  for (let file = 0; file < FILES; file++) {
    const { entry, file: opened } = await run(() => maker.create(CALLER, directory, nameOf(file), 0o644, O_RDWR));
    const { ino } = entry.attributes;
    inos.push(ino);
    await run(() => maker.write(CALLER, ino, opened.handle, 0, Buffer.alloc(1 + file), FLAGS));
    await run(() => maker.release(ino, opened.handle, undefined));
  }
  await run(() => mounts[0].client.sync());
  const write = async (ino: number, offset: number, text: string) => {
    const { handle } = await run(() => maker.open(CALLER, ino, O_RDWR));
    await run(() => maker.write(CALLER, ino, handle, offset, Buffer.from(text), FLAGS));
    await run(() => maker.release(ino, handle, undefined));
  };
  const look = async (file: number) => (await run(() => looker.lookup(CALLER, directory, nameOf(file)))).attributes.size;
  const sent = (mount: 0 | 1, name: string) => mounts[mount].client.counters()[`messages.${name}`] ?? 0;
  return { world, mounts, run, maker, looker, directory, inos, write, look, sent };
}

function nameOf(file: number): string {
  return `f${String(file).padStart(4, "0")}`;
}

test("who looks at one file after the other of a directory that another mount made asks for many at once", async (t) => {
  const { mounts, run, looker, inos, write, look, sent } = await started(1);
  await look(0);
  // Changed, closed, and not shipped yet.
  for (const file of [90, 91]) await write(inos[file] as number, 0, "y".repeat(2_000));
  for (let file = 0; file < FILES; file++) t.is(await look(file), file === 90 || file === 91 ? 2_000 : 1 + file);
  const asked = sent(1, "peek");
  t.true(asked > 1 && asked < 12, `${asked} questions`);
  // What it was given on the way is as good as what it asked for.
  await write(inos[150] as number, 0, "x".repeat(1_000));
  t.is(await look(150), 1_000);
  const { handle } = await run(() => looker.open(CALLER, inos[150] as number, 0));
  t.is(joined(await run(() => looker.read(CALLER, inos[150] as number, handle, 0, 5_000))).toString(), "x".repeat(1_000));
  for (const { client } of mounts) client.checkInvariants();
});

test("by attributes alone as by name, and files that are changed all the time are told of exactly and stay where they are", async (t) => {
  const { run, maker, looker, inos, look, sent } = await started(2);
  const busy = new Map<number, number>();
  for (const file of [3, 50, 51, 120]) busy.set(file, (await run(() => maker.open(CALLER, inos[file] as number, O_RDWR))).handle);
  const before = { peek: sent(1, "peek"), acquire: sent(0, "acquire") };
  for (let file = 0; file < 3; file++) await look(file);
  for (let file = 0; file < FILES; file++) {
    for (const [open, handle] of busy)
      await run(() => maker.write(CALLER, inos[open] as number, handle, 300 + file, Buffer.from("!"), FLAGS));
    const { attributes } = await run(() => looker.getAttributes(CALLER, inos[file] as number));
    t.is(attributes.size, busy.has(file) ? 301 + file : 1 + file, nameOf(file));
  }
  t.true(sent(1, "peek") - before.peek < 16, `${sent(1, "peek") - before.peek} questions`);
  t.is(sent(0, "acquire"), before.acquire, "what is open for writing was given away");
});

test("files that never had extended attributes are not asked about them, and those that have some are", async (t) => {
  const { run, maker, looker, inos, look, sent } = await started(4);
  const [plain, other] = [inos[1] as number, inos[2] as number];
  const listed = async (ino: number) => [...(await run(() => looker.listExtendedAttributes(CALLER, ino)))];
  for (let file = 0; file < FILES; file++) {
    await look(file);
    t.deepEqual(await listed(inos[file] as number), []);
  }
  t.is(sent(1, "attributes"), 0);
  await run(() => maker.setExtendedAttribute(CALLER, other, "user.colour", Buffer.from("red"), 0));
  t.deepEqual([await listed(other), await listed(plain)], [["user.colour"], []]);
  t.is(Buffer.from(await run(() => looker.getExtendedAttribute(CALLER, other, "user.colour"))).toString(), "red");
  t.is(sent(1, "attributes"), 1);
  await run(() => looker.removeExtendedAttribute(CALLER, other, "user.colour"));
  t.deepEqual([...(await run(() => maker.listExtendedAttributes(CALLER, other)))], []);
});

test("a file that is watched costs its writer that file alone", async (t) => {
  const { inos, write, look, sent } = await started(3);
  const rounds = 20;
  const before = sent(0, "acquire");
  for (let round = 0; round < rounds; round++) {
    t.is(await look(7), round === 0 ? 8 : 1_000 + round);
    await write(inos[7] as number, 1_000 + round, "!");
  }
  t.true(sent(0, "acquire") - before <= rounds, `${sent(0, "acquire") - before}`);
  const taken = sent(0, "acquire");
  for (let file = 20; file < 60; file++) await write(inos[file] as number, 0, "?");
  t.is(sent(0, "acquire"), taken, "files that nobody looked at were shared");
});
