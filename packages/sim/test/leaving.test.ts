import { type Caller, currentVersion, findLog, isDazzleError, type MemberId, SLOTS } from "@dazzle/core";
import { SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const FLAGS = { open: O_RDWR, killPrivileges: false };
const NODES = 4;
const LIMIT_MS = 300_000;
const FILES = 12;
const LEAVER = 4 as MemberId;

function bytesOf(number: number): Buffer {
  return Buffer.alloc(number % 3 === 0 ? 60_000 : 3_000, `file ${number} `);
}

/** Four machines that are everything, and a mount on the first that has written some files. */
async function begin(seed: number, machine = 1, nodes = NODES) {
  const world = new World(seed);
  const keepers = Math.min(nodes, 3);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes, parity: 1, managers: nodes, keepers });
  await cluster.startAll();
  const map = () => cluster.node(1).map.current;
  const slotsOf = (member: number) => map().slots.filter(({ manager }) => manager === member).length;
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const until = (condition: () => boolean) => world.run(condition, LIMIT_MS);
  const leaver = nodes as MemberId;
  const isKept = () => map().keepers.length === (nodes < 3 ? 1 : 3) && map().formerKeepers.length === 0;
  await until(() => isKept() && slotsOf(leaver) >= Math.floor(SLOTS / nodes));
  const mount = await cluster.mount(machine);
  const { fileSystem } = mount.mount;
  for (let number = 0; number < FILES; number++) {
    const { entry, file } = await run(() => fileSystem.create(CALLER, ROOT, `${number}`, 0o644, O_RDWR));
    const { ino } = entry.attributes;
    await run(() => fileSystem.write(CALLER, ino, file.handle, 0, bytesOf(number), FLAGS));
    await run(() => fileSystem.fsync(CALLER, ino, file.handle, false));
    await run(() => fileSystem.release(ino, file.handle, undefined));
  }
  const members = () => map().members.map(({ id }) => id as number);
  const isWanted = () => map().groups[0]?.wanted.includes(LEAVER) === true;
  const serves = () => currentVersion(map().groups[0] as never).servers.some(({ member }) => member === LEAVER);
  const ask = (name: "leave" | "takeOut", force = false) => cluster.node(1).peers.call(1 as MemberId, name, { member: leaver, force });
  const stay = () => cluster.node(1).peers.call(1 as MemberId, "stay", { member: LEAVER });
  return { world, cluster, mount, map, run, until, slotsOf, members, isWanted, serves, ask, stay };
}

type Begun = Awaited<ReturnType<typeof begin>>;

/** Every file, as a mount reads it that has nothing in memory: its bytes, or its errno. */
async function readAll({ cluster, run }: Begun): Promise<string[]> {
  const { client } = (await cluster.mount()) as SimMount;
  const read = async (number: number) => {
    try {
      const { attributes } = await client.fileSystem.lookup(CALLER, ROOT, `${number}`);
      const { handle } = await client.fileSystem.open(CALLER, attributes.ino, 0);
      const pieces = await client.fileSystem.read(CALLER, attributes.ino, handle, 0, attributes.size);
      return Buffer.concat(pieces).equals(bytesOf(number)) ? "whole" : "wrong";
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return error.errno;
    }
  };
  const found: string[] = [];
  for (let number = 0; number < FILES; number++) found.push(await run(() => read(number)));
  return found;
}

const WHOLE = Array.from({ length: FILES }, () => "whole");

test("a dead machine is taken out by the others: its mount is expelled, what it stored is rebuilt, and one more may die", async (t) => {
  const begun = await begin(1, LEAVER);
  const { world, cluster, mount, map, run, until, members, ask, slotsOf } = begun;
  await run(() => mount.client.sync());
  cluster.kill(LEAVER);
  mount.instance.kill();
  await until(() => slotsOf(LEAVER) === 0);
  const { reply } = await run(() => ask("takeOut"));
  t.deepEqual(reply, { lost: 0 });
  await until(() => !members().includes(LEAVER));
  t.not(findLog(map(), mount.client.log)?.state, "live");
  t.false(map().keepers.includes(LEAVER));
  await world.advance(5_000);
  cluster.kill(3);
  t.deepEqual(await readAll(begun), WHOLE);
  await t.throwsAsync(cluster.startNode(LEAVER), { message: /member 4 is not in the cluster any more/ });
});

test("a machine that somebody reaches is not taken out as dead, and one that leaves alive and dies is", async (t) => {
  const begun = await begin(2);
  const { cluster, run, until, members, ask } = begun;
  await t.throwsAsync(
    run(() => ask("takeOut", true)),
    { message: /node4 is there: dazzle leave node4 takes it out/ },
  );
  t.true(members().includes(LEAVER));
  // With it the others have what it waits for.
  cluster.kill(3);
  await run(() => ask("leave"));
  cluster.kill(LEAVER);
  await cluster.startNode(3);
  await run(() => ask("takeOut"));
  await until(() => !members().includes(LEAVER));
  t.deepEqual(await readAll(begun), WHOLE);
});

test("a dead machine with which data is lost is taken out only by force, and the rest is whole", async (t) => {
  const begun = await begin(3);
  const { world, cluster, mount, run, until, members, ask } = begun;
  await run(() => mount.mount.close());
  await world.advance(30_000);
  const { peers, map } = cluster.node(1);
  const { log } = mount.client;
  const end = findLog(map.current, log)?.end as number;
  const { version } = currentVersion(map.current.groups[0] as never);
  const holds = async (member: number) => {
    const { reply } = await peers.call(member as MemberId, "list", { log, after: 0, limit: 1_000 });
    return reply.fragments.filter((one) => one.sequence <= end && one.dataFragments > 1).map(({ sequence }) => sequence);
  };
  const [theirs, others] = await run(() => Promise.all([holds(LEAVER), holds(2)]));
  const both = theirs.filter((sequence) => others.includes(sequence));
  t.true(both.length > 0);
  await run(() =>
    peers.call(2 as MemberId, "delete", { log, sequences: [both[0] as number], trimmedTo: end, group: 1, groupVersion: version }),
  );
  cluster.kill(LEAVER);
  await until(() => begun.slotsOf(LEAVER) === 0);
  await world.advance(20_000);
  await t.throwsAsync(
    run(() => ask("takeOut")),
    { message: /node4 can't be taken out: 1 segments are lost with it.*--force/ },
  );
  t.true(members().includes(LEAVER));
  t.deepEqual((await run(() => ask("takeOut", true))).reply, { lost: 1 });
  await until(() => !members().includes(LEAVER));
  const found = await readAll(begun);
  t.deepEqual([...new Set(found)].sort(), ["EIO", "whole"]);
});

test("a machine that begins to leave stays where that is cancelled, also once its manager has ended", async (t) => {
  const begun = await begin(4);
  const { cluster, map, run, until, slotsOf, isWanted, serves, ask, stay, members } = begun;
  await t.throwsAsync(run(stay), { message: /node4 is not leaving/ });
  await run(() => ask("leave"));
  await until(() => !isWanted());
  await run(stay);
  await until(isWanted);
  await until(() => serves() && slotsOf(LEAVER) >= Math.floor(SLOTS / NODES));
  // What it stores waits for this one.
  cluster.kill(3);
  await run(() => ask("leave"));
  const hasManager = () => map().logs.some(({ kind, state, member }) => kind === "manager" && state === "live" && member === LEAVER);
  await until(() => !hasManager());
  t.true(members().includes(LEAVER));
  await run(stay);
  await cluster.startNode(3);
  await until(() => serves() && slotsOf(LEAVER) >= Math.floor(SLOTS / NODES) - 1);
  t.false(map().members.some(({ leaving }) => leaving));
  t.deepEqual(await readAll(begun), WHOLE);
});

test("of two machines a dead one is taken out by force alone, and the other takes writes again", async (t) => {
  const begun = await begin(5, 1, 2);
  const { cluster, mount, run, until, members, ask } = begun;
  cluster.kill(2);
  await until(() => begun.slotsOf(2) === 0);
  await t.throwsAsync(
    run(() => ask("takeOut")),
    { message: /would have 0 parity in place of 1.*--force/ },
  );
  t.deepEqual(members(), [1, 2]);
  await run(() => ask("takeOut", true));
  await until(() => !members().includes(2));
  const { fileSystem } = mount.mount;
  const { entry, file } = await run(() => fileSystem.create(CALLER, ROOT, "after", 0o644, O_RDWR));
  const { ino } = entry.attributes;
  await run(() => fileSystem.fsync(CALLER, ino, file.handle, false));
  t.deepEqual(await readAll(begun), WHOLE);
});
