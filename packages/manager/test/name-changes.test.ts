import { joined, type MemberId, unpackEntries } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { NameChanges } from "../src/tokens/name-changes.ts";
import { Cluster, type TestMount } from "./support/cluster.ts";
import { ino } from "./support/transactions.ts";

const LARGE = { changes: 100, directories: 100, told: 100 };

const set = (name: string, child: number) => ({ name, child, type: 8 });
const gone = (name: string) => ({ name, child: 0, type: 0 });
const told = (names: NameChanges, directory: number, since: number, now = since) =>
  names
    .since(directory, since, now)
    ?.map(({ name, child }) => `${name}=${child}`)
    .sort()
    .join(" ");

test("a mount is told the last change of each name since it was asked for the directory, and of no other directory", (t) => {
  const names = new NameChanges(LARGE);
  names.changed(1, 4, set("before", 70));
  names.passes(1, 5);
  names.changed(1, 5, set("a", 71));
  names.changed(2, 5, set("other", 72));
  names.passes(1, 6);
  names.changed(1, 6, gone("a"));
  names.changed(1, 6, set("b", 73));
  names.changed(1, 7, set("a", 74));
  t.is(told(names, 1, 5, 7), "a=74 b=73");
  t.is(told(names, 1, 6, 7), "a=74 b=73");
  t.is(told(names, 1, 7), "a=74");
  names.changed(1, 7, gone("a"));
  t.is(told(names, 1, 7), "a=0");
  names.passes(1, 8);
  t.is(told(names, 1, 8), "");
});

test("what was before a directory first passed on, or was counted by another manager, is not known", (t) => {
  const names = new NameChanges(LARGE);
  t.is(names.since(1, 5, 5), undefined);
  names.passes(1, 5);
  t.is(names.since(1, 4, 5), undefined);
  t.is(names.since(1, 6, 5), undefined);
  t.deepEqual(names.since(1, 5, 5), []);
});

test("a slot that went to another manager is forgotten, and another slot is not", (t) => {
  const names = new NameChanges(LARGE);
  names.passes(1, 5);
  names.passes(2, 5);
  names.dropSlot(1);
  t.is(names.since(1, 5, 5), undefined);
  t.deepEqual(names.since(2, 5, 5), []);
  names.passes(1, 6);
  t.is(names.since(1, 5, 6), undefined);
});

test("who has missed more than is told at once is told nothing", (t) => {
  const names = new NameChanges({ ...LARGE, told: 2 });
  names.passes(1, 5);
  names.changed(1, 5, set("a", 71));
  names.changed(1, 5, set("a", 72));
  names.changed(1, 5, set("b", 73));
  t.is(told(names, 1, 5), "a=72 b=73");
  names.changed(1, 5, set("c", 74));
  t.is(names.since(1, 5, 5), undefined);
});

test("beyond its bounds, the directories that passed on longest ago are forgotten first, then the oldest changes", (t) => {
  const names = new NameChanges({ changes: 4, directories: 2, told: 100 });
  names.passes(1, 1);
  names.passes(2, 2);
  names.passes(1, 3);
  names.passes(3, 4);
  t.is(names.since(2, 2, 4), undefined);
  t.deepEqual(names.since(1, 1, 4), []);
  for (const [count, name] of ["a", "b", "c"].entries()) names.changed(3, 4 + count, set(name, 71));
  names.changed(1, 6, set("x", 71));
  t.is(told(names, 3, 4, 6), "a=71 b=71 c=71");
  // The fifth: 1 goes, since 3 passed on after it.
  names.changed(3, 7, set("d", 71));
  t.is(names.since(1, 1, 7), undefined);
  t.is(told(names, 3, 4, 7), "a=71 b=71 c=71 d=71");
  // Then a, b and c go.
  names.changed(3, 8, set("e", 71));
  t.is(names.since(3, 6, 8), undefined);
  t.is(told(names, 3, 7, 8), "d=71 e=71");
});

/** The root. */
const DIRECTORY = 1;

/** Two mounts of a directory; the first one gave it to the second one by the revoke of count `since`. */
async function start(managers: readonly number[]) {
  const world = new World(1);
  const cluster = new Cluster(world, undefined, managers);
  await world.run(cluster.start());
  await world.run(cluster.opened());
  const [first, second] = [await world.run(cluster.mount("first")), await world.run(cluster.mount("second"))];
  for (const mount of [first, second]) mount.keepAlive();
  const run = <T>(mount: TestMount, action: () => Promise<T>) => world.run(mount.patiently(action), 120_000);
  await run(first, () => first.acquire(DIRECTORY, true));
  await run(second, () => second.acquire(DIRECTORY, true));
  const since = cluster.managerOf(cluster.map.current.slots[1]?.manager as number).parts.grants.count;
  await run(second, () => second.change([{ kind: "putEntry", ino: ino(DIRECTORY), name: "a", child: ino(DIRECTORY + 64), type: 8 }]));
  /** What the first mount is told, when it has the directory again. */
  const told = async () => {
    await run(first, () => first.acquire(DIRECTORY, true));
    const { reply, tail } = await run(first, () => first.call("nameChanges", { ino: DIRECTORY, since }));
    return reply.known ? unpackEntries(joined(tail)).map(({ name, child }) => `${name}=${child}`) : undefined;
  };
  return { world, cluster, first, since, run, told };
}

test("a mount that gets a directory again is told what another one did there, under its token alone", async (t) => {
  const { first, since, run, told } = await start([1]);
  await t.throwsAsync(
    run(first, () => first.call("nameChanges", { ino: DIRECTORY, since })),
    { code: "tokenLost" },
  );
  t.deepEqual(await told(), [`a=${DIRECTORY + 64}`]);
});

test("a manager that started anew since does not know", async (t) => {
  const { world, cluster, told } = await start([1]);
  await world.run(cluster.restart());
  t.is(await told(), undefined);
});

for (const moves of [1, 2])
  test(`a manager to which the slot moved since does not know, although ${moves === 1 ? "it counts higher or lower" : "it had it before"}`, async (t) => {
    const { world, cluster, told } = await start([1, 2]);
    const owner = cluster.map.current.slots[1]?.manager as MemberId;
    const other = (owner === 1 ? 2 : 1) as MemberId;
    await world.run(cluster.move([1], other), 120_000);
    if (moves === 2) await world.run(cluster.move([1], owner), 120_000);
    t.is(await told(), undefined);
  });
