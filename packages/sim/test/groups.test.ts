import { currentVersion, type Group, type GroupChange, isDazzleError, type MemberId } from "@dazzle/core";
import { noLeaks } from "@dazzle/sim";
import test from "ava";
import { type Begun, begin, CALLER, isClean, LIMIT_MS, ROOT, readAll, writeWhile } from "./support/regrouped.ts";

test("a server that is added is used at once, and in the end by all that was stored before, though machines crash meanwhile", async (t) => {
  const begun = await begin(1, 4, 3);
  const { cluster, run, ask, shape, isMoved } = begun;
  t.is(shape(), "2+1 1,2,3");
  await run(() => ask({ change: "add", servers: ["node4"] }));
  t.is(shape(), "3+1 1,2,3,4");
  await writeWhile(begun, isMoved, 5);
  cluster.kill(2);
  await writeWhile(begun, () => false, 5);
  await cluster.startNode(2);
  cluster.kill(4);
  await cluster.startNode(4);
  await writeWhile(begun, () => isMoved() && shape().startsWith("3+1"));
  await begun.until(() => isMoved() && shape().startsWith("3+1"));
  t.deepEqual(await readAll(begun), ["whole"]);
  cluster.kill(3);
  t.deepEqual(await readAll(begun), ["whole"]);
});

test("a server that is removed is drained under load, and is not let in again", async (t) => {
  const begun = await begin(2, 4, 4);
  const { world, cluster, run, ask, shape, isMoved } = begun;
  await run(() => ask({ change: "remove", servers: ["node4"] }));
  await writeWhile(begun, isMoved);
  await begun.until(isMoved);
  t.is(shape(), "2+1 1,2,3");
  cluster.kill(4);
  cluster.kill(3);
  t.deepEqual(await readAll(begun), ["whole"]);
  await cluster.startNode(3);
  await cluster.startNode(4);
  await world.advance(20_000);
  t.regex(shape(), /2\+1 /);
  t.notRegex(shape(), /4/);
  await isClean(t, begun);
});

test("a server that died for good is replaced, what it held is rebuilt, and one more may die", async (t) => {
  const begun = await begin(3, 4, 3);
  const { cluster, run, ask, shape, isMoved } = begun;
  cluster.kill(3);
  await run(() => ask({ change: "replace", servers: ["node3", "node4"] }));
  await writeWhile(begun, isMoved);
  await begun.until(isMoved);
  t.regex(shape(), /2\+1 /);
  cluster.kill(2);
  t.deepEqual(await readAll(begun), ["whole"]);
});

test("a dead server does not come into a group, and one that is there is not declared lost", async (t) => {
  const { cluster, run, ask, lose, shape } = await begin(4, 4, 3);
  cluster.kill(4);
  await t.throwsAsync(
    run(() => ask({ servers: ["node4"] })),
    { message: /node4 does not answer, so it can't come into the group/ },
  );
  await t.throwsAsync(
    run(() => lose("node3", true)),
    { message: /node3 is there, with what it stores/ },
  );
  t.is(shape(), "2+1 1,2,3");
});

test("of two servers that are lost what had parity left is readable, what has not is lost, by name, and nothing else is affected", async (t) => {
  const begun = await begin(5, 5, 4);
  const { cluster, run, until, lose, shape, isMoved } = begun;
  cluster.kill(4);
  await run(() => lose("node4"));
  t.is(shape(), "2+1 1,2,3");
  cluster.kill(3);
  await t.throwsAsync(
    run(() => lose("node3")),
    { message: /node3/ },
  );
  await run(() => lose("node3", true));
  await until(isMoved);
  t.is(shape(), "1+1 1,2");
  const found = await readAll(begun);
  t.deepEqual(found, ["EIO", "whole"]);
  await run(() => begun.write("77"));
  const { lost } = await cluster.fsck();
  t.true(lost.length > 0);
  t.true(lost.every(({ path }) => path !== undefined));
});

test("a server whose storage directory was emptied serves nothing until it is replaced by itself", async (t) => {
  const begun = await begin(6, 3, 3);
  const { world, cluster, run, ask, shape, isMoved } = begun;
  cluster.emptyStorage(3);
  await cluster.startNode(3);
  await writeWhile(begun, () => false, 5);
  await world.advance(20_000);
  t.notRegex(shape(), /3$/);
  t.deepEqual(await readAll(begun), ["whole"]);
  await run(() => ask({ change: "replace", servers: ["node3", "node3"] }));
  t.is(shape(), "2+1 1,2,3");
  await begun.until(isMoved);
  cluster.kill(2);
  t.deepEqual(await readAll(begun), ["whole"]);
});

test("a server that is replaced by itself while another is rebuilt says how many segments are lost with what it had", async (t) => {
  const begun = await begin(5, 5, 4);
  const { cluster, run, until, ask, lose, isMoved, group } = begun;
  cluster.kill(4);
  await run(() => lose("node4"));
  // Before that nobody but node3 can tell.
  await until(() => group().versions.every(({ frozen }, index, { length }) => frozen !== null || index === length - 1));
  cluster.emptyStorage(3);
  await cluster.startNode(3);
  const replacing = { change: "replace", servers: ["node3", "node3"] } as const;
  const refusal = await t.throwsAsync(run(() => ask(replacing)));
  const count = Number(/(\d+) segments are lost with node3/.exec(refusal?.message ?? "")?.[1]);
  const { reply } = await run(() => ask({ ...replacing, force: true }));
  t.true(reply.lost > 0 && reply.lost <= count, `${reply.lost} of ${count}`);
  const again = await run(() => ask(replacing));
  t.is(again.reply.lost, reply.lost);
  await until(isMoved);
  t.deepEqual(await readAll(begun), ["EIO", "whole"]);
});

test("a machine whose emptied storage directory was declared lost stores again, under its new store, once it is added", async (t) => {
  const begun = await begin(8, 4, 4);
  const { cluster, run, until, map, ask, lose, shape, isMoved } = begun;
  const storeOf = () => map().members[3]?.store;
  const before = storeOf();
  cluster.emptyStorage(4);
  await cluster.startNode(4);
  await run(() => lose("node4"));
  t.is(shape(), "2+1 1,2,3");
  await until(() => isMoved() && storeOf() !== null);
  t.not(storeOf(), before);
  await run(() => ask({ servers: ["node4"] }));
  t.is(shape(), "3+1 1,2,3,4");
  await until(isMoved);
  cluster.kill(2);
  t.deepEqual(await readAll(begun), ["whole"]);
});

test("a server that was declared lost and is back gives the space back of what was rebuilt meanwhile", async (t) => {
  const begun = await begin(9, 4, 4);
  const { cluster, run, until, lose, isMoved } = begun;
  cluster.kill(4);
  await run(() => lose("node4"));
  await until(isMoved);
  await cluster.startNode(4);
  let fragments = 0;
  const stored = async () => {
    const { reply } = await cluster.node(1).peers.call(4 as MemberId, "stat", {});
    fragments = reply.fragments;
  };
  await begun.world.advance(5_000);
  await run(stored);
  t.true(fragments > 0);
  while (fragments > 0) {
    await begun.world.advance(5_000);
    await run(stored);
  }
  t.deepEqual(await readAll(begun), ["whole"]);
});

test("a server that was cut off while it was declared lost gives the space back without a restart", async (t) => {
  const begun = await begin(10, 4, 4);
  const { world, cluster, run, until, lose, isMoved, group } = begun;
  await world.advance(60_000);
  world.network.partition(["node4"], ["node1", "node2", "node3"]);
  await world.advance(5_000);
  await run(() => lose("node4"));
  await until(() => isMoved() && group().versions.every(({ servers }) => servers.length === 3));
  world.network.heal();
  const stat = () => run(async () => (await cluster.node(1).peers.call(4 as MemberId, "stat", {})).reply.fragments);
  await world.advance(10_000);
  t.true((await stat()) > 0);
  await world.advance(120_000);
  t.is(await stat(), 0);
  t.deepEqual(await readAll(begun), ["whole"]);
});

test("while nobody writes an obsolete version leaves the map all the same, also one from before a restart", async (t) => {
  const begun = await begin(7, 4, 3);
  const { world, cluster, run, ask, until } = begun;
  const versions = () => (cluster.node(1).map.current.groups[0] as Group).versions;
  await world.advance(120_000);
  await run(() => ask({ servers: ["node4"] }));
  await until(() => versions().length === 1);
  await world.advance(120_000);
  await run(() => ask({ change: "remove", servers: ["node2"] }));
  for (const number of cluster.numbers) cluster.kill(number);
  await cluster.startAll();
  t.true(versions().length > 1);
  await until(() => versions().length === 1);
  t.deepEqual(await readAll(begun), ["whole"]);
});

const STEPS = 40;
const CHANGE_CHANCE = 1 / 4;
const CRASH_CHANCE = 1 / 3;
/** With two parities and one of them away, the others can still be written. */
const SERVERS_LEAST = 4;

/** What is asked of the group at random; it may be refused. `isWhole`: no server is away. */
function wish({ world, cluster, group }: Begun, isWhole: boolean): Partial<GroupChange> {
  const { random } = world;
  const current = currentVersion(group()).servers.map(({ member }) => `node${member}`);
  const others = cluster.numbers.map((number) => `node${number}`).filter((name) => !current.includes(name));
  const change = random.pick(["add", "remove", "replace", "parity"] as const);
  const adding = random.pick(others.length > 0 ? others : current);
  if (change === "replace") return { change, servers: [random.pick(current), adding] };
  if (change === "parity" && isWhole && current.length >= SERVERS_LEAST) return { change, parity: random.pick([1, 2]), force: true };
  if (change === "remove" && isWhole && current.length > SERVERS_LEAST) return { change, servers: [random.pick(current)] };
  return { change: "add", servers: [adding] };
}

for (const [seed, data] of [
  [21, undefined],
  [22, undefined],
  [23, undefined],
  [24, 2],
  [25, 2],
  [26, 1],
] as const)
  test(`seed=${seed}: servers of a group ${data === undefined ? "" : `with ${data} data fragments at most `}come, go and crash at random while files are written, and in the end everything is whole and nothing is left under older versions`, async (t) => {
    const begun = await begin(seed, 5, 3, data === undefined ? {} : { data });
    const { world, cluster, group, run, ask, until, isMoved } = begun;
    const { random } = world;
    let dead: number | null = null;
    let changes = 0;
    for (let step = 0; step < STEPS; step++) {
      await run(() => begun.write(`${begun.names.length}`));
      if (random.chance(CHANGE_CHANCE))
        await run(() => ask(wish(begun, dead === null))).then(
          () => changes++,
          (error) => t.true(isDazzleError(error), `seed=${seed} ${error}`),
        );
      await world.advance(random.between(0, 3_000));
      t.true(currentVersion(group()).dataFragments <= (data ?? cluster.numbers.length), `seed=${seed}`);
      if (dead !== null) {
        await cluster.startNode(dead);
        dead = null;
      } else if (random.chance(CRASH_CHANCE)) {
        dead = random.pick(cluster.numbers.filter((number) => number !== 1));
        cluster.kill(dead);
      }
    }
    if (dead !== null) await cluster.startNode(dead);
    t.true(changes > 2, `seed=${seed}`);
    await until(() => isMoved() && group().wanted.length === currentVersion(group()).servers.length);
    t.deepEqual(await readAll(begun), ["whole"], `seed=${seed}`);
    const { findings, lost, unchecked } = await cluster.fsck();
    t.deepEqual([...findings, ...lost, ...unchecked], [], `seed=${seed}`);
  });

test("what a server still holds that was away while it was removed is deleted when it is back", async (t) => {
  const begun = await begin(9, 4, 4);
  const { world, cluster, mount, run, until, ask, group, names } = begun;
  const isNamed = () => group().versions.some(({ servers }) => servers.some(({ member }) => member === 4));
  cluster.kill(4);
  await run(() => ask({ change: "remove", servers: ["node4"] }));
  await writeWhile(begun, () => !isNamed());
  await until(() => !isNamed());
  await cluster.startNode(4);
  const { reply } = await run(() => cluster.node(4).peers.call(4 as MemberId, "listLogs", {}));
  t.true(reply.logs.length > 0, "it holds something still");
  for (const name of names) await run(() => mount.mount.fileSystem.unlink(CALLER, ROOT, name));
  await run(() => mount.mount.close());
  await t.notThrowsAsync(world.run(noLeaks(cluster), LIMIT_MS));
  t.deepEqual(await readAll({ ...begun, names: [] }), []);
});
