import { deferred, type KernelNotifier } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { KernelCache } from "../src/kernel-cache.ts";

const INO = 7;

/** A kernel that drops pages when `whenFree` of the range has resolved. */
class Kernel implements KernelNotifier {
  readonly dropped: Array<readonly [offset: number, length: number]> = [];
  epochs = 0;
  whenFree: (offset: number, length: number) => Promise<unknown> = () => Promise.resolve();
  /** Whether it knows the file at the so manieth time that it is told. */
  known: (time: number) => boolean = () => true;

  async invalidateInode(_ino: number, offset: number, length: number): Promise<boolean> {
    this.dropped.push([offset, length]);
    await this.whenFree(offset, length);
    return this.known(this.dropped.length);
  }

  async invalidateEntry(): Promise<void> {}

  async incrementEpoch(): Promise<boolean> {
    this.epochs++;
    await this.whenFree(0, 0);
    return true;
  }
}

function fixture() {
  const world = new World(1);
  const { clock, logger } = world.spawn("mount").ports;
  const cache = new KernelCache({ clock, logger, references: new Map([[INO, 1]]) });
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

test("a pass that takes too long is made anew, and after many the token goes all the same", async (t) => {
  const { world, kernel, state, drop } = fixture();
  kernel.whenFree = () => new Promise(() => {});
  await world.run(drop(), 10_000);
  t.is(state.closed, 1);
  t.true(kernel.dropped.length > 10);
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
