import { deferred, type KernelNotifier } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { KernelCache } from "../src/kernel-cache.ts";

const INO = 7;
const DEADLINE_MS = 30_000;
const PASSES = 100;

/** A kernel that drops pages when `whenFree` of the range has resolved. */
class Kernel implements KernelNotifier {
  readonly dropped: Array<readonly [offset: number, length: number]> = [];
  /** Names that it was told of. */
  readonly names: string[] = [];
  hasEpoch = true;
  epochs = 0;
  whenFree: (offset: number, length: number) => Promise<unknown> = () => Promise.resolve();
  /** Whether it knows the file at the so manieth time that it is told. */
  known: (time: number) => boolean = () => true;
  /** Throws where it refuses. */
  refuse: (time: number) => void = () => {};

  async invalidateInode(_ino: number, offset: number, length: number): Promise<boolean> {
    this.dropped.push([offset, length]);
    this.refuse(this.dropped.length);
    await this.whenFree(offset, length);
    return this.known(this.dropped.length);
  }

  async invalidateEntry(_parent: number, name: string): Promise<void> {
    this.names.push(name);
    this.refuse(this.names.length);
    await this.whenFree(0, 0);
  }

  async incrementEpoch(): Promise<void> {
    this.epochs++;
    await this.whenFree(0, 0);
  }
}

function fixture() {
  const world = new World(1);
  const { clock, logger } = world.spawn("mount").ports;
  const cache = new KernelCache({ clock, logger, references: new Map([[INO, 1]]), deadlineMs: DEADLINE_MS });
  const kernel = new Kernel();
  cache.notifier = kernel;
  const state = { closed: 0 };
  const drop = () => cache.dropFile(INO, () => state.closed++);
  return { world, cache, kernel, state, drop };
}

test("what the kernel does not know is not dropped", async (t) => {
  const { cache, kernel, state } = fixture();
  await cache.dropFile(8, () => state.closed++);
  t.deepEqual([kernel.dropped, state.closed], [[], 1]);
});

test("a file that the kernel was told of, and does not know yet, is dropped when it does", async (t) => {
  const { world, kernel, state, drop } = fixture();
  kernel.known = (time) => time > 2;
  const dropping = drop();
  await world.advance(1);
  t.is(state.closed, 0);
  await world.run(dropping, 100);
  t.deepEqual([kernel.dropped.length, state.closed], [3, 1]);
});

test("a read that comes meanwhile waits until all is dropped, and is then not answered from before", async (t) => {
  const { world, cache, kernel, state, drop } = fixture();
  const free = deferred();
  kernel.whenFree = () => free.promise;
  const dropping = drop();
  const door = cache.door(INO);
  t.not(door, null);
  t.is(cache.door(8), null);
  free.resolve();
  const order: string[] = [];
  await world.run(Promise.all([dropping, door?.then(() => order.push(`closed ${state.closed}`))]), 100);
  t.deepEqual(order, ["closed 1"]);
  t.is(kernel.dropped.length, 1);
  t.is(cache.door(INO), null);
});

test("a read whose page the kernel waits for is answered after a moment, and what it cached is dropped by another pass", async (t) => {
  const { world, cache, kernel, state, drop } = fixture();
  const answered = deferred();
  kernel.whenFree = () => answered.promise;
  const dropping = drop();
  while (cache.door(INO) !== null) await world.advance(1);
  t.is(state.closed, 0);
  cache.answers(INO);
  answered.resolve();
  await world.run(dropping, 100);
  t.is(kernel.dropped.length, 2);
  t.is(state.closed, 1);
});

test("pages that the kernel does not drop keep the token until something is answered, and it is told once meanwhile", async (t) => {
  const { world, cache, kernel, state, drop } = fixture();
  kernel.whenFree = () => new Promise(() => {});
  const dropping = drop();
  await world.advance(DEADLINE_MS / 2);
  t.deepEqual([kernel.dropped.length, state.closed], [1, 0]);
  cache.answers(INO);
  kernel.whenFree = () => Promise.resolve();
  await world.run(dropping, 100);
  t.deepEqual([kernel.dropped.length, state.closed, world.log.length], [2, 1, 0]);
});

test("pages that the kernel does not drop for as long as a request may wait keep the token no longer", async (t) => {
  const { world, cache, kernel, state, drop } = fixture();
  kernel.whenFree = () => new Promise(() => {});
  await world.run(drop(), DEADLINE_MS + 100);
  t.deepEqual([state.closed, cache.door(INO), world.log.length], [1, null, 1]);
});

test("where something is answered in every pass the token goes after many, and what was answered last is dropped behind it", async (t) => {
  const { world, cache, kernel, state, drop } = fixture();
  kernel.whenFree = async () => cache.answers(INO);
  await world.run(drop(), 10_000);
  t.deepEqual([kernel.dropped.length, state.closed], [PASSES + 1, 1]);
});

test("a file that the kernel never knows keeps the token for a while only", async (t) => {
  const { world, kernel, state, drop } = fixture();
  kernel.known = () => false;
  await world.run(drop(), 10_000);
  t.is(state.closed, 1);
});

test("a file whose pages the kernel refuses to drop is dropped when it does", async (t) => {
  const { world, kernel, state, drop } = fixture();
  kernel.refuse = (time) => {
    if (time <= 2) throw new Error("full");
  };
  const dropping = drop();
  await world.advance(1);
  t.is(state.closed, 0);
  await world.run(dropping, 100);
  t.deepEqual([kernel.dropped.length, state.closed], [3, 1]);
});

test("a kernel that refuses for ever keeps the token no longer than a request may wait, and one line says so", async (t) => {
  const { world, kernel, state, drop } = fixture();
  kernel.refuse = () => {
    throw new Error("full");
  };
  await world.run(drop(), DEADLINE_MS + 100);
  t.is(state.closed, 1);
  t.deepEqual(
    world.log.map(({ message, fields }) => `${message}: ${fields.reason}`),
    ["the kernel was not seen to drop what it cached: full"],
  );
});

const NAMES = Array.from({ length: 1_000 }, (_, index) => `n${index}`);

test("a kernel without epochs is told each name, not all at once, and those that it refuses once more", async (t) => {
  const { world, cache, kernel } = fixture();
  kernel.hasEpoch = false;
  t.false(cache.mayCacheAbsence);
  let [waiting, most] = [0, 0];
  kernel.whenFree = () => {
    most = Math.max(most, ++waiting);
    return new Promise<void>((resolve) => world.after(1, resolve)).then(() => waiting--);
  };
  kernel.refuse = (time) => {
    if (time > 100 && time <= 110) throw new Error("full");
  };
  await world.run(
    cache.dropNames(10, () => NAMES),
    2_000,
  );
  t.deepEqual([...new Set(kernel.names)], NAMES);
  t.deepEqual(kernel.names.slice(NAMES.length), NAMES.slice(100, 110));
  t.true(most < 100, `${most} at once`);
  t.deepEqual([kernel.epochs, world.log.length], [0, 0]);
});

test("a name that the kernel waits with keeps a token for a while only", async (t) => {
  const { world, cache, kernel } = fixture();
  kernel.hasEpoch = false;
  kernel.whenFree = () => new Promise(() => {});
  await world.run(
    cache.dropNames(10, () => NAMES),
    10_000,
  );
  t.deepEqual(
    world.log.map(({ message }) => message),
    ["the kernel was not seen to drop names that it cached"],
  );
});

test("names of many directories go with one epoch for all that ask while another is under way, and are not cached for a while", async (t) => {
  const { world, cache, kernel } = fixture();
  const free = deferred();
  kernel.whenFree = () => free.promise;
  const first = cache.dropNames(10, () => []);
  await world.advance(1);
  const rest = Array.from({ length: 20 }, (_, index) => cache.dropNames(11 + index, () => []));
  free.resolve();
  await world.run(Promise.all([first, ...rest]), 100);
  t.is(kernel.epochs, 2);
  t.false(cache.mayCacheNames(10));
  t.true(cache.mayCacheNames(9));
  await world.advance(2_000);
  t.true(cache.mayCacheNames(10));
});
