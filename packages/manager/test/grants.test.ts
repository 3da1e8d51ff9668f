import { DazzleError, deferred, LIMITS, NO_REGIONS, type RegionRange } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import type { Journal } from "../src/journal.ts";
import { type GrantPorts, Grants } from "../src/tokens/grants.ts";
import { TokenTable } from "../src/tokens/token-table.ts";

const [HOLDER, OTHER, THIRD] = [1, 2, 3];
const FILES = [64, 128, 192];

/** Mount 1 holds the files; what it did may be unstable, until the journal settles. */
function heldByOne(unstable: boolean, revoke: GrantPorts["revoke"] = async () => NO_REGIONS) {
  const world = new World(1);
  const table = new TokenTable();
  for (const ino of FILES) table.grant(HOLDER, ino, true);
  const listeners: Array<() => void> = [];
  const settled = deferred();
  let stable = 0;
  const becomeStable = () => {
    stable = 1;
    for (const listener of listeners) listener();
    settled.resolve();
  };
  const journal = {
    log: 5,
    appendedSequence: 1,
    get stableSequence() {
      return stable;
    },
    onStable: (listener: () => void) => void listeners.push(listener),
    settle: () => settled.promise,
  };
  const grants = new Grants({
    table,
    journal: journal as unknown as Journal,
    clock: world.spawn("manager").ports.clock,
    limits: LIMITS,
    ports: { revoke, hasUnstable: () => unstable, checkMount: () => {}, checkSlot: () => {} },
  });
  return { world, table, grants, journal, becomeStable };
}

test("of what a holder is asked to share it shares what it says, and only that", async (t) => {
  const { table, grants } = heldByOne(false);
  const before = grants.count;
  const shared = await grants.share(HOLDER, FILES, async (grant) => {
    t.is(grant, before + 1);
    return [64, 192, 999];
  });
  t.deepEqual(shared, [64, 192]);
  t.deepEqual(
    FILES.map((ino) => table.held(HOLDER, ino)),
    ["shared", "exclusive", "shared"],
  );
  t.deepEqual([...grants.acquireFree(OTHER, FILES).granted], [64, 192]);
});

test("what is not stable yet of what a holder shares goes to nobody", async (t) => {
  const { table, grants, becomeStable } = heldByOne(true);
  let over = false;
  const sharing = grants
    .share(HOLDER, FILES, async () => FILES)
    .finally(() => {
      over = true;
    });
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
  t.is(table.held(HOLDER, 64), "shared");
  t.is(grants.acquireFree(OTHER, FILES).granted.size, 0);
  t.false(over);
  becomeStable();
  await sharing;
  t.is(grants.acquireFree(OTHER, FILES).granted.size, 3);
});

test("what was done under a token that came back is stable before another mount gets it, also where the first one that waited for that was turned away", async (t) => {
  const { world, grants, journal, becomeStable } = heldByOne(true);
  const settle = journal.settle;
  journal.settle = async () => {
    throw new DazzleError("unreachable", "storage is silent");
  };
  await t.throwsAsync(async () => grants.acquire(OTHER, 64, true), { code: "unreachable" } as object);
  journal.settle = settle;
  let granted = false;
  const acquired = Promise.resolve(grants.acquire(OTHER, 64, true)).then(() => {
    granted = true;
  });
  await world.advance(100);
  t.false(granted);
  becomeStable();
  await world.run(acquired);
});

test("a holder that was granted a token meanwhile keeps it, though an earlier question is answered later", async (t) => {
  const { table, grants } = heldByOne(false);
  const during = await grants.share(HOLDER, FILES, async () => {
    await grants.acquire(HOLDER, 128, true);
    return [128];
  });
  t.deepEqual(during, []);
  let answerFirst: (shared: readonly number[]) => void = () => {};
  const first = grants.share(HOLDER, FILES, () => new Promise((resolve) => (answerFirst = resolve)));
  t.true((await grants.acquire(HOLDER, 64, true)).exclusive);
  // Another question about the same files changes nothing of that.
  let answerSecond: (shared: readonly number[]) => void = () => {};
  const second = grants.share(HOLDER, [64, 128], () => new Promise((resolve) => (answerSecond = resolve)));
  answerFirst(FILES);
  t.deepEqual(await first, [192]);
  t.is(table.held(HOLDER, 64), "exclusive");
  answerSecond([64]);
  t.deepEqual(await second, [64]);
  t.is(table.held(HOLDER, 64), "shared");
});

test("a holder that does not answer keeps everything, and what went to another mount meanwhile is not the holder's any more", async (t) => {
  const { table, grants } = heldByOne(false);
  await t.throwsAsync(
    grants.share(HOLDER, FILES, () => Promise.reject(new Error("cut off"))),
    { message: "cut off" },
  );
  t.deepEqual(
    FILES.map((ino) => table.held(HOLDER, ino)),
    ["exclusive", "exclusive", "exclusive"],
  );
  const shared = await grants.share(HOLDER, FILES, async () => {
    await grants.acquire(OTHER, 128, true);
    return FILES;
  });
  t.deepEqual(shared, [64, 192]);
  t.is(table.held(OTHER, 128), "exclusive");
  t.is(table.held(HOLDER, 128), undefined);
  table.grant(HOLDER, 256, true);
  t.deepEqual(
    await grants.share(HOLDER, [256], async () => {
      table.dropMount(HOLDER);
      return [256];
    }),
    [],
  );
  t.is(table.held(HOLDER, 256), undefined);
});

test("who waits for a token that does not come back, and is not there any more, holds up nobody who comes behind", async (t) => {
  const asked: string[] = [];
  const { world, grants } = heldByOne(false, ({ mount }, ino, _grant, waiter) => {
    asked.push(`${mount} ${ino}`);
    return waiter.unlessLeft(new Promise<never>(() => {}));
  });
  const gone = [new AbortController(), new AbortController()];
  const waiting = gone.map(async (request) => grants.acquire(OTHER, 64, true, request));
  const behind = (async () => grants.acquire(THIRD, 64, true))();
  await world.advance(1_000);
  t.deepEqual(asked, ["1 64"]);
  for (const request of gone) request.abort();
  for (const one of waiting) await t.throwsAsync(world.run(one), { code: "cancelled" } as object);
  await world.advance(10);
  t.deepEqual(asked, ["1 64", "1 64"]);
  await t.throwsAsync(world.run(behind), { code: "timedOut" } as object);
});

test("a request that was over before it came into line holds up nobody who comes behind", async (t) => {
  let asked = 0;
  const { world, grants } = heldByOne(false, (_conflict, _ino, _grant, waiter) => {
    asked++;
    return waiter.unlessLeft(new Promise<never>(() => {}));
  });
  const request = new AbortController();
  request.abort();
  const over = (async () => grants.acquire(OTHER, 64, true, request))();
  await t.throwsAsync(world.run(over), { code: "cancelled" } as object);
  t.is(asked, 0);
});

test("many that have waited for a token in vain leave together", async (t) => {
  const { world, grants } = heldByOne(false, (_conflict, _ino, _grant, waiter) => waiter.unlessLeft(new Promise<never>(() => {})));
  const waiting = Array.from({ length: 20 }, async (_, at) => grants.acquire(OTHER + at, 64, true));
  for (const one of waiting) await t.throwsAsync(world.run(one), { code: "timedOut" } as object);
  await world.advance(100);
  t.false(grants.isMoving(64));
});

test("a holder that gives a token back when nobody waits for it any more, and gets it again, has it", async (t) => {
  const answer = deferred<RegionRange>();
  const { world, table, grants } = heldByOne(false, () => answer.promise);
  const request = new AbortController();
  const waiting = (async () => grants.acquire(OTHER, 64, true, request))();
  await world.advance(10);
  request.abort();
  answer.resolve(NO_REGIONS);
  await t.throwsAsync(world.run(waiting), { code: "cancelled" } as object);
  await world.advance(10);
  t.is(table.held(HOLDER, 64), "exclusive");
  t.is(table.held(OTHER, 64), undefined);
});
