import { BLOCK_BYTES, type Clock, type Deferred, deferred, type KernelNotifier } from "@dazzle/core";
import test from "ava";
import { KernelPages } from "../src/expulsion/kernel-pages.ts";

const INO = 7;
const PAGES = 6;

/** A clock whose deadlines pass when the test says so. */
class ManualClock implements Clock {
  readonly #actions: Array<() => void> = [];

  nowMs(): number {
    return 0;
  }

  wallTimeNs(): bigint {
    return 0n;
  }

  after(_delayMs: number, action: () => void) {
    this.#actions.push(action);
    return { cancel: () => {} };
  }

  soon(action: () => void): void {
    setImmediate(action);
  }

  pass(): void {
    for (const action of this.#actions.splice(0)) action();
  }
}

/** One file's pages, dropped in order, each waited for while it is locked. */
class Kernel implements KernelNotifier {
  readonly hasEpoch = true;
  readonly cached = new Set(Array.from({ length: PAGES }, (_, page) => page));
  readonly locked = new Map<number, Deferred<void>>();
  told = 0;

  async invalidateInode(_ino: number, offset: number, length: number): Promise<boolean> {
    this.told++;
    const last = length === 0 ? PAGES - 1 : Math.ceil((offset + length) / BLOCK_BYTES) - 1;
    for (let page = Math.floor(offset / BLOCK_BYTES); page <= last; page++) {
      await this.locked.get(page)?.promise;
      this.cached.delete(page);
      await turn();
    }
    return true;
  }

  async invalidateEntry(): Promise<void> {}

  async incrementEpoch(): Promise<void> {}

  lock(page: number): void {
    this.locked.set(page, deferred());
    this.cached.delete(page);
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function make(isOpen = true) {
  const [clock, kernel, lines] = [new ManualClock(), new Kernel(), [] as string[]];
  const pages = new KernelPages({ clock, logger: (_level, message) => lines.push(message), isOpen: () => isOpen });
  pages.notifier = kernel;
  pages.note(INO);
  return { clock, kernel, pages, lines };
}

test("pages of a file that nobody has open go before anybody has", async (t) => {
  const { kernel, pages } = make(false);
  await pages.dropAll(1_000);
  t.is(kernel.cached.size, PAGES);
  await pages.beforeOpen(INO);
  t.is(kernel.cached.size, 0);
  t.is(pages.beforeOpen(INO), undefined);
});

test("everything is dropped around reads that are pending, without waiting for them", async (t) => {
  const { kernel, pages } = make();
  const answer = deferred<string>();
  for (const page of [1, 2]) kernel.lock(page);
  const reading = pages.during(INO, BLOCK_BYTES, 2 * BLOCK_BYTES, "fill", answer.promise);
  await pages.dropAll(1_000);
  t.deepEqual([...kernel.cached], []);
  answer.resolve("fresh");
  t.is(await reading, "fresh");
});

test("a read that comes between the kernel and what it is to drop holds nothing up", async (t) => {
  const { kernel, pages } = make();
  // The kernel has locked the page, and the request has not been seen yet.
  kernel.lock(3);
  const dropping = pages.invalidateInode(INO, 0, 0);
  for (let turns = 0; turns < 10; turns++) await turn();
  t.deepEqual([...kernel.cached], [4, 5]);
  void pages.during(INO, 3 * BLOCK_BYTES, BLOCK_BYTES, "fill", new Promise(() => {}));
  await dropping;
  t.deepEqual([...kernel.cached], []);
});

test("reads that come in one turn while pages are dropped have what is left sent once", async (t) => {
  const { kernel, pages } = make();
  for (let page = 0; page < PAGES - 1; page++) kernel.lock(page);
  const dropping = pages.invalidateInode(INO, 0, 0);
  for (let turns = 0; turns < 10; turns++) await turn();
  t.is(kernel.told, 1);
  for (let page = 0; page < PAGES - 1; page++) void pages.during(INO, page * BLOCK_BYTES, BLOCK_BYTES, "fill", new Promise(() => {}));
  await dropping;
  t.is(kernel.told, 2);
  t.deepEqual([...kernel.cached], []);
});

test("a read that was answered in the turn in which something is given back is under way no more", async (t) => {
  const { kernel, pages } = make();
  kernel.lock(1);
  const answer = deferred<string>();
  const reading = pages.during(INO, BLOCK_BYTES, BLOCK_BYTES, "fill", answer.promise).then(() => {
    kernel.cached.add(1);
    kernel.locked.get(1)?.resolve();
  });
  answer.resolve("old");
  await pages.invalidateInode(INO, 0, 0);
  await reading;
  t.deepEqual([...kernel.cached], []);
});

test("a write under way keeps the kernel from none but its own pages, and those go once it is answered", async (t) => {
  const { kernel, pages } = make();
  const written = deferred<number>();
  kernel.lock(2);
  const writing = pages.during(INO, 2 * BLOCK_BYTES + 100, 200, "overwrite", written.promise);
  await pages.dropAll(1_000);
  t.deepEqual([...kernel.cached], []);
  written.resolve(200);
  await writing;
  kernel.locked.get(2)?.resolve();
  kernel.cached.add(2);
  while (kernel.cached.size > 0) await turn();
  t.pass();
});

test("before a lease ends, a page that a pending write is a part of goes as well, where it holds something", async (t) => {
  const { kernel, pages } = make();
  void pages.during(INO, 2 * BLOCK_BYTES + 100, 200, "overwrite", new Promise(() => {}));
  await pages.dropAll(1_000);
  while (kernel.cached.size > 0) await turn();
  t.pass();
});

test("a direct request locks no pages: they go beside it", async (t) => {
  const { kernel, pages } = make();
  void pages.during(INO, 0, PAGES * BLOCK_BYTES, "direct", new Promise(() => {}));
  await pages.dropAll(1_000);
  t.deepEqual([...kernel.cached], []);
});

test("a read fails where the kernel could not drop its pages in time", async (t) => {
  const { clock, kernel, pages, lines } = make();
  const held = deferred<void>();
  pages.notifier = { ...kernel, invalidateInode: () => held.promise, invalidateEntry: async () => {}, incrementEpoch: async () => {} };
  const reading = pages.during(INO, 0, BLOCK_BYTES, "fill", new Promise(() => {}));
  const dropping = pages.dropAll(1_000);
  await turn();
  await turn();
  clock.pass();
  await dropping;
  await t.throwsAsync(reading, { message: /the lease ends/ });
  t.deepEqual(lines, ["reads fail so that the kernel can drop its pages before the lease ends"]);
});
